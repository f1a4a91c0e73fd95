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
        match wish.mode() {
            None => Err(StartError::Preset),
            Some(Mode::PassThrough) if wish.layout.is_some() => Err(StartError::Preset),
            Some(_) => Ok(wish),
        }
    }

    /// Refuses thumbnails of what has no picture.
    pub(crate) fn check_thumbnails(&self, plan: &[Planned]) -> Result<(), StartError> {
        let is_sound = |track| matches!(track, Track::Microphone | Track::ScreenAudio);
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
        if change.layout.is_none() && change.preset.is_none() {
            return Ok(None);
        }
        let changed = Self {
            layout: change.layout.unwrap_or(self.layout),
            preset: change.preset.clone().or_else(|| self.preset.clone()),
            ..self.clone()
        };
        match (self.mode(), changed.mode()) {
            (_, None) => Err(StartError::Preset),
            (Some(Mode::Composed(_)), Some(Mode::Composed(_))) => Ok(Some(changed)),
            _ if change.preset.is_none() => Err(StartError::Preset),
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
