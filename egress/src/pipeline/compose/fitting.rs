//! Which simulcast layer of each picture is worth decoding: the smallest one that fills its place. Pure.

use std::{collections::BTreeMap, time::Duration};

/// Follows how large the pictures are that come, and how large they are shown.
#[derive(Debug, Default)]
pub(crate) struct Fitting {
    lanes: BTreeMap<u32, Lane>,
}

/// How large a lane is shown, and the picture that comes in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) lane: u32,
    pub(crate) place: (u32, u32),
    pub(crate) picture: Option<(u32, u32)>,
}

#[derive(Debug)]
struct Lane {
    place: (u32, u32),
    /// The size of the picture that was last decided about.
    decided: Option<(u32, u32)>,
    below_top: usize,
    /// Layers further down turned out to be too small; until when that is believed.
    limit: Option<(usize, Duration)>,
}

impl Fitting {
    /// Takes in where lanes are shown, and the pictures that come in them. Returns how many layers below the top each
    /// lane is to be, if that has changed.
    pub(crate) fn look(
        &mut self,
        extents: &[Extent],
        now: Duration,
    ) -> Option<BTreeMap<u32, usize>> {
        let before = self.wanted();
        // Those who are not shown at the moment keep what they have: so they come back without a change.
        for extent in extents {
            let Extent { lane, place, .. } = *extent;
            let lane = self.lanes.entry(lane).or_insert(Lane::new(place));
            lane.look(place, extent.picture, now);
        }
        if self.lanes.len() > LANES {
            self.lanes
                .retain(|lane, _| extents.iter().any(|extent| extent.lane == *lane));
        }
        let wanted = self.wanted();
        (wanted != before).then_some(wanted)
    }

    fn wanted(&self) -> BTreeMap<u32, usize> {
        let lanes = self.lanes.iter();
        let lower = lanes.filter(|(_, lane)| lane.below_top > 0);
        lower.map(|(id, lane)| (*id, lane.below_top)).collect()
    }
}

impl Lane {
    fn new(place: (u32, u32)) -> Self {
        Self {
            place,
            decided: None,
            below_top: 0,
            limit: None,
        }
    }

    fn look(&mut self, place: (u32, u32), size: Option<(u32, u32)>, now: Duration) {
        if place != self.place {
            self.place = place;
            self.decided = None;
            self.limit = None;
        }
        if self.limit.is_some_and(|(_, until)| now >= until) {
            self.limit = None;
            self.decided = None;
        }
        let Some(size) = size.filter(|size| self.decided != Some(*size)) else {
            return;
        };
        self.decided = Some(size);
        if is_too_small(size, place) {
            if self.below_top > 0 {
                self.below_top -= 1;
                self.limit = Some((self.below_top, now + BELIEVED));
            }
            return;
        }
        let mut half = (size.0 / 2, size.1 / 2);
        let mut below_top = self.below_top;
        while below_top < DEEPEST && !is_too_small(half, place) {
            half = (half.0 / 2, half.1 / 2);
            below_top += 1;
        }
        let limit = self.limit.map_or(DEEPEST, |(limit, _)| limit);
        self.below_top = below_top.min(limit.max(self.below_top));
    }
}

/// Returns whether a picture would have to be enlarged visibly. It is fitted, so one edge decides.
fn is_too_small((width, height): (u32, u32), (place_width, place_height): (u32, u32)) -> bool {
    let short = |edge: u32, place: u32| u64::from(edge) * 100 < u64::from(place) * ENOUGH_PERCENT;
    short(width, place_width) && short(height, place_height)
}

/// A picture enlarged by less than this is as good.
const ENOUGH_PERCENT: u64 = 90;
/// A room's publishers send no more layers than these below the top.
const DEEPEST: usize = 3;
/// Layers are not always half as large as the next one, and a sender in need leaves out the largest.
const BELIEVED: Duration = Duration::from_secs(60);
/// More than this are not remembered once they are not shown.
const LANES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    struct Sender {
        fitting: Fitting,
        /// The heights of the layers, the largest first; 16:9.
        layers: Vec<u32>,
        below_top: usize,
        now: Duration,
        changes: usize,
    }

    impl Sender {
        fn new(layers: &[u32]) -> Self {
            Self {
                fitting: Fitting::default(),
                layers: layers.to_vec(),
                below_top: 0,
                now: Duration::ZERO,
                changes: 0,
            }
        }

        /// Shows it for so long; returns the height that it sends in the end.
        fn show(&mut self, height: u32, seconds: u64) -> u32 {
            let place = (height * 16 / 9, height);
            for _ in 0..seconds * 20 {
                self.now += Duration::from_millis(50);
                let height = self.sends();
                let extent = Extent {
                    lane: 1,
                    place,
                    picture: Some((height * 16 / 9, height)),
                };
                if let Some(wanted) = self.fitting.look(&[extent], self.now) {
                    self.below_top = wanted.get(&1).copied().unwrap_or(0);
                    self.changes += 1;
                }
            }
            self.sends()
        }

        fn sends(&self) -> u32 {
            self.layers[self.below_top.min(self.layers.len() - 1)]
        }
    }

    #[test]
    fn the_smallest_layer_that_fills_the_place_is_chosen() {
        let table: [(&str, &[u32], u32, u32); 8] = [
            ("the whole canvas", &[720, 360, 180], 720, 720),
            ("half of it", &[720, 360, 180], 352, 360),
            ("a little more than a layer", &[720, 360, 180], 390, 360),
            ("clearly more than a layer", &[720, 360, 180], 420, 720),
            ("a small one", &[720, 360, 180], 160, 180),
            ("larger than all", &[360, 180], 1080, 360),
            ("no layers", &[720], 160, 720),
            ("layers that are no halves", &[1080, 270], 500, 1080),
        ];
        for (label, layers, place, expected) in table {
            let mut sender = Sender::new(layers);
            assert_eq!(sender.show(place, 2), expected, "{label}");
            assert_eq!(sender.show(place, 20), expected, "{label}, and stays");
            assert!(sender.changes <= 2, "{label}: {} changes", sender.changes);
        }
    }

    #[test]
    fn another_place_is_another_choice() {
        let mut sender = Sender::new(&[720, 360, 180]);
        for (place, expected) in [(352, 360), (720, 720), (160, 180), (352, 360)] {
            assert_eq!(sender.show(place, 2), expected);
        }
    }

    #[test]
    fn a_sender_in_need_gets_back_to_what_it_had() {
        let mut sender = Sender::new(&[720, 360, 180]);
        sender.show(352, 2);
        sender.layers = vec![180];
        sender.show(352, 5);
        sender.layers = vec![720, 360, 180];
        assert_eq!(sender.show(352, 120), 360);
    }
}
