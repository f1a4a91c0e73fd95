//! How a room's composed picture looks, as its host chooses.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// How the pictures of a stage are arranged where they are composed into one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// All alike.
    #[default]
    Grid,
    /// Who has the floor large, the others in a strip beside.
    Speaker,
    /// Who has the floor, or a screen, over the whole picture; the others small in its corner.
    PictureInPicture,
    /// A screen large, with a strip of the others beside; as `speaker` while nobody shares one.
    Screen,
    /// Who has the floor, and nobody else.
    Single,
}

/// What is around and over the pictures of a composed output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Look {
    /// Whether names are written on the pictures.
    pub names: bool,
    /// A line at the top, at most 100 characters; none when empty.
    pub title: String,
    /// The colour behind the pictures, `#rrggbb`.
    pub background: String,
    /// What is written while nobody sends, at most 200 characters; nothing when empty.
    pub slate: String,
    /// Where the logo is.
    pub logo_corner: Corner,
    /// In a corner, over the pictures.
    pub logo: Option<RoomImage>,
    /// Behind the pictures, instead of the colour.
    pub background_image: Option<RoomImage>,
    /// Shown while nobody sends, instead of the text.
    pub slate_image: Option<RoomImage>,
}

/// An image that a host has uploaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct RoomImage {
    /// Where it is on this server: a PNG. Another image has another address.
    pub url: String,
    /// Width in pixels, as it is kept.
    pub width: u32,
    /// Height in pixels, as it is kept.
    pub height: u32,
}

/// A corner of the picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum Corner {
    /// Beside it is the title.
    UpperLeft,
    /// The usual one.
    #[default]
    UpperRight,
    /// Names make room for it.
    LowerLeft,
    /// Over the small pictures of `picture_in_picture`.
    LowerRight,
}

/// What an image of a room is for: the last part of `/api/rooms/{room}/images/{kind}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum ImageKind {
    /// In a corner, over the pictures.
    Logo,
    /// Behind the pictures.
    Background,
    /// Shown while nobody sends.
    Slate,
}

/// What is to change of a [`Look`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields, default)]
#[ts(optional_fields)]
pub struct ChangeLook {
    /// Whether names are written on the pictures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub names: Option<bool>,
    /// A line at the top; none when empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The colour behind the pictures, `#rrggbb`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub background: Option<String>,
    /// What is written while nobody sends; nothing when empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slate: Option<String>,
    /// Where the logo is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logo_corner: Option<Corner>,
}
