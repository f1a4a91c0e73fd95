//! What a job is to send, to whatever destinations.

use serde::{Deserialize, Serialize};
use sfu::TapVideo;

use crate::{
    preset::Mode,
    refusal::StartError,
    scene::Layout,
    status::{Change, DestinationType, Preset, PresetName, Request, Source, Track},
    supervisor::Planned,
};

/// A request without its destinations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wish {
    pub(crate) source: Source,
    pub(crate) audio_only: bool,
    pub(crate) preset: Option<Preset>,
    pub(crate) layout: Option<Layout>,
}

impl Wish {
    /// Takes it out of a request.
    pub(crate) fn of(request: &Request) -> Result<Self, StartError> {
        let wish = Self {
            source: request.source.clone(),
            audio_only: request.audio_only,
            preset: request.preset.clone(),
            layout: request.layout,
        };
        let identity = match &wish.source {
            Source::Program {} | Source::Stage {} => None,
            Source::Participant { identity } | Source::Track { identity, .. } => Some(identity),
        };
        let is_name = |name: &String| !name.trim().is_empty() && name.len() <= 128;
        if !identity.is_none_or(is_name) {
            return Err(StartError::Source);
        }
        if let (Source::Track { track, .. }, true) = (&wish.source, wish.audio_only)
            && !is_sound(*track)
        {
            return Err(StartError::Source);
        }
        wish.check_picture()?;
        Ok(wish)
    }

    /// Refuses presets that are out of range, also where they would not be used, and what does not go together.
    fn check_picture(&self) -> Result<(), StartError> {
        if self.layout.is_some() && !self.is_stage() {
            return Err(StartError::Layout);
        }
        let usable = match &self.preset {
            Some(Preset::Custom(custom)) => Mode::custom(custom).is_some(),
            Some(Preset::Named(_)) | None => true,
        };
        match self.mode() {
            Some(_) if usable => Ok(()),
            Some(_) | None => Err(StartError::Preset),
        }
    }

    /// Refuses thumbnails of what has no picture.
    pub(crate) fn check_thumbnails(&self, plan: &[Planned]) -> Result<(), StartError> {
        let silent = match self.source {
            Source::Track { track, .. } => is_sound(track),
            Source::Program {} | Source::Stage {} | Source::Participant { .. } => false,
        };
        let thumbnails = |planned: &Planned| planned.accepted.kind == DestinationType::Thumbnails;
        if (self.audio_only || silent) && plan.iter().any(thumbnails) {
            return Err(StartError::NoPicture);
        }
        Ok(())
    }

    /// Returns what it becomes by a change; `None` when the change does not touch it.
    pub(crate) fn changed(&self, change: &Change) -> Result<Option<Self>, StartError> {
        let changed = Self {
            layout: change.layout.unwrap_or(self.layout),
            preset: change.preset.clone().or_else(|| self.preset.clone()),
            ..self.clone()
        };
        if changed == *self {
            return Ok(None);
        }
        changed.check_picture()?;
        match (self.mode(), changed.mode()) {
            (Some(Mode::Composed(_)), Some(Mode::Composed(_))) => Ok(Some(changed)),
            _ => Err(StartError::PresetFixed),
        }
    }

    /// Returns how the picture is made; `None` for what [`Wish::of`] refuses.
    pub(crate) fn mode(&self) -> Option<Mode> {
        let is_stage = self.is_stage();
        match &self.preset {
            _ if self.audio_only && is_stage => Some(Mode::sound()),
            // Of one there is nothing to compose but its picture.
            _ if self.audio_only => Some(Mode::PassThrough),
            None if is_stage => Some(Mode::named(PresetName::P720p30)),
            None => Some(Mode::PassThrough),
            Some(Preset::Named(PresetName::PassThrough)) if is_stage => None,
            Some(Preset::Named(name)) => Some(Mode::named(*name)),
            Some(Preset::Custom(custom)) => Mode::custom(custom),
        }
    }

    /// Returns the preset as the API shows it.
    pub(crate) fn shown_preset(&self) -> Preset {
        let usual = if self.is_stage() {
            PresetName::P720p30
        } else {
            PresetName::PassThrough
        };
        self.preset.clone().unwrap_or(Preset::Named(usual))
    }

    pub(crate) fn is_stage(&self) -> bool {
        self.source == Source::Stage {}
    }

    /// Returns how much of the video is to come; `layers` says whether an output takes renditions.
    pub(crate) fn video(&self, layers: bool) -> TapVideo {
        match (self.audio_only, layers) {
            (true, _) => TapVideo::None,
            (false, true) => TapVideo::Layers,
            (false, false) => TapVideo::Best,
        }
    }
}

fn is_sound(track: Track) -> bool {
    matches!(track, Track::Microphone | Track::ScreenAudio)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::CustomPreset;

    fn request(source: Source, audio_only: bool, preset: Option<Preset>) -> Request {
        Request {
            source,
            audio_only,
            preset,
            layout: None,
            destinations: Vec::new(),
        }
    }

    fn custom(width: u32, bitrate_bps: u32) -> Preset {
        Preset::Custom(CustomPreset {
            width,
            height: 360,
            frame_rate: 30,
            bitrate_bps,
            keyframe_interval_ms: None,
        })
    }

    #[test]
    fn a_preset_that_is_out_of_range_is_refused_also_where_there_is_no_picture() {
        for source in [Source::Program {}, Source::Stage {}] {
            for audio_only in [false, true] {
                let of = |preset| Wish::of(&request(source.clone(), audio_only, Some(preset)));
                assert!(of(custom(640, 1_000_000)).is_ok(), "{source:?}");
                for wrong in [
                    custom(641, 1_000_000),
                    custom(62, 1_000_000),
                    custom(640, 99_999),
                ] {
                    let refused = matches!(of(wrong.clone()), Err(StartError::Preset));
                    assert!(refused, "{source:?}, {audio_only}: {wrong:?}");
                }
                let wish = of(custom(640, 1_000_000)).unwrap();
                let change = Change {
                    preset: Some(custom(641, 1_000_000)),
                    ..Change::default()
                };
                let refused = matches!(wish.changed(&change), Err(StartError::Preset));
                assert!(refused, "{source:?}, {audio_only}: a change");
            }
        }
    }

    #[test]
    fn a_layout_is_for_the_stage() {
        let one = Source::Participant {
            identity: "ann".to_owned(),
        };
        let composed = Preset::Named(PresetName::P720p30);
        let sources = [
            (Source::Stage {}, true),
            (Source::Program {}, false),
            (one, false),
        ];
        for (source, expected) in sources {
            let mut request = request(source, false, Some(composed.clone()));
            let wish = Wish::of(&request).unwrap();
            request.layout = Some(Layout::Grid);
            let asked = Wish::of(&request);
            assert_eq!(asked.is_ok(), expected, "{request:?}");
            let refused = matches!(asked, Err(StartError::Layout));
            assert_eq!(refused, !expected, "{request:?}");
            let change = |layout| Change {
                layout: Some(layout),
                ..Change::default()
            };
            let changed = wish.changed(&change(Some(Layout::Grid)));
            assert_eq!(changed.is_ok(), expected, "{request:?}");
            assert!(wish.changed(&change(None)).unwrap().is_none(), "as it is");
        }
    }
}
