//! A publisher: sends a clip on time, repairs losses, and starts the clip anew when a keyframe is wanted.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use crate::{
    client::{Event, Feedback, Header, Kind, Offer, sender_report, write_header},
    media::{Clip, Medium, Pacing, Player, Unit},
    peer::Peer,
    sent_frames::{PUBLISHER, SentFrames},
    socket::{Inbox, wall_clock},
    stamp::Stamp,
};

/// A running publisher. It stops when dropped.
pub(crate) struct Publisher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    playing: Mutex<Playing>,
    connected: AtomicBool,
    closed: AtomicBool,
    keyframe_requests: AtomicU64,
    stop: AtomicBool,
}

/// What is to be played, and how often that has changed.
#[derive(Clone, Default)]
struct Playing {
    clip: Option<(Arc<Clip>, Pacing)>,
    changes: u64,
}

impl Publisher {
    /// Makes the offer of a publisher, with its sources.
    pub(crate) fn offer(index: u32) -> Offer {
        let [video, repair, audio] = sources(index);
        Offer {
            publishes: Some([video, repair, audio]),
            transport_cc: true,
            channel: false,
        }
    }

    /// Starts a peer that has accepted its answer, sending nothing yet, and waits for its connection.
    ///
    /// # Errors
    /// When it does not connect in time.
    pub(crate) fn start(
        peer: Peer,
        index: u32,
        sent_frames: Arc<SentFrames>,
    ) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared::default());
        let stream = Stream::new(peer, index, sent_frames, Arc::clone(&shared));
        let thread = thread::Builder::new()
            .name("publisher".to_owned())
            .spawn(move || stream.run())
            .context("start the publisher")?;
        let publisher = Self {
            shared,
            thread: Some(thread),
        };
        let limit = Instant::now() + CONNECT_LIMIT;
        while !publisher.shared.connected.load(Ordering::Acquire) {
            if Instant::now() > limit {
                bail!(
                    "the publisher did not connect within {} s",
                    CONNECT_LIMIT.as_secs()
                );
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(publisher)
    }

    /// Changes what is sent; `None` sends nothing.
    pub(crate) fn play(&self, clip: Option<(Arc<Clip>, Pacing)>) {
        let mut playing = self
            .shared
            .playing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        playing.clip = clip;
        playing.changes += 1;
    }

    /// Returns how many keyframe requests came so far.
    pub(crate) fn keyframe_requests(&self) -> u64 {
        self.shared.keyframe_requests.load(Ordering::Relaxed)
    }

    /// Returns whether the server has ended the session.
    pub(crate) fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Relaxed)
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
    index: u32,
    shared: Arc<Shared>,
    sent_frames: Arc<SentFrames>,
    begun: Instant,
    /// What plays, since when, and the change it came with.
    player: Option<(Player, Instant)>,
    changes: u64,
    video: Sender,
    audio: Sender,
    repair: Sender,
    transport_seq: u16,
    next_report: Instant,
    /// Video packets that may be asked for again: their headers and payloads, not encrypted.
    history: VecDeque<(Header, Vec<u8>)>,
}

/// The state of one RTP stream.
#[derive(Default)]
struct Sender {
    ssrc: u32,
    pt: u8,
    mid: &'static str,
    seq: u16,
    packets: u32,
    bytes: u32,
    timestamp: u32,
}

impl Stream {
    fn new(peer: Peer, index: u32, sent_frames: Arc<SentFrames>, shared: Arc<Shared>) -> Self {
        let [video, repair, audio] = sources(index);
        let sender = |ssrc, pt, mid| Sender {
            ssrc,
            pt,
            mid,
            ..Sender::default()
        };
        let now = Instant::now();
        Self {
            peer,
            index,
            shared,
            sent_frames,
            begun: now,
            player: None,
            changes: 0,
            video: sender(video, Offer::VIDEO, "0"),
            audio: sender(audio, Offer::AUDIO, "1"),
            repair: sender(repair, Offer::REPAIR, "0"),
            transport_seq: 0,
            next_report: now,
            history: VecDeque::with_capacity(HISTORY),
        }
    }

    fn run(mut self) {
        // On Linux, of this thread alone: its time table must not wait for thousands of viewers. Without the
        // right to it, it may.
        let _ = rustix::process::setpriority_process(None, PRIORITY);
        let mut inbox = Inbox::new();
        while !self.shared.stop.load(Ordering::Acquire) {
            self.receive(&mut inbox);
            let now = Instant::now();
            self.peer.tick(now);
            self.change_clip(now);
            let wake_at = self.send_due();
            self.report(now);
            let nap = wake_at.saturating_duration_since(Instant::now());
            thread::sleep(nap.min(LONGEST_NAP));
        }
        self.peer.close();
    }

    fn receive(&mut self, inbox: &mut Inbox) {
        let now = Instant::now();
        let mut wanted = Vec::new();
        loop {
            let Some(socket) = self.peer.socket() else {
                return;
            };
            let more = inbox.receive(socket).unwrap_or(false);
            for datagram in inbox.datagrams() {
                match self.peer.handle(datagram.bytes, datagram.source, now) {
                    Some(Event::Connected) => self.shared.connected.store(true, Ordering::Release),
                    Some(Event::Closed) => self.shared.closed.store(true, Ordering::Relaxed),
                    Some(Event::Feedback(feedback)) => wanted.extend(feedback),
                    None => {}
                }
            }
            if !more {
                break;
            }
        }
        for feedback in wanted {
            match feedback {
                Feedback::Keyframe => {
                    self.shared
                        .keyframe_requests
                        .fetch_add(1, Ordering::Relaxed);
                    if let Some((player, since)) = &mut self.player {
                        player.request_keyframe(now.saturating_duration_since(*since));
                    }
                }
                Feedback::Nack { ssrc, seqs } if ssrc == self.video.ssrc => {
                    for seq in seqs {
                        self.repair(seq);
                    }
                }
                Feedback::Nack { .. } | Feedback::SenderReport { .. } => {}
            }
        }
    }

