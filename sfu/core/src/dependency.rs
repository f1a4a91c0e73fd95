//! The dependency descriptor: how frames and layers of a stream hang together, told by a header extension
//! (AV1 RTP specification, appendix A).

use crate::frame::{Frame, LAYERS, Qualities};

/// The structure that descriptors refer to; comes with keyframes. It stays valid until the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Structure {
    offset: u8,
    targets: u8,
    templates: Vec<Template>,
    /// The highest spatial and temporal layer of each decode target.
    layers: Vec<(u8, u8)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Template {
    spatial: u8,
    temporal: u8,
    /// Two bits for each decode target, the first one lowest.
    indications: u64,
}

/// What one packet's descriptor says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    /// The number of its frame.
    pub(crate) frame_number: u16,
    /// Where the packet stands.
    pub(crate) frame: Frame,
    /// The structure that begins with it.
    pub(crate) structure: Option<Box<Structure>>,
}

impl Descriptor {
    /// Reads a descriptor that refers to `known`, unless it brings a structure of its own. `None` when it is
    /// cut off or refers to something else.
    pub(crate) fn parse(bytes: &[u8], known: Option<&Structure>) -> Option<Self> {
        let mut bits = Bits::new(bytes);
        let (starts, ends) = (bits.flag()?, bits.flag()?);
        let template = bits.byte(6)?;
        let frame_number = bits.number(16)?;
        let mut structure = None;
        let [mut has_indications, mut has_active] = [false; 2];
        if bytes.len() > MANDATORY_LEN {
            let has_structure = bits.flag()?;
            has_active = bits.flag()?;
            has_indications = bits.flag()?;
            // Frame differences and chains of its own; behind everything that is read.
            let _ = bits.number(2)?;
            if has_structure {
                structure = Some(Box::new(Structure::read(&mut bits)?));
            }
        }
        let valid = structure.as_deref().or(known)?;
        if has_active {
            bits.number(valid.targets)?;
        }
        let place = template.wrapping_sub(valid.offset) & 0x3f;
        let mut template = *valid.templates.get(usize::from(place))?;
        if has_indications {
            template.indications = read_indications(&mut bits, valid.targets)?;
        }
        let frame = Frame {
            starts,
            ends,
            ..valid.frame(&template)
        };
        Some(Self {
            frame_number: u16::try_from(frame_number).ok()?,
            frame,
            structure,
        })
    }
}

impl Structure {
    fn read(bits: &mut Bits<'_>) -> Option<Self> {
        let offset = bits.byte(6)?;
        let targets = bits.byte(5)? + 1;
        let mut templates = read_templates(bits)?;
        for template in &mut templates {
            template.indications = read_indications(bits, targets)?;
        }
        for _ in &templates {
            while bits.flag()? {
                bits.number(4)?;
            }
        }
        let chains = bits.non_symmetric(targets + 1)?;
        if chains > 0 {
            for _ in 0..targets {
                bits.non_symmetric(chains)?;
            }
            for _ in &templates {
                for _ in 0..chains {
                    bits.number(4)?;
                }
            }
        }
        let spatial = templates.last().map_or(0, |template| template.spatial);
        if bits.flag()? {
            for _ in 0..=spatial {
                bits.number(32)?;
            }
        }
        let layers = (0..targets).map(|target| {
            let of_target = templates.iter().filter(|t| t.indication(target) != ABSENT);
            of_target.fold((0, 0), |(spatial, temporal), template| {
                (
                    spatial.max(template.spatial),
                    temporal.max(template.temporal),
                )
            })
        });
        Some(Self {
            offset,
            targets,
            layers: layers.collect(),
            templates,
        })
    }

