//! The publisher: a peer that sends a profile's stream on time, in a thread of its own.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use rtc::rtp;

use crate::{
    peer::Peer,
    profile::{Medium, Packet, Profile},
};

/// A running publisher. It stops when dropped.
pub(crate) struct Publisher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

#[derive(Default)]
struct Shared {
    profile: Mutex<Option<Profile>>,
    connected: AtomicBool,
    stop: AtomicBool,
}

impl Publisher {
    /// Starts a peer that has accepted its answer, sending nothing yet, and waits for its connection.
    ///
    /// # Errors
    /// When it does not connect in time.
    pub(crate) fn start(peer: Peer) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("publisher".to_owned())
            .spawn(move || {
                Stream {
                    peer,
                    seq: [0; 2],
                    played: Duration::ZERO,
                }
                .run(&theirs)
            })
            .context("start the publisher")?;
        let publisher = Self {
            shared,
            thread: Some(thread),
        };
        let limit = Instant::now() + Duration::from_secs(10);
        while !publisher.shared.connected.load(Ordering::Acquire) {
            if Instant::now() > limit {
                bail!("the publisher did not connect within 10 s");
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(publisher)
    }

    /// Changes what is sent; `None` sends nothing.
    pub(crate) fn play(&self, profile: Option<Profile>) {
        let mut playing = self
            .shared
            .profile
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *playing = profile;
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Stream {
    peer: Peer,
    /// The next sequence numbers of video and audio.
    seq: [u16; 2],
    /// How much media was sent before the present profile.
    played: Duration,
}

impl Stream {
    fn run(mut self, shared: &Shared) -> anyhow::Result<()> {
        while !shared.stop.load(Ordering::Acquire) {
            let profile = *shared
                .profile
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            match profile {
                Some(profile) => self.play(profile, shared)?,
                None => self.idle_until(Instant::now() + Duration::from_millis(2))?,
            }
            shared
                .connected
                .store(self.peer.is_connected(), Ordering::Release);
        }
        Ok(())
    }

    fn play(&mut self, profile: Profile, shared: &Shared) -> anyhow::Result<()> {
        let start = Instant::now();
        let playing = || {
            *shared
                .profile
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        for slot in 0.. {
            if playing() != Some(profile) || shared.stop.load(Ordering::Acquire) {
                break;
            }
            let keyframe = slot % KEYFRAME_GAP == 0;
            for packet in profile.slot(slot) {
                self.idle_until(start + packet.at)?;
                if keyframe && packet.medium == Medium::Video && packet.index == 0 {
                    self.send(packet, parameter_sets())?;
                }
                self.send(packet, payload(packet, keyframe))?;
            }
        }
        self.played += start.elapsed();
        Ok(())
    }

    fn send(&mut self, packet: Packet, payload: Vec<u8>) -> anyhow::Result<()> {
        let (seq, clock_khz, per_frame) = match packet.medium {
            Medium::Video => (&mut self.seq[0], 90, 3000),
            Medium::Audio => (&mut self.seq[1], 48, 960),
        };
        let before = wrap(self.played.as_millis() * clock_khz);
        let header = rtp::header::Header {
            version: 2,
            marker: packet.medium == Medium::Video && packet.last,
            sequence_number: *seq,
            timestamp: before.wrapping_add(packet.frame.wrapping_mul(per_frame)),
            ..Default::default()
        };
        *seq = seq.wrapping_add(1);
        let payload = payload.into();
        self.peer.publish(
            packet.medium,
            rtp::Packet { header, payload },
            Instant::now(),
        )
    }

    /// Serves the connection until it is time for the next packet.
    fn idle_until(&mut self, until: Instant) -> anyhow::Result<()> {
        let mut buffer = [0; 2048];
        loop {
            let now = Instant::now();
            self.peer.receive(&mut buffer, now)?;
            self.peer.tick(now)?;
            if now >= until {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(2).min(until - now));
        }
    }
}

/// Takes the low bits, as RTP timestamps wrap (RFC 3550 §5.1).
#[expect(clippy::cast_possible_truncation, reason = "wraps on purpose")]
fn wrap(timestamp: u128) -> u32 {
    timestamp as u32
}

/// Returns a STAP-A of a sequence and a picture parameter set (RFC 6184 §5.7.1).
fn parameter_sets() -> Vec<u8> {
    const SPS: [u8; 14] = [
        0x67, 0x42, 0xe0, 0x1f, 0x8c, 0x8d, 0x40, 0x50, 0x1e, 0xd0, 0x0f, 0x08, 0x84, 0x6a,
    ];
    const PPS: [u8; 4] = [0x68, 0xce, 0x3c, 0x80];
    let mut payload = vec![0x78, 0, 14];
    payload.extend(SPS);
    payload.extend([0, 4]);
    payload.extend(PPS);
    payload
}

/// Returns a payload of the packet's length: a fragment of a slice (FU-A, RFC 6184 §5.8), or anything for audio.
fn payload(packet: Packet, keyframe: bool) -> Vec<u8> {
    let mut payload = vec![0x5a; packet.len];
    if let (Medium::Video, [indicator, header, ..]) = (packet.medium, payload.as_mut_slice()) {
        let slice = if keyframe { 5 } else { 1 };
        *indicator = 0x7c;
        *header = slice | u8::from(packet.index == 0) << 7 | u8::from(packet.last) << 6;
    }
    payload
}

/// Frames from one keyframe to the next: a second.
const KEYFRAME_GAP: u32 = 30;
