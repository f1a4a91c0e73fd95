//! What is on air: whether there is picture, when a still stands in for it, and when the broadcast is over.

use std::time::Duration;

use sfu::MediaKind;

/// What outputs have to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Air {
    /// Nothing arrives.
    Off,
    /// Sound, and picture if `video`. A new `epoch` is a new programme: outputs start over.
    On { epoch: u64, video: bool },
}

/// Decides from the packets that arrive and the frames made of them. Times are since the worker's start.
#[derive(Debug)]
pub(crate) struct Program {
    hold: Duration,
    audio_only: bool,
    state: State,
    epochs: u64,
    last_packet: Duration,
    last_sound: Duration,
    last_video: Duration,
    /// When the last still was shown; while set, picture resumes at a keyframe.
    still: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Off,
    Deciding { since: Duration, picture: Picture },
    On { video: bool, since: Duration },
}

/// What has come of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Picture {
    Nothing,
    /// Packets, of which a keyframe may come.
    Packets,
    /// Packets that nothing can be made of.
    Unreadable,
}

impl Program {
    /// `hold` is how long outputs are kept alive while nothing arrives. Without `audio_only`, sound waits for the
    /// picture that may belong to it.
    pub(crate) fn new(hold: Duration, audio_only: bool) -> Self {
        Self {
            hold,
            audio_only,
            state: State::Off,
            epochs: 0,
            last_packet: Duration::ZERO,
            last_sound: Duration::ZERO,
            last_video: Duration::ZERO,
            still: None,
        }
    }

    pub(crate) fn air(&self) -> Air {
        match self.state {
            State::Off | State::Deciding { .. } => Air::Off,
            State::On { video, .. } => Air::On {
                epoch: self.epochs,
                video,
            },
        }
    }

    /// Returns the time at which the programme on air starts.
    pub(crate) fn on_air_since(&self) -> Option<Duration> {
        match self.state {
            State::Off | State::Deciding { .. } => None,
            State::On { since, .. } => Some(since),
        }
    }

    /// Returns whether there is no broadcast, not even one about to go on air.
    pub(crate) fn is_off(&self) -> bool {
        self.state == State::Off
    }

    /// Returns whether nothing is on air because the picture that comes cannot be read.
    pub(crate) fn is_unreadable(&self) -> bool {
        let State::Deciding { picture, .. } = self.state else {
            return false;
        };
        picture == Picture::Unreadable
    }

    /// Returns whether a packet arrived within the last second.
    pub(crate) fn is_receiving(&self, now: Duration) -> bool {
        self.state != State::Off && now < self.last_packet + Duration::from_secs(1)
    }

    /// Returns until when silence stands in for missing sound: closer to the clock where none has come for a while,
    /// because low-latency players wait for it.
    pub(crate) fn sound_until(&self, now: Duration) -> Duration {
        let silent = now >= self.last_sound + SILENT_AFTER;
        now.saturating_sub(if silent { SILENT_LAG } else { LAG })
    }

    /// Takes in that a packet has arrived.
    pub(crate) fn handle_packet(&mut self, kind: MediaKind, now: Duration) {
        self.last_packet = now;
        if kind == MediaKind::Audio {
            self.last_sound = now;
        }
        match (&mut self.state, kind) {
            (State::Off, _) => {
                let picture = match kind {
                    MediaKind::Audio => Picture::Nothing,
                    MediaKind::Video => Picture::Packets,
                };
                self.state = State::Deciding {
                    since: now,
                    picture,
                };
            }
            (State::Deciding { picture, .. }, MediaKind::Video) => *picture = Picture::Packets,
            (State::Deciding { .. }, MediaKind::Audio) | (State::On { .. }, _) => {}
        }
    }

    /// Takes in that a packet has arrived of a picture that cannot be read. What is on air goes on without it; else
    /// sound waits for as long as it comes.
    pub(crate) fn handle_unreadable(&mut self, now: Duration) {
        self.last_packet = now;
        match self.state {
            State::Off | State::Deciding { .. } => {
                self.state = State::Deciding {
                    since: now,
                    picture: Picture::Unreadable,
                };
            }
            State::On { .. } => {}
        }
    }