    /// Returns what a frame of a template is to the qualities that the decode targets stand for.
    fn frame(&self, template: &Template) -> Frame {
        let mut frame = Frame {
            spatial: template.spatial.min(LAYERS - 1),
            temporal: template.temporal.min(LAYERS - 1),
            needed: Qualities::NONE,
            switch: Qualities::NONE,
            ..Frame::whole(false, false)
        };
        for (target, (spatial, temporal)) in (0..self.targets).zip(&self.layers) {
            let quality = Qualities::one(*spatial, *temporal);
            let indication = template.indication(target);
            if indication != ABSENT {
                frame.needed = frame.needed.or(quality);
            }
            if indication == SWITCH {
                frame.switch = frame.switch.or(quality);
            }
        }
        if self.targets == 1 && frame.needed != Qualities::NONE {
            // One target is a stream without layers.
            frame.needed = Qualities::ALL;
        }
        frame.decodable = frame.needed;
        frame
    }
}

impl Template {
    fn indication(&self, target: u8) -> u64 {
        self.indications >> (2 * u32::from(target)) & 3
    }
}

/// Writes a descriptor whose frame number is `shift` higher into `buffer`, and returns it. Empty when it is
/// longer than the buffer.
pub(crate) fn renumber<'a>(descriptor: &[u8], shift: u16, buffer: &'a mut [u8]) -> &'a [u8] {
    let Some(copy) = buffer.get_mut(..descriptor.len()) else {
        return &[];
    };
    copy.copy_from_slice(descriptor);
    if let Some([_, high, low, ..]) = copy.first_chunk_mut::<MANDATORY_LEN>() {
        let number = u16::from_be_bytes([*high, *low]).wrapping_add(shift);
        [*high, *low] = number.to_be_bytes();
    }
    copy
}

fn read_templates(bits: &mut Bits<'_>) -> Option<Vec<Template>> {
    let mut templates = Vec::new();
    let mut template = Template::default();
    loop {
        if templates.len() >= MAX_TEMPLATES {
            return None;
        }
        templates.push(template);
        match bits.byte(2)? {
            SAME_LAYER => {}
            NEXT_TEMPORAL => template.temporal += 1,
            NEXT_SPATIAL => {
                template.temporal = 0;
                template.spatial += 1;
            }
            _ => return Some(templates),
        }
    }
}

fn read_indications(bits: &mut Bits<'_>, targets: u8) -> Option<u64> {
    let mut indications = 0;
    for target in 0..targets {
        indications |= u64::from(bits.byte(2)?) << (2 * u32::from(target));
    }
    Some(indications)
}

/// Reads bits off the front of a slice; `None` when it is too short.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn flag(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit != 0)
    }

    /// Reads at most 32 bits.
    fn number(&mut self, bits: u8) -> Option<u32> {
        let mut number = 0;
        for _ in 0..bits {
            number = number << 1 | u32::from(self.flag()?);
        }
        Some(number)
    }

    /// Reads at most 8 bits.
    fn byte(&mut self, bits: u8) -> Option<u8> {
        u8::try_from(self.number(bits)?).ok()
    }

    /// Reads a number below `n` in as few bits as it needs.
    fn non_symmetric(&mut self, n: u8) -> Option<u8> {
        let width = u8::try_from(8 - n.leading_zeros()).ok()?;
        let short = (1_u16 << width) - u16::from(n);
        let value = u16::try_from(self.number(width.checked_sub(1)?)?).ok()?;
        if value < short {
            return u8::try_from(value).ok();
        }
        let value = (value << 1) + u16::from(self.flag()?) - short;
        u8::try_from(value).ok()
    }
}

const MANDATORY_LEN: usize = 3;
const MAX_TEMPLATES: usize = 64;

const SAME_LAYER: u8 = 0;
const NEXT_TEMPORAL: u8 = 1;
const NEXT_SPATIAL: u8 = 2;

