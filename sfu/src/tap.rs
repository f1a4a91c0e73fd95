//! A room's media for a non-WebRTC reader.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sfu_core::{MediaKind, TapId};
use tokio::sync::{Notify, mpsc};

use crate::{TapPacket, TapVideo};

/// The packets of a room, at most 2048 waiting. When full, packets are dropped, and the video of that lane
/// resumes at a keyframe (which is asked for). Ends when dropped.
#[derive(Debug)]
pub struct Tap {
    packets: mpsc::Receiver<TapPacket>,
    shared: Arc<Shared>,
}

impl Tap {
    /// Returns the next packet; `None` when the driver has stopped.
    pub async fn recv(&mut self) -> Option<TapPacket> {
        self.packets.recv().await
    }

    /// Asks the publisher for a keyframe; coalesced and paced by the SFU.
    pub fn request_keyframe(&self) {
        self.shared.keyframe_wanted.store(true, Ordering::Release);
        self.shared.wake.notify_one();
    }

    /// Changes how much of the video comes.
    pub fn set_video(&self, video: TapVideo) {
        let mut wanted = self
            .shared
            .video
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *wanted = Some(video);
        self.shared.wake.notify_one();
    }

    /// Changes which simulcast layer comes of each lane: that many below the top, 0 for lanes that are not listed.
    pub fn set_layers(&self, layers: BTreeMap<u32, usize>) {
        let mut wanted = self
            .shared
            .layers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *wanted = Some(layers);
        self.shared.wake.notify_one();
    }

    /// Returns how many packets were dropped because the reader was slow.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.packets.close();
        self.shared.wake.notify_one();
    }
}

/// What a tap and its shard tell each other besides packets.
#[derive(Debug)]
struct Shared {
    dropped: AtomicU64,
    keyframe_wanted: AtomicBool,
    /// What the shard has not heard of yet.
    video: Mutex<Option<TapVideo>>,
    layers: Mutex<Option<BTreeMap<u32, usize>>>,
    wake: Arc<Notify>,
}

/// The shard's ends of all its taps.
#[derive(Debug, Default)]
pub(crate) struct Taps {
    taps: BTreeMap<TapId, Feed>,
    wake: Arc<Notify>,
}

/// What a tap wants of the SFU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// A keyframe.
    Keyframe(TapId),
    /// More or less video.
    Video(TapId, TapVideo),
    /// Other simulcast layers, by lane.
    Layers(TapId, BTreeMap<u32, usize>),
    /// Its end: the reader is gone.
    End(TapId),
}

/// The shard's end of one tap.
#[derive(Debug)]
struct Feed {
    packets: mpsc::Sender<TapPacket>,
    shared: Arc<Shared>,
    /// The lanes whose video is interrupted; no more than the reader was given.
    interrupted: Vec<Interrupted>,
}

/// A lane of which something was dropped: what follows is of no use until the next keyframe. The request goes out
/// when the reader has caught up, so that one that stands still costs the viewers no keyframes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Interrupted {
    lane: u32,
    asked_at: Option<Instant>,
}

impl Taps {
    /// Opens a tap for an id of the SFU.
    pub(crate) fn open(&mut self, id: TapId) -> Tap {
        let (sender, packets) = mpsc::channel(TAP_PACKETS);
        let shared = Arc::new(Shared {
            dropped: AtomicU64::new(0),
            keyframe_wanted: AtomicBool::new(false),
            video: Mutex::default(),
            layers: Mutex::default(),
            wake: Arc::clone(&self.wake),
        });
        let feed = Feed {
            packets: sender,
            shared: Arc::clone(&shared),
            interrupted: Vec::new(),
        };
        self.taps.insert(id, feed);
        Tap { packets, shared }
    }

    /// Waits until [`Taps::wishes`] has something.
    pub(crate) async fn wished(&self) {
        self.wake.notified().await;
    }

    /// Returns what the readers asked for since the last call; ended taps are forgotten.
    pub(crate) fn wishes(&mut self) -> Vec<Wish> {
        let mut wishes = Vec::new();
        self.taps.retain(|id, feed| {
            let ended = feed.packets.is_closed();
            if ended {
                wishes.push(Wish::End(*id));
                return false;
            }
            let video = feed.shared.video.lock();
            if let Some(video) = video.unwrap_or_else(PoisonError::into_inner).take() {
                wishes.push(Wish::Video(*id, video));
            }
            let layers = feed.shared.layers.lock();
            if let Some(layers) = layers.unwrap_or_else(PoisonError::into_inner).take() {
                wishes.push(Wish::Layers(*id, layers));
            }
            if feed.shared.keyframe_wanted.swap(false, Ordering::AcqRel) {
                wishes.push(Wish::Keyframe(*id));
            }
            true
        });
        wishes
    }

