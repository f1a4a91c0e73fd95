//! The qualities that a publication offers.

use crate::{frame::Qualities, throughput::Throughput};

/// One quality: an RTP stream, and what is forwarded of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rung {
    /// The position of the layer (the RTP stream) in its publication.
    pub(crate) layer: u8,
    /// The highest spatial layer within the stream that is forwarded; 0 without SVC.
    pub(crate) spatial: u8,
    /// The highest temporal layer within the stream that is forwarded.
    pub(crate) temporal: u8,
    /// What it took lately, everything it depends on included, bit/s of payload.
    pub(crate) bitrate: u64,
}

impl Rung {
    /// Everything of a stream without layers.
    pub(crate) fn whole(layer: u8, bitrate: u64) -> Self {
        Self {
            layer,
            spatial: u8::MAX,
            temporal: u8::MAX,
            bitrate,
        }
    }

    /// Adds what a stream offers to a ladder.
    pub(crate) fn of_layer(layer: u8, throughput: &Throughput, ladder: &mut Vec<Self>) {
        if !throughput.is_layered() {
            ladder.push(Self::whole(layer, throughput.total()));
            return;
        }
        let start = ladder.len();
        let rungs = throughput.qualities().map(|quality| Self {
            layer,
            spatial: quality.spatial,
            temporal: quality.temporal,
            bitrate: quality.bitrate,
        });
        ladder.extend(rungs);
        if let Some(added) = ladder.get_mut(start..) {
            added.sort_by_key(|rung| (rung.bitrate, rung.spatial, rung.temporal));
        }
    }

    /// Removes from a ladder what is no step up from `shown`: a larger picture at a lower frame rate costs a
    /// keyframe as large as the full rate's. On the way down it costs none. Once `shown` is no longer `bearable`,
    /// larger pictures at less than half the frame rate are removed wherever they are.
    pub(crate) fn remove_detours(ladder: &mut Vec<Self>, shown: Option<Self>, bearable: bool) {
        let shown = shown.and_then(|shown| ladder.iter().position(|rung| rung.is_same(shown)));
        let mut position = 0;
        let all = ladder.clone();
        ladder.retain(|rung| {
            let is_above = shown.is_none_or(|shown| position > shown);
            position += 1;
            let is_detour = match is_above {
                true => rung.missing_temporal(&all) > 0,
                false => !bearable && rung.is_choppy(&all),
            };
            !(is_detour && rung.level() > 0)
        });
    }

    /// Returns whether less than half of the pictures are forwarded, of those of its size in `ladder`.
    pub(crate) fn is_choppy(&self, ladder: &[Self]) -> bool {
        self.missing_temporal(ladder) > 1
    }

    /// Returns how many temporal layers of its size are left out.
    fn missing_temporal(&self, ladder: &[Self]) -> u8 {
        let of_size = ladder.iter().filter(|rung| rung.has_size_of(*self));
        let highest = of_size.map(|rung| rung.temporal).max();
        highest.map_or(0, |highest| highest.saturating_sub(self.temporal))
    }

    /// Returns whether the same is forwarded.
    pub(crate) fn is_same(&self, other: Self) -> bool {
        (self.layer, self.spatial, self.temporal) == (other.layer, other.spatial, other.temporal)
    }

    /// Returns whether its picture has the size of another one's.
    pub(crate) fn has_size_of(&self, other: Self) -> bool {
        (self.layer, self.spatial) == (other.layer, other.spatial)
    }

    /// Returns the picture's size among those of the publication, the smallest being 0.
    pub(crate) fn level(&self) -> u8 {
        match self.is_whole() {
            true => self.layer,
            false => self.layer.max(self.spatial),
        }
    }

    /// Returns it as a quality of its stream.
    pub(crate) fn quality(&self) -> Qualities {
        match self.is_whole() {
            true => Qualities::ALL,
            false => Qualities::one(self.spatial, self.temporal),
        }
    }

    /// Returns whether layers within the stream do not matter.
    pub(crate) fn is_whole(&self) -> bool {
        self.spatial == u8::MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_pictures_at_lower_frame_rates_are_no_steps_up() {
        let rung = |(spatial, temporal): (u8, u8)| Rung {
            layer: 0,
            spatial,
            temporal,
            bitrate: u64::from(spatial * 10 + temporal) * 1000,
        };
        let all = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 1), (2, 2)];
        type Case<'a> = (&'a str, Option<(u8, u8)>, &'a [(u8, u8)]);
        let cases: &[Case<'_>] = &[
            ("nothing", None, &[(0, 0), (0, 1), (0, 2), (1, 2), (2, 2)]),
            (
                "the lowest",
                Some((0, 0)),
                &[(0, 0), (0, 1), (0, 2), (1, 2), (2, 2)],
            ),
            (
                "a detour",
                Some((1, 1)),
                &[(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)],
            ),
            ("the top", Some((2, 2)), &all),
        ];
        for (label, shown, expected) in cases {
            let mut ladder: Vec<_> = all.iter().copied().map(rung).collect();
            Rung::remove_detours(&mut ladder, shown.map(rung), true);
            let left: Vec<_> = ladder.iter().map(|r| (r.spatial, r.temporal)).collect();
            assert_eq!(left, *expected, "{label}");
        }
        let mut whole = vec![Rung::whole(0, 150_000), Rung::whole(1, 500_000)];
        Rung::remove_detours(&mut whole, None, true);
        assert_eq!(whole.len(), 2);
        let simulcast = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(layer, temporal)| Rung {
            layer,
            spatial: 0,
            ..rung((0, temporal))
        });
        let mut simulcast = simulcast.to_vec();
        Rung::remove_detours(&mut simulcast, None, true);
        let left: Vec<_> = simulcast.iter().map(|r| (r.layer, r.temporal)).collect();
        assert_eq!(left, [(0, 0), (0, 1), (1, 1)]);
    }

    #[test]
    fn larger_pictures_at_a_quarter_of_the_frame_rate_are_borne_for_a_while_only() {
        let all = [
            (0, 0),
            (0, 1),
            (0, 2),
            (1, 0),
            (1, 1),
            (1, 2),
            (2, 0),
            (2, 1),
        ];
        let rung = |(spatial, temporal): (u8, u8)| Rung {
            layer: 0,
            spatial,
            temporal,
            bitrate: u64::from(spatial * 10 + temporal) * 1000,
        };
        let left = |bearable| {
            let mut ladder: Vec<_> = all.iter().chain(&[(2, 2)]).copied().map(rung).collect();
            Rung::remove_detours(&mut ladder, Some(rung((2, 0))), bearable);
            ladder
                .iter()
                .map(|r| (r.spatial, r.temporal))
                .collect::<Vec<_>>()
        };
        assert_eq!(left(true), [&all[..7], &[(2, 2)]].concat());
        assert_eq!(
            left(false),
            [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
        );
        assert!(rung((2, 0)).is_choppy(&[rung((2, 2)), rung((0, 0))]));
        assert!(!rung((2, 1)).is_choppy(&[rung((2, 2)), rung((0, 0))]));
    }
}