    /// Takes in a frame and returns whether it is part of the programme.
    pub(crate) fn handle_frame(
        &mut self,
        kind: MediaKind,
        keyframe: bool,
        time: Duration,
        now: Duration,
    ) -> bool {
        match (kind, self.state) {
            (MediaKind::Video, _) if self.audio_only => false,
            (_, State::Off) | (MediaKind::Audio, State::Deciding { .. }) => false,
            (MediaKind::Audio, State::On { .. }) => true,
            (MediaKind::Video, State::Deciding { .. } | State::On { video: false, .. }) => {
                if keyframe {
                    self.start(true, time);
                    self.last_video = now;
                }
                keyframe
            }
            (MediaKind::Video, State::On { video: true, .. }) => {
                // What follows a still does not refer to the picture that the decoder shows.
                if self.still.is_some() && !keyframe {
                    return false;
                }
                self.still = None;
                self.last_video = now;
                true
            }
        }
    }

    /// Does what is due; returns the time of a still to be shown now.
    pub(crate) fn handle_timeout(&mut self, now: Duration) -> Option<Duration> {
        match self.state {
            State::Off => {}
            State::Deciding {
                picture: Picture::Unreadable,
                ..
            } if now >= self.last_packet + GONE_AFTER => self.state = State::Off,
            State::Deciding { since, picture } => {
                let patience = match picture {
                    Picture::Packets | Picture::Unreadable => KEYFRAME_PATIENCE,
                    Picture::Nothing if self.audio_only => Duration::ZERO,
                    Picture::Nothing => VIDEO_PATIENCE,
                };
                if now >= since + patience {
                    self.start(false, now.saturating_sub(LAG));
                }
            }
            State::On { .. } if now >= self.last_packet + self.hold => {
                self.state = State::Off;
                self.still = None;
            }
            State::On { video: true, .. } if now >= self.last_video + STILL_AFTER => {
                if self.still.is_none_or(|shown| now >= shown + STILL_EVERY) {
                    self.still = Some(now);
                    return Some(now.saturating_sub(LAG));
                }
            }
            State::On { .. } => {}
        }
        None
    }

    fn start(&mut self, video: bool, since: Duration) {
        self.epochs += 1;
        self.still = None;
        self.state = State::On { video, since };
    }
}

/// How far what stands in for missing media is behind the clock: real media may still come until then.
const LAG: Duration = Duration::from_millis(600);
/// The same for sound once there is none: what comes first when it is back may lose its beginning.
const SILENT_LAG: Duration = Duration::from_millis(100);
const SILENT_AFTER: Duration = Duration::from_secs(2);