    /// Gives a packet to a reader. Returns whether it was taken, and whether a keyframe is to be asked for.
    pub(crate) fn push(&mut self, id: TapId, packet: TapPacket, now: Instant) -> Pushed {
        self.taps
            .get_mut(&id)
            .map_or(Pushed::TAKEN, |feed| feed.push(packet, now))
    }
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pushed {
    /// Whether it was dropped because the reader is slow.
    pub(crate) dropped: bool,
    /// Whether a keyframe is to be asked for.
    pub(crate) ask_keyframe: bool,
}

impl Pushed {
    const TAKEN: Self = Self {
        dropped: false,
        ask_keyframe: false,
    };
}

impl Feed {
    fn push(&mut self, packet: TapPacket, now: Instant) -> Pushed {
        let is_video = packet.codec.kind() == MediaKind::Video;
        let lane = packet.lane;
        let caught_up = self.packets.capacity() >= TAP_PACKETS / 2;
        let mut interrupted = self.interrupted.iter_mut();
        if is_video && let Some(this) = interrupted.find(|i| i.lane == lane) {
            if !(packet.keyframe && caught_up) {
                let due = this.asked_at.is_none_or(|at| now >= at + ASK_AGAIN);
                let ask_keyframe = caught_up && due;
                if ask_keyframe {
                    this.asked_at = Some(now);
                }
                return self.dropped(ask_keyframe);
            }
            self.interrupted.retain(|i| i.lane != lane);
        }
        match self.packets.try_send(packet) {
            // A closed tap is about to be removed by its last wish.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Pushed::TAKEN,
            Err(mpsc::error::TrySendError::Full(_)) => {
                if is_video {
                    let asked_at = None;
                    self.interrupted.push(Interrupted { lane, asked_at });
                }
                self.dropped(false)
            }
        }
    }

    fn dropped(&self, ask_keyframe: bool) -> Pushed {
        self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        Pushed {
            dropped: true,
            ask_keyframe,
        }
    }
}

/// Most packets waiting in one tap: about 3 s of 720p at 2.5 Mb/s with audio, at most 3 MB.
const TAP_PACKETS: usize = 2048;

/// When a keyframe is asked for again if none came.
const ASK_AGAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Codec;
    use bytes::Bytes;

    const ID: TapId = TapId(7);

    #[test]
    fn video_resumes_at_a_keyframe_once_the_reader_caught_up() {
        let now = Instant::now();
        let mut taps = Taps::default();
        let mut tap = taps.open(ID);
        for _ in 0..TAP_PACKETS {
            assert_eq!(taps.push(ID, video(false, now), now), Pushed::TAKEN);
        }
        let full = Pushed {
            dropped: true,
            ask_keyframe: false,
        };
        let asked = Pushed {
            dropped: true,
            ask_keyframe: true,
        };
        assert_eq!(taps.push(ID, video(false, now), now), full);
        assert_eq!(taps.push(ID, video(true, now), now), full, "no room for it");
        for _ in 0..TAP_PACKETS {
            tap.packets.try_recv().unwrap();
        }
        assert_eq!(taps.push(ID, video(false, now), now), asked);
        assert_eq!(taps.push(ID, video(false, now), now), full, "asked already");
        assert_eq!(taps.push(ID, audio(now), now), Pushed::TAKEN);
        assert_eq!(taps.push(ID, video(false, now), now + ASK_AGAIN), asked);
        assert_eq!(taps.push(ID, video(true, now), now), Pushed::TAKEN);
        assert_eq!(taps.push(ID, video(false, now), now), Pushed::TAKEN);
        assert_eq!(tap.dropped(), 5);
    }

    #[tokio::test]
    async fn wishes_wake_the_shard() {
        let mut taps = Taps::default();
        let tap = taps.open(ID);
        tap.request_keyframe();
        tap.request_keyframe();
        taps.wished().await;
        assert_eq!(taps.wishes(), [Wish::Keyframe(ID)]);
        drop(tap);
        taps.wished().await;
        assert_eq!(taps.wishes(), [Wish::End(ID)]);
        assert_eq!(taps.wishes(), []);
    }

    fn video(keyframe: bool, presentation: Instant) -> TapPacket {
        TapPacket {
            lane: 0,
            codec: Codec::H264,
            presentation,
            keyframe,
            rtp: Bytes::from_static(&[0x80]),
        }
    }

    fn audio(presentation: Instant) -> TapPacket {
        TapPacket {
            codec: Codec::Opus,
            ..video(true, presentation)
        }
    }
}