    fn change_clip(&mut self, now: Instant) {
        let playing = {
            let playing = self
                .shared
                .playing
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if playing.changes == self.changes {
                return;
            }
            playing.clone()
        };
        self.changes = playing.changes;
        self.player = playing
            .clip
            .map(|(clip, pacing)| (Player::new(clip, pacing), now));
    }

    /// Sends what is due. Returns when there is more.
    fn send_due(&mut self) -> Instant {
        loop {
            let now = Instant::now();
            let Some((player, since)) = &mut self.player else {
                return now + LONGEST_NAP;
            };
            let since = *since;
            match player.poll(now.saturating_duration_since(since)) {
                Some(unit) => self.send(unit, since),
                None => return since + player.next_at(),
            }
        }
    }

    fn send(&mut self, unit: Unit, since: Instant) {
        let offset = since.saturating_duration_since(self.begun).as_millis();
        let (sender, clock_khz) = match unit.medium {
            Medium::Video => (&mut self.video, 90),
            Medium::Audio => (&mut self.audio, 48),
        };
        sender.timestamp = unit.timestamp.wrapping_add(wrap(offset * clock_khz));
        let header = sender.next(unit.marker, unit.payload.len());
        let mid = sender.mid;
        let mut payload = unit.payload;
        if unit.medium == Medium::Video {
            // The publisher's number makes frames of several publishers different.
            let frame = unit.frame & ((1 << PUBLISHER) - 1) | self.index << PUBLISHER;
            if let Some(stamp) = Stamp::find(&payload) {
                let sent = wall_clock();
                Stamp {
                    sent,
                    frame,
                    ..stamp
                }
                .write_over(&mut payload);
            }
            if unit.marker {
                self.sent_frames.set(frame, wall_clock());
            }
        }
        self.transmit(&header, mid, &payload);
        if unit.medium == Medium::Video {
            if self.history.len() >= HISTORY {
                self.history.pop_front();
            }
            self.history.push_back((header, payload));
        }
    }

    /// Sends a packet again (RFC 4588), or as it was where that was not agreed on.
    fn repair(&mut self, seq: u16) {
        let found = self.history.iter().find(|(header, _)| header.seq == seq);
        let Some((header, payload)) = found.cloned() else {
            return;
        };
        let mid = self.video.mid;
        if !self
            .peer
            .answer
            .payloads
            .iter()
            .any(|(_, kind)| *kind == Kind::Repair)
        {
            self.transmit(&header, mid, &payload);
            return;
        }
        self.repair.timestamp = header.timestamp;
        let repaired = self.repair.next(header.marker, payload.len() + 2);
        let mut body = seq.to_be_bytes().to_vec();
        body.extend(payload);
        self.transmit(&repaired, mid, &body);
    }

    fn transmit(&mut self, header: &Header, mid: &str, payload: &[u8]) {
        let mut packet = Vec::with_capacity(1300);
        let seq = self.transport_seq.to_be_bytes();
        let mut extensions: Vec<(u8, &[u8])> = Vec::new();
        if let Some(id) = self.peer.answer.mid {
            extensions.push((id, mid.as_bytes()));
        }
        if let Some(id) = self.peer.answer.transport_cc {
            self.transport_seq = self.transport_seq.wrapping_add(1);
            extensions.push((id, &seq));
        }
        write_header(header, &extensions, &mut packet);
        packet.extend_from_slice(payload);
        if let Some(sealed) = self.peer.transport.seal_rtp(&packet) {
            self.peer.send(&sealed);
        }
    }

    /// Sends sender reports, once a second.
    fn report(&mut self, now: Instant) {
        if now < self.next_report || self.player.is_none() {
            return;
        }
        self.next_report = now + Duration::from_secs(1);
        for sender in [&self.video, &self.audio] {
            if sender.packets > 0 {
                let sent = (sender.packets, sender.bytes);
                let report = sender_report(sender.ssrc, wall_clock(), sender.timestamp, sent);
                self.peer.transport.send_rtcp(&report);
            }
        }
        self.peer.flush();
    }
}

impl Sender {
    fn next(&mut self, marker: bool, len: usize) -> Header {
        let seq = self.seq;
        self.seq = seq.wrapping_add(1);
        self.packets = self.packets.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(u32::try_from(len).unwrap_or(0));
        Header {
            pt: self.pt,
            marker,
            seq,
            timestamp: self.timestamp,
            ssrc: self.ssrc,
            len: 0,
            extension: None,
        }
    }
}

/// Returns the sources of a publisher: video, its repair, audio.
fn sources(index: u32) -> [u32; 3] {
    [1, 2, 3].map(|stream| 0x0010_0000 + index * 16 + stream)
}

/// Takes the low bits, as RTP timestamps wrap (RFC 3550 §5.1).
#[expect(clippy::cast_possible_truncation, reason = "wraps on purpose")]
fn wrap(timestamp: u128) -> u32 {
    timestamp as u32
}

const CONNECT_LIMIT: Duration = Duration::from_secs(10);
const LONGEST_NAP: Duration = Duration::from_millis(1);

/// As `nice`.
const PRIORITY: i32 = -15;

/// Two seconds of video.
const HISTORY: usize = 1024;
