//! Where a packet stands among the frames and layers of its stream, whatever the codec.

/// A set of qualities within one stream: pairs of a highest spatial and a highest temporal layer, of which
/// four each are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Qualities(u16);

/// Spatial layers, and temporal layers, that are told apart.
pub(crate) const LAYERS: u8 = 4;

/// What must be known of a packet to forward some layers of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// The frame's spatial layer.
    pub(crate) spatial: u8,
    /// The frame's temporal layer.
    pub(crate) temporal: u8,
    /// Whether the frame begins in this packet.
    pub(crate) starts: bool,
    /// Whether the frame ends in this packet.
    pub(crate) ends: bool,
    /// The qualities that need it.
    pub(crate) needed: Qualities,
    /// The qualities that can be forwarded from here on, if this frame can be decoded.
    pub(crate) switch: Qualities,
    /// The qualities whose receivers can decode this frame.
    pub(crate) decodable: Qualities,
}

impl Qualities {
    /// None.
    pub(crate) const NONE: Self = Self(0);
    /// All.
    pub(crate) const ALL: Self = Self(u16::MAX);

    /// Returns the set of one.
    pub(crate) fn one(spatial: u8, temporal: u8) -> Self {
        Self(1 << (spatial.min(LAYERS - 1) * LAYERS + temporal.min(LAYERS - 1)))
    }

    /// Returns those of any spatial layer that have at least this temporal layer.
    pub(crate) fn from_temporal(temporal: u8) -> Self {
        Self(match temporal {
            0 => 0xffff,
            1 => 0xeeee,
            2 => 0xcccc,
            _ => 0x8888,
        })
    }

    /// Returns those that have at least this spatial layer.
    pub(crate) fn from_spatial(spatial: u8) -> Self {
        Self(u16::MAX << (spatial.min(LAYERS - 1) * LAYERS))
    }

    /// Returns those that have exactly this spatial layer.
    pub(crate) fn of_spatial(spatial: u8) -> Self {
        Self(0xf << (spatial.min(LAYERS - 1) * LAYERS))
    }

    /// Returns those that have exactly this temporal layer.
    pub(crate) fn of_temporal(temporal: u8) -> Self {
        Self(0x1111 << temporal.min(LAYERS - 1))
    }

    /// Returns whether they have one in common.
    pub(crate) fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns those in both.
    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns those in either.
    pub(crate) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns each as its spatial and temporal layer and its position in the set.
    pub(crate) fn iter(self) -> impl Iterator<Item = (u8, u8, usize)> {
        (0..LAYERS * LAYERS)
            .filter(move |bit| self.0 & (1 << bit) != 0)
            .map(|bit| (bit / LAYERS, bit % LAYERS, usize::from(bit)))
    }
}

impl Frame {
    /// Returns a packet of a stream without layers.
    pub(crate) fn whole(is_keyframe: bool, ends: bool) -> Self {
        Self {
            spatial: 0,
            temporal: 0,
            starts: is_keyframe,
            ends,
            needed: Qualities::ALL,
            switch: match is_keyframe {
                true => Qualities::ALL,
                false => Qualities::NONE,
            },
            decodable: Qualities::ALL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_what_their_names_say() {
        for spatial in 0..4 {
            for temporal in 0..4 {
                let one = Qualities::one(spatial, temporal);
                let label = format!("{spatial} {temporal}");
                for n in 0..4 {
                    let at_least = Qualities::from_temporal(n).meets(one);
                    assert_eq!(at_least, temporal >= n, "{label}");
                    assert_eq!(Qualities::from_spatial(n).meets(one), spatial >= n);
                    assert_eq!(Qualities::of_spatial(n).meets(one), spatial == n);
                    assert_eq!(Qualities::of_temporal(n).meets(one), temporal == n);
                }
                let listed: Vec<_> = one.iter().map(|(s, t, _)| (s, t)).collect();
                assert_eq!(listed, [(spatial, temporal)]);
            }
        }
        assert_eq!(Qualities::ALL.iter().count(), 16);
        assert_eq!(Qualities::one(7, 9), Qualities::one(3, 3));
    }
}
