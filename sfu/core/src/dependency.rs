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
