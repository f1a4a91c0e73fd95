//! The qualities of a broadcast.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One quality: a folder of its own under the room's playlist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Rendition {
    /// Picture and sound; 0 is what every other output gets, the higher the smaller.
    Video(u8),
    /// Sound alone.
    Audio,
}

impl Rendition {
    /// Returns the rendition of a folder.
    pub(crate) fn from_folder(name: &str) -> Option<Self> {
        if name == "audio" {
            return Some(Self::Audio);
        }
        let number: u8 = name.strip_prefix('v')?.parse().ok()?;
        let rendition = Self::Video(number);
        // No second name for the same folder, such as v+1 or v01.
        (rendition.to_string() == name).then_some(rendition)
    }
}

/// Writes the folder's name.
impl fmt::Display for Rendition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Video(number) => write!(f, "v{number}"),
            Self::Audio => f.write_str("audio"),
        }
    }
}
