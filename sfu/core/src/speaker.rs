//! Who speaks: loudness by the audio level that publishers send, and who has the floor.

use std::time::{Duration, Instant};

use crate::ParticipantId;

/// How loud one audio publication is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Voice {
    /// Thousandths of a decibel above -127 dBov, smoothed.
    loudness: u32,
    heard: Option<Instant>,
    spoke: Option<Instant>,
    /// When it began to speak, breaks included.
    began: Option<Instant>,
}

impl Voice {
    /// Takes the level of a packet (RFC 6464 §3): 0 is the loudest, 127 silence, in -dBov. The uppermost bit,
    /// which says whether it is voice, is not looked at: not every browser sets it.
    pub(crate) fn hear(&mut self, level: u8, now: Instant) {
        let target = u32::from(SILENCE - (level & SILENCE)) * 1000;
        let gap = self.heard.map(|at| now.saturating_duration_since(at));
        let gap = gap.unwrap_or(Duration::ZERO);
        // Nothing is sent during silence (DTX).
        if gap >= PAUSE {
            self.loudness = 0;
        }
        let time = if target > self.loudness { RISE } else { FALL };
        let elapsed = gap.clamp(Duration::from_millis(1), PAUSE);
        let step = i64::from(target) - i64::from(self.loudness);
        let step = step * millis(elapsed) / (millis(elapsed) + millis(time));
        let loudness = i64::from(self.loudness) + step;
        self.loudness = u32::try_from(loudness).unwrap_or_default();
        self.heard = Some(now);
        if self.loudness >= SPEECH {
            if !self.is_speaking(now) {
                self.began = Some(now);
            }
            self.spoke = Some(now);
        }
    }

    /// Returns the loudness; 0 when nothing was heard lately.
    pub(crate) fn loudness(&self, now: Instant) -> u32 {
        let lately = |at: Instant| now.saturating_duration_since(at) < PAUSE;
        if self.heard.is_some_and(lately) {
            self.loudness
        } else {
            0
        }
    }

    /// Returns when it was last loud enough for speech.
    pub(crate) fn spoke(&self) -> Option<Instant> {
        self.spoke
    }

    /// Returns whether it speaks, short breaks included.
    pub(crate) fn is_speaking(&self, now: Instant) -> bool {
        self.spoke
            .is_some_and(|at| now.saturating_duration_since(at) < BREAK)
    }

    /// Returns whether what it last said was more than a word.
    pub(crate) fn holds_forth(&self) -> bool {
        let length = self.spoke.zip(self.began);
        length.is_some_and(|(spoke, began)| spoke.saturating_duration_since(began) >= WORD)
    }

    /// Returns whether it is to be preferred to another one, which is heard already.
    pub(crate) fn displaces(&self, other: &Self, now: Instant) -> bool {
        let louder = self.loudness(now) >= other.loudness(now) + MARGIN;
        self.is_speaking(now) && (louder || !other.is_speaking(now))
    }
}

/// Who is in the picture as long as nobody else speaks for a while.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Floor {
    holder: Option<(ParticipantId, Instant)>,
    challenger: Option<(ParticipantId, Instant)>,
}

impl Floor {
    /// Returns who has the floor.
    pub(crate) fn holder(&self) -> Option<ParticipantId> {
        self.holder.map(|(holder, _)| holder)
    }

    /// Gives the floor away at once.
    pub(crate) fn give(&mut self, to: Option<ParticipantId>, now: Instant) {
        if to != self.holder() {
            self.holder = to.map(|to| (to, now));
            self.challenger = None;
        }
    }

    /// Somebody displaces the holder in loudness, or nobody. The floor is taken by who does so for
    /// [`CHALLENGE`], and not before the holder had it for [`HOLD`].
    pub(crate) fn challenge(&mut self, by: Option<ParticipantId>, now: Instant) {
        let Some(by) = by else {
            self.challenger = None;
            return;
        };
        let since = match self.challenger {
            Some((challenger, since)) if challenger == by => since,
            Some(_) | None => now,
        };
        self.challenger = Some((by, since));
        let held = self.holder.is_none_or(|(_, at)| now >= at + HOLD);
        if held && now >= since + CHALLENGE {
            self.give(Some(by), now);
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The level of silence.
const SILENCE: u8 = 127;

/// Speech is louder than -50 dBov, rooms and fans are not.
const SPEECH: u32 = (127 - 50) * 1000;

/// How much louder than who is heard somebody must be to displace them.
const MARGIN: u32 = 6000;

/// Time constants of the smoothing: a syllable is noticed, a cough is not.
const RISE: Duration = Duration::from_millis(60);
const FALL: Duration = Duration::from_millis(300);

/// Without packets for this long there is silence.
const PAUSE: Duration = Duration::from_millis(200);

/// Speech goes on over breaks of this length.
const BREAK: Duration = Duration::from_millis(700);

/// A cough or a yes is shorter.
const WORD: Duration = Duration::from_millis(400);

/// How long somebody must be the loudest to get the floor, and how long everybody keeps it.
const CHALLENGE: Duration = Duration::from_millis(500);
const HOLD: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn speak(voice: &mut Voice, level: u8, from: Instant, length: u64) {
        for at in (0..length).step_by(20) {
            voice.hear(level, from + ms(at));
        }
    }

    #[test]
    fn speech_is_noticed_quickly_and_a_click_is_not() {
        let t0 = Instant::now();
        let cases = [
            ("speech", 20, 160, true),
            ("loud speech", 0x80 | 5, 100, true),
            ("a click", 20, 40, false),
            ("a fan", 60, 2000, false),
            ("silence", 127, 2000, false),
        ];
        for (label, level, length, expected) in cases {
            let mut voice = Voice::default();
            speak(&mut voice, 127, t0, 200);
            speak(&mut voice, level, t0 + ms(200), length);
            let now = t0 + ms(200 + length);
            assert_eq!(voice.is_speaking(now), expected, "{label}: {voice:?}");
            assert!(!voice.holds_forth(), "{label}");
        }
    }

    #[test]
    fn whoever_stops_sending_is_silent() {
        let t0 = Instant::now();
        let (mut one, mut other) = (Voice::default(), Voice::default());
        speak(&mut one, 10, t0, 1000);
        speak(&mut other, 30, t0, 1900);
        assert!(!other.displaces(&one, t0 + ms(1000)), "quieter");
        assert!(one.displaces(&other, t0 + ms(1000)));
        assert!(other.displaces(&one, t0 + ms(1900)), "alone");
        assert_eq!(one.loudness(t0 + ms(1900)), 0);
    }

    #[test]
    fn the_floor_is_kept_for_a_while_and_not_taken_by_a_word() {
        let t0 = Instant::now();
        let [a, b] = [1, 2].map(ParticipantId);
        let mut floor = Floor::default();
        floor.give(Some(a), t0);
        for at in (0..2000).step_by(100) {
            floor.challenge(Some(b), t0 + ms(at));
            assert_eq!(floor.holder(), Some(a), "{at}");
        }
        floor.challenge(Some(b), t0 + ms(2000));
        assert_eq!(floor.holder(), Some(b));
        floor.challenge(Some(a), t0 + ms(5000));
        floor.challenge(None, t0 + ms(5300));
        floor.challenge(Some(a), t0 + ms(5400));
        assert_eq!(floor.holder(), Some(b), "interrupted");
        floor.challenge(Some(a), t0 + ms(5900));
        assert_eq!(floor.holder(), Some(a));
    }
}
