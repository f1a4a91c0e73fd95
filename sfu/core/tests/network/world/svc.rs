//! Streams with layers of their own: what their packets say, and which frames need which.

use super::payload::vp8;

/// How the layers of one stream hang together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Svc {
    pub(crate) spatial: u32,
    pub(crate) temporal: u32,
    /// Whether a layer needs the one below it in every picture, not only in key pictures.
    pub(crate) is_full: bool,
    /// The packets of a frame of each spatial layer, and the bytes of each.
    pub(crate) sizes: [(u32, usize); 3],
}

/// A packet's place in the stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// The picture, and how many before it are since the last key picture.
    pub(crate) picture: u32,
    pub(crate) since_key: u32,
    pub(crate) spatial: u32,
    /// Whether its frame begins and ends with it.
    pub(crate) starts: bool,
    pub(crate) ends: bool,
}

impl Svc {
    /// Two spatial and two temporal layers.
    pub(crate) const L2T2: Self = Self {
        spatial: 2,
        temporal: 2,
        is_full: true,
        sizes: [(3, 100); 3],
    };

    pub(crate) const L2T2_KEY: Self = Self {
        is_full: false,
        ..Self::L2T2
    };

    pub(crate) const L2T1_KEY: Self = Self {
        temporal: 1,
        ..Self::L2T2_KEY
    };

    /// About 600 kbit/s, half of it in the lowest two layers.
    pub(crate) const L1T3: Self = Self {
        spatial: 1,
        temporal: 3,
        is_full: false,
        sizes: [(3, 800); 3],
    };

    /// As a browser sends 720p: about 120, 350 and 1400 kbit/s.
    pub(crate) const L3T3_KEY: Self = Self {
        spatial: 3,
        temporal: 3,
        is_full: false,
        sizes: [(1, 450), (2, 700), (6, 950)],
    };

    pub(crate) const L3T3: Self = Self {
        is_full: true,
        ..Self::L3T3_KEY
    };

    /// Returns the temporal layer of a picture.
    pub(crate) fn temporal_of(&self, place: Place) -> u32 {
        match self.temporal {
            1 => 0,
            2 => place.since_key % 2,
            _ => [0, 2, 1, 2][place.since_key as usize % 4],
        }
    }

    /// Returns the number of a packet's frame in a simulcast layer, which is not 0, and those of the frames that it
    /// needs.
    pub(crate) fn frames(&self, place: Place, layer: u32) -> (u32, [u32; 2]) {
        let number = |picture: u32, spatial: u32| picture * 4 + layer + spatial + 1;
        let (picture, spatial) = (place.picture, place.spatial);
        let is_key = place.since_key == 0;
        let before = match is_key {
            true => 0,
            false => number(picture - self.distance(self.temporal_of(place)), spatial),
        };
        let below = match spatial > 0 && (is_key || self.is_full) {
            true => number(picture, spatial - 1),
            false => 0,
        };
        (number(picture, spatial), [before, below])
    }

    /// Returns how many pictures ago the one is that a picture of a temporal layer needs.
    fn distance(&self, temporal: u32) -> u32 {
        1 << (self.temporal - 1 - temporal)
    }

    /// Returns a VP8 payload descriptor (RFC 7741 §4.2), and the first byte of a frame. Pictures that need nothing but
    /// the lowest layer are marked, so that theirs can be entered there.
    pub(crate) fn vp8(&self, place: Place, id: u16) -> Vec<u8> {
        let lowest = place.since_key / self.distance(0);
        let mut payload = vp8(id, lowest, place.starts, place.since_key == 0);
        payload[1] |= 0x20;
        let temporal = self.temporal_of(place) as u8;
        let is_entry = matches!(place.since_key % self.distance(0), 1 | 2);
        payload.insert(5, temporal << 6 | u8::from(is_entry) << 5);
        payload
    }

    /// Returns a VP9 payload descriptor (RFC 9628 §4.2).
    pub(crate) fn vp9(&self, place: Place, id: u16) -> Vec<u8> {
        let is_key = place.since_key == 0;
        let is_for_upper = place.spatial + 1 < self.spatial && (is_key || self.is_full);
        let depends = place.spatial > 0 && (is_key || self.is_full);
        let first = 0xa0
            | u8::from(!is_key) << 6
            | u8::from(place.starts) << 3
            | u8::from(place.ends) << 2
            | u8::from(!is_for_upper);
        let temporal = self.temporal_of(place);
        let layers = temporal << 5 | 0x10 | place.spatial << 1 | u32::from(depends);
        let [high, low] = id.to_be_bytes();
        let lowest = place.since_key / self.distance(0);
        vec![first, high | 0x80, low, layers as u8, lowest as u8]
    }

