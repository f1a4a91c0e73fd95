//! What a composed output shows: who is there, and how the host wants it to look.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::admission::Broadcast;

/// How the pictures of a stage are arranged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
#[ts(rename = "EgressLayout")]
pub enum Layout {
    /// All alike.
    #[default]
    Grid,
    /// Who has the floor large, the others in a strip beside.
    Speaker,
    /// Who has the floor, or a screen, over the whole picture; the others small in its corner.
    PictureInPicture,
    /// A screen large, with a strip of the others beside; as [`Layout::Speaker`] while nobody shares one.
    Screen,
    /// Who has the floor, and nobody else.
    Single,
}

/// Everything that a composed output needs to know of its room.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scene {
    /// The arrangement.
    pub layout: Layout,
    /// Who is there, in the order of the stage.
    pub tiles: Vec<Tile>,
    /// The video lane that is to be large.
    pub main: Option<u32>,
    /// How it looks.
    pub look: Look,
}

/// A picture with its sound: somebody's camera and microphone, or a shared screen. Either may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tile {
    /// The lane of its picture.
    pub video: Option<u32>,
    /// The lanes of its sound.
    pub audio: Vec<u32>,
    /// Whose it is.
    pub identity: String,
    /// What is written on it.
    pub name: String,
    /// Whether it is a screen.
    pub screen: bool,
}

/// What the host chose for the room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Look {
    /// Whether names are written on the pictures.
    pub names: bool,
    /// A line at the top; none when empty.
    pub title: String,
    /// `0xRRGGBB`.
    pub background: u32,
    /// What is written while nobody sends; nothing when empty.
    pub slate: String,
    /// Behind the pictures, instead of the colour.
    pub background_image: Option<Image>,
    /// In a corner, over the pictures.
    pub logo: Option<Image>,
    /// Which corner.
    pub logo_corner: Corner,
    /// Shown while nobody sends, instead of the text.
    pub slate_image: Option<Image>,
}

/// A corner of the picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Corner {
    /// Beside it is the title.
    UpperLeft,
    /// The usual one.
    #[default]
    UpperRight,
    /// Names make room for it.
    LowerLeft,
    /// Nothing is written there.
    LowerRight,
}

/// A PNG or JPEG file. Another image has another path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Image {
    /// The file; only the worker reads it.
    pub path: PathBuf,
}

impl Scene {
    /// Returns what comes in from who is on stage, in another codec than H.264 or not.
    pub(crate) fn broadcast(&self, foreign: bool) -> Broadcast {
        let sounds = self.tiles.iter().map(|tile| tile.audio.len()).sum();
        let pictures = self.tiles.iter().filter(|tile| tile.video.is_some());
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Broadcast {
            foreign,
            pictures: count(pictures.count()),
            sounds: count(sounds),
        }
    }

    /// Returns the scene of a job with one picture: lane 0 over all of it, as the source has it.
    pub fn of_one() -> Self {
        Self {
            layout: Layout::Single,
            tiles: vec![Tile {
                video: Some(0),
                audio: vec![0],
                ..Tile::default()
            }],
            main: Some(0),
            look: Look {
                names: false,
                ..Look::default()
            },
        }
    }
}

impl Default for Look {
    fn default() -> Self {
        Self {
            names: true,
            title: String::new(),
            background: 0x0014_1821,
            slate: "We will be right back".to_owned(),
            background_image: None,
            logo: None,
            logo_corner: Corner::default(),
            slate_image: None,
        }
    }
}
