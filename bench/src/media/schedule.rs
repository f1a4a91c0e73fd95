//! When which packets of a clip leave, for a sender that knows nothing of media.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Clip, Pacing, Player};

/// The packets of a clip: when each is due, and the length of its payload. Repeated at its end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Schedule {
    packets: Vec<(Duration, usize)>,
    length: Duration,
}

impl Schedule {
    /// Plays a clip once, in no time.
    pub(crate) fn of(clip: &Arc<Clip>, pacing: Pacing) -> Self {
        let length = clip.duration();
        let mut player = Player::new(Arc::clone(clip), pacing);
        let mut packets = Vec::new();
        while player.next_at() < length {
            let now = player.next_at();
            while let Some(unit) = player.poll(now) {
                packets.push((unit.at, unit.payload.len()));
            }
        }
        Self { packets, length }
    }

    /// Returns the lengths of what is due at the same time, in order of time, forever.
    pub(crate) fn groups(&self) -> impl Iterator<Item = (Duration, Vec<usize>)> {
        (0..).flat_map(move |round: u32| {
            let start = self.length * round;
            let groups = self.packets.chunk_by(|a, b| a.0 == b.0);
            groups.filter_map(move |group| {
                let (at, _) = group.first()?;
                Some((start + *at, group.iter().map(|(_, len)| *len).collect()))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_are_groups() {
        let schedule = Schedule::of(&Arc::new(Clip::synthetic()), Pacing::Bursts);
        let groups: Vec<_> = schedule.groups().take(61).collect();
        assert_eq!(groups[1], (Clip::FRAME, vec![1100; 10]));
        assert_eq!(groups[60].0, schedule.length, "the next round");
        let spread = Schedule::of(&Arc::new(Clip::synthetic()), Pacing::Browser);
        assert!(spread.groups().take(300).all(|(_, lens)| lens.len() == 1));
    }
}