/// Decode target indications.
const ABSENT: u64 = 0;
const SWITCH: u64 = 2;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Writes descriptors as an encoder does.
    #[derive(Default)]
    struct Writer {
        bits: Vec<bool>,
    }

    impl Writer {
        fn number(&mut self, number: u32, bits: u32) -> &mut Self {
            let bits = (0..bits).rev().map(|bit| number >> bit & 1 != 0);
            self.bits.extend(bits);
            self
        }

        fn mandatory(&mut self, starts: bool, ends: bool, template: u32, frame: u32) -> &mut Self {
            self.number(u32::from(starts), 1).number(u32::from(ends), 1);
            self.number(template, 6).number(frame, 16)
        }

        fn indications(&mut self, indications: &str) -> &mut Self {
            for indication in indications.chars() {
                let value = "-DSR".find(indication).unwrap();
                self.number(u32::try_from(value).unwrap(), 2);
            }
            self
        }

        fn bytes(&self) -> Vec<u8> {
            let byte = |bits: &[bool]| {
                let ones = bits.iter().enumerate().filter(|(_, bit)| **bit);
                ones.fold(0, |byte, (at, _)| byte | 0x80 >> at)
            };
            self.bits.chunks(8).map(byte).collect()
        }
    }

    /// One spatial and three temporal layers, with a chain, template ids from 60 on.
    fn l1t3(frame: u32) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.mandatory(true, false, 60, frame);
        writer.number(0b10000, 5).number(60, 6).number(3 - 1, 5);
        for next in [0, 1, 1, 0, 3] {
            writer.number(next, 2);
        }
        for indications in ["SSS", "SSS", "-DS", "--D", "--D"] {
            writer.indications(indications);
        }
        for difference in [None, Some(4), Some(2), Some(1), Some(1)] {
            if let Some(difference) = difference {
                writer.number(1, 1).number(difference - 1, 4);
            }
            writer.number(0, 1);
        }
        writer.number(1, 2);
        for difference in [0, 4, 2, 1, 3] {
            writer.number(difference, 4);
        }
        writer.number(1, 1).number(1279, 16).number(719, 16);
        writer.bytes()
    }

    fn delta(starts: bool, ends: bool, template: u32, frame: u32) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.mandatory(starts, ends, template, frame).bytes()
    }

    fn quality(temporal: u8) -> Qualities {
        Qualities::one(0, temporal)
    }

    #[test]
    fn a_structure_describes_the_frames_behind_it() {
        let key = Descriptor::parse(&l1t3(0xfffe), None).unwrap();
        assert_eq!(key.frame_number, 0xfffe);
        assert!(key.frame.starts && !key.frame.ends);
        let known = key.structure.as_deref();
        assert_eq!(known.unwrap().layers, [(0, 0), (0, 1), (0, 2)]);
        let frame = |template| {
            let bytes = delta(true, true, template, 7);
            Descriptor::parse(&bytes, known).unwrap().frame
        };
        let lowest = frame(61);
        let switch = quality(0).or(quality(1)).or(quality(2));
        assert_eq!((lowest.temporal, lowest.switch), (0, switch));
        let middle = frame(62);
        assert_eq!((middle.temporal, middle.switch), (1, quality(2)));
        assert_eq!(middle.needed, quality(1).or(quality(2)));
        for template in [63, 0] {
            let highest = frame(template);
            assert_eq!((highest.temporal, highest.needed), (2, quality(2)));
            assert_eq!(highest.switch, Qualities::NONE);
        }
        assert_eq!(Descriptor::parse(&delta(true, true, 1, 7), known), None);
        assert_eq!(Descriptor::parse(&delta(true, true, 61, 7), None), None);
    }

    /// The first descriptor of a VP9 stream in mode L3T3_KEY, as Chromium 156 sends it.
    const L3T3_KEY: &[u8] = &[
        0xc0, 0x00, 0x01, 0xc0, 0x08, 0x14, 0x85, 0x21, 0x4e, 0xaa, 0xaa, 0xa8, 0x00, 0x06, 0x00,
        0x00, 0x40, 0x00, 0x10, 0x00, 0x02, 0xaa, 0x80, 0xa8, 0x00, 0x06, 0x00, 0x00, 0x40, 0x00,
        0x10, 0x00, 0x02, 0xa0, 0x00, 0xa8, 0x00, 0x06, 0x00, 0x00, 0x40, 0x00, 0x16, 0xd5, 0x49,
        0x24, 0x1b, 0x55, 0x24, 0x90, 0x6d, 0x54, 0x92, 0x31, 0x57, 0xe0, 0x01, 0x97, 0x4c, 0xa8,
        0x64, 0x33, 0x0e, 0x22, 0x23, 0x96, 0xec, 0xa8, 0x65, 0x53, 0x04, 0x22, 0x43, 0x90, 0xec,
        0xa8, 0x77, 0x53, 0x01, 0x3f, 0x00, 0xb3, 0x02, 0x7f, 0x01, 0x67, 0x04, 0xff, 0x02, 0xcf,
        0x03, 0x80,
    ];

    #[test]
    fn what_chromium_sends_is_understood() {
        let key = Descriptor::parse(L3T3_KEY, None).unwrap();
        let structure = key.structure.unwrap();
        let pairs = (0..3).flat_map(|spatial| (0..3).map(move |temporal| (spatial, temporal)));
        assert_eq!(structure.layers, pairs.collect::<Vec<_>>());
        let frame = |bytes: &[u8]| Descriptor::parse(bytes, Some(&structure)).unwrap().frame;
        // Behind the key picture spatial layers do without each other.
        let lowest = frame(&[0xc1, 0x00, 0x05, 0x1a, 0x60, 0x20, 0x00, 0x00]);
        let of_lowest = quality(0).or(quality(1)).or(quality(2));
        assert_eq!((lowest.needed, lowest.switch), (of_lowest, of_lowest));
        let highest = frame(&[0xc3, 0x00, 0x02, 0x1a, 0x00, 0x08, 0x00, 0x00]);
        assert_eq!((highest.temporal, highest.needed), (2, quality(2)));
    }

    #[test]
    fn indications_of_a_frame_go_before_those_of_its_template() {
        let key = Descriptor::parse(&l1t3(1), None).unwrap();
        let known = key.structure.as_deref();
        let mut writer = Writer::default();
        writer.mandatory(true, true, 62, 9).number(0b01100, 5);
        writer.number(0b111, 3).indications("--R");
        let parsed = Descriptor::parse(&writer.bytes(), known).unwrap();
        assert_eq!(parsed.frame.needed, quality(2));
        assert_eq!(parsed.frame.switch, Qualities::NONE);
    }

    #[test]
    fn cut_off_descriptors_are_refused() {
        let whole = l1t3(1);
        for len in 0..whole.len() - 5 {
            assert_eq!(Descriptor::parse(&whole[..len], None), None, "{len}");
        }
    }

    #[test]
    fn numbers_below_a_limit_take_as_few_bits_as_they_need() {
        let mut writer = Writer::default();
        writer.number(0b0001_1011_0111, 12);
        let bytes = writer.bytes();
        let mut bits = Bits::new(&bytes);
        let numbers: Vec<_> = (0..5).map(|_| bits.non_symmetric(5)).collect();
        assert_eq!(numbers, [Some(0), Some(1), Some(2), Some(3), Some(4)]);
        assert_eq!(Bits::new(&[]).non_symmetric(1), Some(0));
    }

    #[test]
    fn a_frame_number_changes_alone() {
        let mut buffer = [0; 64];
        let mut expected = l1t3(3);
        assert_eq!(renumber(&l1t3(0xfffe), 5, &mut buffer), expected);
        expected.truncate(3);
        assert_eq!(renumber(&l1t3(3)[..3], 0, &mut buffer), expected);
        assert_eq!(renumber(&[1, 2], 5, &mut buffer), [1, 2]);
        assert_eq!(renumber(&[0; 65], 5, &mut buffer), [0; 0]);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
            flips in prop::collection::vec((0..20_usize, any::<u8>()), 0..4),
        ) {
            let mut structure = l1t3(1);
            for (at, flip) in flips {
                structure[at] ^= flip;
            }
            let known = Descriptor::parse(&structure, None).and_then(|d| d.structure);
            let _ = Descriptor::parse(&bytes, known.as_deref());
        }
    }
}
