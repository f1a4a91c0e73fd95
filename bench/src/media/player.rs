//! Plays a clip: which payload leaves when. Time is counted from the start of the player.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Clip, packetizer::packetize};
use crate::stamp::Stamp;

/// Which stream a packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Medium {
    /// Opus.
    Audio,
    /// H264.
    Video,
}

/// How the packets of a frame leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Pacing {
    /// Spread, as Chromium does: at 2.5 times the bitrate.
    Browser,
    /// All at once.
    Bursts,
}

/// One RTP payload, due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    /// When it is due.
    pub(crate) at: Duration,
    /// What it is.
    pub(crate) medium: Medium,
    /// The RTP timestamp.
    pub(crate) timestamp: u32,
    /// Whether it ends a video frame.
    pub(crate) marker: bool,
    /// The number of its video frame.
    pub(crate) frame: u32,
    /// The payload.
    pub(crate) payload: Vec<u8>,
}

/// Plays a clip again and again, from its keyframe.
#[derive(Debug)]
pub(crate) struct Player {
    clip: Arc<Clip>,
    pacing: Pacing,
    /// Packets of frames that are being sent.
    waiting: VecDeque<Unit>,
    /// The next frame: its place in the clip, its number, its time.
    place: usize,
    number: u32,
    frame_at: Duration,
    /// When the pacer has sent everything so far.
    paced_until: Duration,
    sounds: u32,
    /// When the clip was last at its keyframe.
    keyframe_at: Option<Duration>,
    keyframe_wanted: bool,
}

impl Player {
    /// Starts a clip at time zero.
    pub(crate) fn new(clip: Arc<Clip>, pacing: Pacing) -> Self {
        Self {
            clip,
            pacing,
            waiting: VecDeque::new(),
            place: 0,
            number: 0,
            frame_at: Duration::ZERO,
            paced_until: Duration::ZERO,
            sounds: 0,
            keyframe_at: None,
            keyframe_wanted: false,
        }
    }

    /// Asks for a keyframe. As Chromium does, it ignores requests within 300 ms of the last one.
    pub(crate) fn request_keyframe(&mut self, now: Duration) {
        self.keyframe_wanted |= self.keyframe_at.is_none_or(|at| now >= at + KEYFRAME_GAP);
    }

    /// Returns when [`Player::poll`] has something.
    pub(crate) fn next_at(&self) -> Duration {
        let video = self.waiting.front().map_or(self.frame_at, |unit| unit.at);
        video.min(self.sound_at())
    }

    /// Returns the next payload that is due, in order of time.
    pub(crate) fn poll(&mut self, now: Duration) -> Option<Unit> {
        while self.frame_at <= now {
            self.start_frame();
        }
        let video_at = self.waiting.front().map_or(Duration::MAX, |unit| unit.at);
        let sound_at = self.sound_at();
        if sound_at <= now && sound_at <= video_at {
            return self.sound(sound_at);
        }
        (video_at <= now)
            .then(|| self.waiting.pop_front())
            .flatten()
    }

    fn sound_at(&self) -> Duration {
        if self.clip.audio.is_empty() {
            return Duration::MAX;
        }
        Clip::SOUND * self.sounds
    }

    fn sound(&mut self, at: Duration) -> Option<Unit> {
        let number = self.sounds;
        self.sounds += 1;
        let payload = self.clip.audio.get(number as usize % self.clip.audio.len());
        Some(Unit {
            at,
            medium: Medium::Audio,
            timestamp: number.wrapping_mul(960),
            marker: number == 0,
            frame: 0,
            payload: payload?.clone(),
        })
    }

    fn start_frame(&mut self) {
        if std::mem::take(&mut self.keyframe_wanted) || self.place >= self.clip.video.len() {
            self.place = 0;
        }
        let at = self.frame_at;
        let number = self.number;
        self.number = self.number.wrapping_add(1);
        self.frame_at += Clip::FRAME;
        let Some(frame) = self.clip.video.get(self.place) else {
            return;
        };
        self.place += 1;
        if frame.is_key {
            self.keyframe_at = Some(at);
        }
        let stamp = Stamp {
            sent: 0,
            frame: number,
            is_key: frame.is_key,
        };
        let is_stamped = frame.is_key || number.wrapping_add(1).is_multiple_of(self.clip.stamp_gap);
        let stamp = is_stamped.then(|| stamp.to_nal());
        let payloads = packetize(frame, stamp.as_deref());
        let count = payloads.len();
        let mut due = self.paced_until.max(at);
        for (index, payload) in (1..).zip(payloads) {
            let gap = self.gap(payload.len());
            self.waiting.push_back(Unit {
                at: due,
                medium: Medium::Video,
                timestamp: number.wrapping_mul(3000),
                marker: index == count,
                frame: number,
                payload,
            });
            due += gap;
        }
        self.paced_until = due;
    }

    /// Returns how long the pacer takes for a payload.
    fn gap(&self, len: usize) -> Duration {
        match self.pacing {
            Pacing::Browser => {
                let bits = len as u64 * 8;
                Duration::from_nanos(bits * 1_000_000_000 * 2 / (self.clip.bitrate * 5).max(1))
            }
            Pacing::Bursts => Duration::ZERO,
        }
    }
}

const KEYFRAME_GAP: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn synthetic_bursts_have_even_packets() {
        let mut player = Player::new(Arc::new(Clip::synthetic()), Pacing::Bursts);
        let units = play(&mut player, Duration::from_millis(999));
        let even = units
            .iter()
            .filter(|unit| unit.payload.len() == 1100)
            .count();
        assert_eq!((units.len(), even), (301, 300));
        assert_eq!(units.iter().filter(|unit| unit.marker).count(), 30);
        assert!(units.iter().all(|unit| unit.at == Clip::FRAME * unit.frame));
    }

    #[test]
    fn a_browser_spreads_a_frame() {
        let mut player = Player::new(Arc::new(Clip::synthetic()), Pacing::Browser);
        let units = play(&mut player, Duration::from_secs(2));
        assert!(units.is_sorted_by_key(|unit| unit.at));
        let frame: Vec<&Unit> = units.iter().filter(|unit| unit.frame == 7).collect();
        let spread = frame[9].at - frame[0].at;
        assert!((Duration::from_millis(11)..Duration::from_millis(13)).contains(&spread));
    }

    #[test]
    fn keyframes_come_when_asked_for_but_not_too_often() {
        let mut player = Player::new(Arc::new(Clip::synthetic()), Pacing::Bursts);
        let ms = Duration::from_millis;
        let mut keys = Vec::new();
        for now in 0..3000 {
            if [100, 500, 600].contains(&now) {
                player.request_keyframe(ms(now));
            }
            while let Some(unit) = player.poll(ms(now)) {
                let stamp = Stamp::find(&unit.payload);
                keys.extend(
                    stamp
                        .is_some_and(|stamp| stamp.is_key)
                        .then_some(unit.frame),
                );
            }
        }
        // The one at 100 ms is ignored; at 600 ms too; then the clip's end.
        assert_eq!(keys, [0, 15, 75]);
    }

    fn play(player: &mut Player, until: Duration) -> Vec<Unit> {
        let mut units = Vec::new();
        while player.next_at() <= until {
            let now = player.next_at();
            units.extend(std::iter::from_fn(|| player.poll(now)));
        }
        units
    }
}
