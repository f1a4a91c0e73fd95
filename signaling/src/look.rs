//! [`Look`]: how a room's composed picture looks. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Problem,
    auth::is_hidden,
    protocol::{self, ChangeLook, Corner, ErrorCode, ImageKind, RoomImage},
};

/// What a host has chosen. Kept as JSON: a field that is missing there has its default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Look {
    /// Whether names are written on the pictures.
    pub names: bool,
    /// A line at the top; none when empty.
    pub title: String,
    /// The colour behind the pictures, `0xRRGGBB`.
    pub background: u32,
    /// What is written while nobody sends; nothing when empty.
    pub slate: String,
    /// Where the logo is.
    pub logo_corner: Corner,
    /// What was uploaded.
    pub images: BTreeMap<ImageKind, Image>,
}

/// An image as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Made from its content.
    pub version: u64,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

impl Look {
    /// Takes over what is to change.
    ///
    /// # Errors
    /// With `look_invalid`; nothing has changed then.
    pub(crate) fn change(&mut self, change: &ChangeLook) -> Result<(), Problem> {
        let line = |text: &Option<String>, what, limit| {
            let text = text.as_ref().map(|text| clean(text, what, limit));
            text.transpose()
        };
        let title = line(&change.title, "title", TITLE_LIMIT)?;
        let slate = line(&change.slate, "text", SLATE_LIMIT)?;
        let background = change.background.as_deref().map(colour).transpose()?;
        self.names = change.names.unwrap_or(self.names);
        self.title = title.unwrap_or_else(|| self.title.clone());
        self.background = background.unwrap_or(self.background);
        self.slate = slate.unwrap_or_else(|| self.slate.clone());
        self.logo_corner = change.logo_corner.unwrap_or(self.logo_corner);
        Ok(())
    }

    /// Returns what members of the room with this name see.
    pub(crate) fn shown(&self, slug: &str) -> protocol::Look {
        let image = |kind| {
            let Image {
                version,
                width,
                height,
            } = *self.images.get(&kind)?;
            let word = kind_word(kind);
            Some(RoomImage {
                url: format!("/api/rooms/{slug}/images/{word}?v={version:016x}"),
                width,
                height,
            })
        };
        protocol::Look {
            names: self.names,
            title: self.title.clone(),
            background: format!("#{:06x}", self.background),
            slate: self.slate.clone(),
            logo_corner: self.logo_corner,
            logo: image(ImageKind::Logo),
            background_image: image(ImageKind::Background),
            slate_image: image(ImageKind::Slate),
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
            logo_corner: Corner::default(),
            images: BTreeMap::new(),
        }
    }
}

/// Returns the word for a kind of image in paths and file names.
pub(crate) fn kind_word(kind: ImageKind) -> &'static str {
    match kind {
        ImageKind::Logo => "logo",
        ImageKind::Background => "background",
        ImageKind::Slate => "slate",
    }
}

fn clean(text: &str, what: &str, limit: usize) -> Result<String, Problem> {
    let text: String = text.chars().filter(|c| !is_hidden(*c)).collect();
    let text = text.trim();
    if text.chars().count() <= limit {
        return Ok(text.to_owned());
    }
    Err(Problem::new(
        ErrorCode::LookInvalid,
        format!("The {what} is longer than {limit} characters."),
    ))
}

fn colour(text: &str) -> Result<u32, Problem> {
    let digits = text
        .strip_prefix('#')
        .filter(|digits| digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let parsed = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
    parsed.ok_or_else(|| {
        Problem::new(
            ErrorCode::LookInvalid,
            "A colour is written as #rrggbb, such as #141821.",
        )
    })
}

const TITLE_LIMIT: usize = 100;
const SLATE_LIMIT: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_stays_and_what_is_wrong_changes_nothing() {
        let mut look = Look::default();
        let change = ChangeLook {
            title: Some(" A\u{202e} title\n".into()),
            background: Some("#FF8000".into()),
            ..ChangeLook::default()
        };
        look.change(&change).unwrap();
        let seen = look.shown("one");
        assert_eq!((&*seen.title, &*seen.background), ("A title", "#ff8000"));
        assert_eq!((seen.names, &*seen.slate), (true, "We will be right back"));
        let before = look.clone();
        for (title, background) in [
            (Some("x".repeat(101)), None),
            (None, Some("red")),
            (None, Some("#12345")),
            (None, Some("#+12345")),
            (Some("fine".into()), Some("#1234567")),
        ] {
            let change = ChangeLook {
                names: Some(false),
                title,
                background: background.map(str::to_owned),
                ..ChangeLook::default()
            };
            let refused = look.change(&change).unwrap_err();
            assert_eq!(refused.code, ErrorCode::LookInvalid, "{change:?}");
            assert_eq!(look, before, "{change:?}");
        }
    }

    #[test]
    fn what_was_kept_by_another_version_can_be_read() {
        assert_eq!(serde_json::from_str::<Look>("{}").unwrap(), Look::default());
        let newer = r#"{"title":"T","images":{"logo":{"version":7,"width":1,"height":2}},"new":1}"#;
        let look: Look = serde_json::from_str(newer).unwrap();
        let logo = look.shown("one").logo.unwrap();
        assert_eq!(logo.url, "/api/rooms/one/images/logo?v=0000000000000007");
    }
}
