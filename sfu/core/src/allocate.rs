//! Bandwidth -> layers: a pure function, and the only place where layers are chosen.

use crate::ladder::Rung;

/// What one slot would like to show.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Want<'a> {
    /// The qualities there are, the lowest first.
    pub(crate) ladder: &'a [Rung],
    /// The position of the quality that is shown.
    pub(crate) current: Option<usize>,
    /// Whether more than that may be chosen.
    pub(crate) may_climb: bool,
}

impl Want<'_> {
    /// Returns what a quality takes on the wire, beyond the one below it.
    fn step(&self, position: usize) -> Option<u64> {
        let below = position
            .checked_sub(1)
            .and_then(|below| self.ladder.get(below));
        let rung = self.ladder.get(position)?;
        let step = rung
            .bitrate
            .saturating_sub(below.map_or(0, |rung| rung.bitrate));
        Some(on_wire(step))
    }

    /// Returns what has to be left for a quality: its step, and a margin if it is to be climbed to. What is
    /// shown and nearly fits is kept when the alternative is no picture.
    fn needs(&self, position: usize) -> Option<u64> {
        let step = self.step(position)?;
        let is_shown = self.current.is_some_and(|current| position <= current);
        match is_shown {
            true if position == 0 => Some(step * LAST_RESORT / 100),
            true => Some(step),
            false if self.may_climb || position == 0 => Some(step * MARGIN / 100),
            false => None,
        }
    }
}

/// Chooses a quality for each want, `None` meaning paused. `wants` are in order of priority. Breadth before
/// depth: no second quality while another has none.
pub(crate) fn allocate(mut left: u64, wants: &[Want<'_>]) -> Vec<Option<usize>> {
    let mut chosen = vec![None; wants.len()];
    let highest = wants.iter().map(|want| want.ladder.len()).max();
    for position in 0..highest.unwrap_or_default() {
        for (present, want) in chosen.iter_mut().zip(wants) {
            let stands_below = *present == position.checked_sub(1);
            let (Some(step), Some(needs)) = (want.step(position), want.needs(position)) else {
                continue;
            };
            if stands_below && needs <= left {
                *present = Some(position);
                left = left.saturating_sub(step);
            }
        }
    }
    chosen
}

/// Returns what media of a bitrate takes with the headers of all layers: 64 bytes for every 1100.
pub(crate) fn on_wire(bitrate: u64) -> u64 {
    bitrate + bitrate / 17
}

/// Per cent of a step that must be left before it is climbed.
pub(crate) const MARGIN: u64 = 110;

/// Per cent of the lowest quality that must be there to go on showing it.
const LAST_RESORT: u64 = 75;

#[cfg(test)]
mod tests {
    use super::*;

    fn ladder(bitrates: &[u64]) -> Vec<Rung> {
        let rungs = (0..).zip(bitrates);
        rungs
            .map(|(layer, kbps)| Rung::whole(layer, kbps * 1000))
            .collect()
    }

    #[test]
    fn rungs_fit_the_budget_in_order_of_priority() {
        let three = ladder(&[150, 500, 2000]);
        let one = ladder(&[1000]);
        type Shown = Option<usize>;
        type Case<'a> = (&'a str, u64, &'a [(&'a [Rung], Shown)], &'a [Shown]);
        let cases: &[Case<'_>] = &[
            ("nothing fits", 100, &[(&three, None)], &[None]),
            ("the lowest", 200, &[(&three, None)], &[Some(0)]),
            ("the top", 2500, &[(&three, None)], &[Some(2)]),
            (
                "climbing needs a margin",
                2150,
                &[(&three, Some(1))],
                &[Some(1)],
            ),
            ("staying does not", 2150, &[(&three, Some(2))], &[Some(2)]),
            (
                "descent is immediate",
                2000,
                &[(&three, Some(2))],
                &[Some(1)],
            ),
            ("the last resort", 850, &[(&one, Some(0))], &[Some(0)]),
            ("and its end", 750, &[(&one, Some(0))], &[None]),
            ("a resumption", 1100, &[(&one, None)], &[None]),
            ("fits again", 1200, &[(&one, None)], &[Some(0)]),
            (
                "breadth before depth",
                1500,
                &[(&three, None), (&three, None), (&three, None)],
                &[Some(1), Some(1), Some(0)],
            ),
            (
                "the first first",
                2900,
                &[(&three, None), (&three, None)],
                &[Some(2), Some(1)],
            ),
            (
                "nobody sends",
                5000,
                &[(&[], None), (&three, None)],
                &[None, Some(2)],
            ),
        ];
        for (label, budget, wants, expected) in cases {
            let wants: Vec<_> = wants
                .iter()
                .map(|(ladder, current)| Want {
                    ladder,
                    current: *current,
                    may_climb: true,
                })
                .collect();
            assert_eq!(allocate(budget * 1000, &wants), *expected, "{label}");
        }
    }

    #[test]
    fn who_may_not_climb_stays() {
        let ladder = ladder(&[150, 500, 2000]);
        for (current, expected) in [(None, Some(0)), (Some(0), Some(0)), (Some(1), Some(1))] {
            let want = Want {
                ladder: &ladder,
                current,
                may_climb: false,
            };
            assert_eq!(allocate(9_000_000, &[want]), [expected]);
        }
    }
}