    /// Returns an AV1 aggregation header and a byte that says the layers.
    pub(crate) fn av1(&self, place: Place) -> Vec<u8> {
        let starts_sequence = place.since_key == 0 && place.spatial == 0 && place.starts;
        let layers = self.temporal_of(place) << 4 | place.spatial;
        vec![0x10 | u8::from(starts_sequence) << 3, layers as u8]
    }

    /// Returns a dependency descriptor (AV1 RTP specification, appendix A). Of each spatial layer there is a
    /// template for key pictures and one for each temporal layer; there are as many decode targets as pairs of
    /// layers, and a chain for each spatial layer.
    pub(crate) fn descriptor(&self, place: Place) -> Vec<u8> {
        let is_key = place.since_key == 0;
        let within = match is_key {
            true => 0,
            false => 1 + self.temporal_of(place),
        };
        let frame = place.picture * self.spatial + place.spatial;
        let mut bits = Bits::default();
        bits.number(u32::from(place.starts), 1);
        bits.number(u32::from(place.ends), 1);
        bits.number(place.spatial * (1 + self.temporal) + within, 6);
        bits.number(frame & 0xffff, 16);
        if is_key && place.spatial == 0 && place.starts {
            self.structure(&mut bits);
        }
        bits.bytes()
    }

    fn structure(&self, bits: &mut Bits) {
        let targets = self.spatial * self.temporal;
        // There is a structure; the first template has the number 0.
        bits.number(0b1_0000, 5);
        bits.number(0, 6);
        bits.number(targets - 1, 5);
        let templates = || {
            (0..self.spatial).flat_map(|spatial| {
                let key = (spatial, 0, true);
                let others = (0..self.temporal).map(move |temporal| (spatial, temporal, false));
                [key].into_iter().chain(others)
            })
        };
        for (spatial, temporal, is_key) in templates() {
            let is_last = temporal + 1 == self.temporal && !is_key;
            let next = match (is_last, spatial + 1 == self.spatial) {
                (true, true) => 3,
                (true, false) => 2,
                (false, _) => u32::from(!is_key),
            };
            bits.number(next, 2);
        }
        for template in templates() {
            for target in 0..targets {
                bits.number(self.indication(template, target), 2);
            }
        }
        for (spatial, temporal, is_key) in templates() {
            let own = (!is_key).then(|| self.distance(temporal) * self.spatial);
            let below = (spatial > 0 && (is_key || self.is_full)).then_some(1);
            for difference in own.into_iter().chain(below) {
                bits.number(1, 1);
                bits.number(difference - 1, 4);
            }
            bits.number(0, 1);
        }
        bits.non_symmetric(self.spatial, targets + 1);
        for target in 0..targets {
            bits.non_symmetric(target / self.temporal, self.spatial);
        }
        for _ in templates() {
            for _ in 0..self.spatial {
                bits.number(0, 4);
            }
        }
        // No resolutions.
        bits.number(0, 1);
    }

    /// Returns what a frame is to a decode target: 0 absent, 1 discardable, 2 a place to switch, 3 required.
    fn indication(&self, (spatial, temporal, is_key): (u32, u32, bool), target: u32) -> u32 {
        let (of_spatial, of_temporal) = (target / self.temporal, target % self.temporal);
        let is_below = spatial < of_spatial && (is_key || self.is_full);
        if !(is_below || spatial == of_spatial) || temporal > of_temporal {
            return 0;
        }
        match temporal > 0 && temporal == of_temporal {
            _ if is_below && !is_key => 3,
            true => 1,
            false => 2,
        }
    }
}

#[derive(Default)]
struct Bits(Vec<bool>);

impl Bits {
    fn number(&mut self, number: u32, bits: u32) {
        let bits = (0..bits).rev().map(|bit| number >> bit & 1 != 0);
        self.0.extend(bits);
    }

    /// Writes a number below `n` in as few bits as it needs.
    fn non_symmetric(&mut self, number: u32, n: u32) {
        let width = 32 - n.leading_zeros();
        let short = (1 << width) - n;
        match number < short {
            true => self.number(number, width - 1),
            false => self.number(number + short, width),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let byte = |bits: &[bool]| {
            let bits = (0..).zip(bits);
            bits.fold(0, |byte, (n, bit)| byte | u8::from(*bit) << (7 - n))
        };
        self.0.chunks(8).map(byte).collect()
    }
}