/// A broadcast without picture for this long has none.
const VIDEO_PATIENCE: Duration = Duration::from_millis(1500);
/// Likewise while its picture has arrived without a keyframe.
const KEYFRAME_PATIENCE: Duration = Duration::from_secs(6);
/// Who stops sending what cannot be read has left.
const GONE_AFTER: Duration = Duration::from_millis(2500);
/// Longer than the frame interval of an unchanging screen (1 s), which must not flicker.
const STILL_AFTER: Duration = Duration::from_millis(1500);
const STILL_EVERY: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn on_air() -> Program {
        let mut program = Program::new(ms(10_000), false);
        program.handle_packet(MediaKind::Video, ms(1000));
        assert!(program.handle_frame(MediaKind::Video, true, ms(990), ms(1000)));
        assert_eq!(
            program.air(),
            Air::On {
                epoch: 1,
                video: true
            }
        );
        assert_eq!(program.on_air_since(), Some(ms(990)));
        program
    }

    #[test]
    fn a_broadcast_starts_at_its_first_keyframe() {
        let mut program = Program::new(ms(10_000), false);
        assert!(!program.handle_frame(MediaKind::Audio, true, ms(0), ms(0)));
        program.handle_packet(MediaKind::Audio, ms(0));
        program.handle_packet(MediaKind::Video, ms(10));
        assert!(!program.handle_frame(MediaKind::Audio, true, ms(0), ms(20)));
        assert!(!program.handle_frame(MediaKind::Video, false, ms(10), ms(20)));
        program.handle_timeout(ms(4000));
        assert_eq!(program.air(), Air::Off, "it waits for the keyframe");
        assert!(program.handle_frame(MediaKind::Video, true, ms(4010), ms(4020)));
        assert!(program.handle_frame(MediaKind::Audio, true, ms(4010), ms(4020)));
    }

    #[test]
    fn a_picture_that_cannot_be_read_keeps_sound_off_the_air_until_one_that_can() {
        let mut program = Program::new(ms(10_000), false);
        program.handle_packet(MediaKind::Audio, ms(0));
        for now in (0..20_000).step_by(100) {
            program.handle_unreadable(ms(now));
            program.handle_packet(MediaKind::Audio, ms(now));
            program.handle_timeout(ms(now));
            assert!(program.is_unreadable(), "{now}");
        }
        assert!(program.is_receiving(ms(20_000)));
        program.handle_packet(MediaKind::Video, ms(20_000));
        assert!(!program.is_unreadable());
        assert!(program.handle_frame(MediaKind::Video, true, ms(20_000), ms(20_000)));
        // What is on air goes on without it.
        program.handle_unreadable(ms(21_000));
        assert!(!program.is_unreadable());
        assert_eq!(program.handle_timeout(ms(22_000)), Some(ms(21_400)));
    }

    #[test]
    fn who_leaves_with_a_picture_that_cannot_be_read_leaves_nothing_on_air() {
        let mut program = Program::new(ms(10_000), false);
        program.handle_unreadable(ms(0));
        program.handle_packet(MediaKind::Audio, ms(1000));
        program.handle_timeout(ms(3400));
        assert!(program.is_unreadable());
        program.handle_timeout(ms(3500));
        assert!(program.is_off() && !program.is_unreadable());
        // Who takes the picture away and speaks on is heard.
        program.handle_unreadable(ms(10_000));
        for now in (10_000..=16_000).step_by(100) {
            program.handle_packet(MediaKind::Audio, ms(now));
            assert_eq!(program.air(), Air::Off, "{now}");
            program.handle_timeout(ms(now));
        }
        let on_air = Air::On {
            epoch: 1,
            video: false,
        };
        assert_eq!(program.air(), on_air);
    }

    #[test]
    fn silence_is_close_to_the_clock_where_there_is_no_sound() {
        let mut program = on_air();
        program.handle_packet(MediaKind::Audio, ms(2000));
        for (now, until) in [(2100, 1500), (3999, 3399), (4000, 3900), (9000, 8900)] {
            assert_eq!(program.sound_until(ms(now)), ms(until), "at {now}");
        }
        program.handle_packet(MediaKind::Audio, ms(9100));
        assert_eq!(program.sound_until(ms(9200)), ms(8600));
    }

    #[test]
    fn sound_alone_goes_on_air_and_picture_joins_as_a_new_programme() {
        let mut program = Program::new(ms(10_000), false);
        program.handle_packet(MediaKind::Audio, ms(0));
        program.handle_timeout(ms(1400));
        assert_eq!(program.air(), Air::Off);
        program.handle_timeout(ms(1500));
        assert_eq!(
            program.air(),
            Air::On {
                epoch: 1,
                video: false
            }
        );
        assert!(program.handle_frame(MediaKind::Video, true, ms(2000), ms(2000)));
        assert_eq!(
            program.air(),
            Air::On {
                epoch: 2,
                video: true
            }
        );
    }

    #[test]
    fn sound_that_is_all_there_is_goes_on_air_at_once() {
        let mut program = Program::new(ms(10_000), true);
        program.handle_packet(MediaKind::Audio, ms(1000));
        program.handle_timeout(ms(1000));
        assert_eq!(
            program.air(),
            Air::On {
                epoch: 1,
                video: false
            }
        );
    }

    #[test]
    fn a_still_bridges_missing_picture_until_a_keyframe() {
        let mut program = on_air();
        program.handle_packet(MediaKind::Audio, ms(3000));
        assert_eq!(program.handle_timeout(ms(2400)), None);
        assert_eq!(program.handle_timeout(ms(2500)), Some(ms(1900)));
        assert_eq!(program.handle_timeout(ms(2600)), None);
        assert_eq!(program.handle_timeout(ms(3000)), Some(ms(2400)));
        assert!(!program.handle_frame(MediaKind::Video, false, ms(3000), ms(3000)));
        assert!(program.handle_frame(MediaKind::Video, true, ms(3100), ms(3100)));
        assert!(program.handle_frame(MediaKind::Video, false, ms(3130), ms(3130)));
        assert_eq!(program.handle_timeout(ms(3200)), None);
        assert_eq!(
            program.air(),
            Air::On {
                epoch: 1,
                video: true
            }
        );
    }

    #[test]
    fn a_broadcast_that_stays_away_is_over() {
        let mut program = on_air();
        assert!(program.is_receiving(ms(1900)));
        assert!(!program.is_receiving(ms(2100)));
        program.handle_timeout(ms(10_900));
        assert_eq!(
            program.air(),
            Air::On {
                epoch: 1,
                video: true
            }
        );
        program.handle_timeout(ms(11_000));
        assert_eq!(program.air(), Air::Off);
        program.handle_packet(MediaKind::Video, ms(60_000));
        assert!(program.handle_frame(MediaKind::Video, true, ms(60_000), ms(60_000)));
        assert_eq!(
            program.air(),
            Air::On {
                epoch: 2,
                video: true
            }
        );
    }
}
