//! Puts packets into the pipeline of their codec.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use sfu::{Codec, MediaKind};

use super::{Clock, Composer, GraphError, Hub, audio::Audio, hub::Due, video::Video};
use crate::{
    link::{Packet, Setup},
    preset::{Mode, Preset},
    process::NOTE,
    scene::Scene,
};

/// The pipelines of the broadcast that is arriving. A codec that changes gets a new one.
pub(crate) struct Intake {
    hub: Arc<Hub>,
    clock: Clock,
    mode: Mode,
    audio_only: bool,
    /// Whether there is no sound, not even silence.
    picture_only: bool,
    /// From the first scene on, if the job is a composed one.
    composer: Option<Composer>,
    audio_bitrate: u32,
    transcode_bitrate: u32,
    keyframe_interval: Duration,
    video: Option<Video>,
    /// The lower layers of what passes through, by rendition.
    layers: BTreeMap<u8, Video>,
    audio: Option<Audio>,
    /// What came last that there is no decoder for here.
    refused: Option<Codec>,
}

impl Intake {
    pub(crate) fn new(hub: Arc<Hub>, clock: Clock, setup: &Setup) -> Self {
        Self {
            hub,
            clock,
            mode: setup.mode,
            audio_only: setup.audio_only,
            picture_only: false,
            audio_bitrate: setup.audio_bitrate,
            transcode_bitrate: setup.transcode_bitrate,
            keyframe_interval: Duration::from_millis(setup.keyframe_interval_ms),
            composer: None,
            video: None,
            layers: BTreeMap::new(),
            audio: None,
            refused: None,
        }
    }

    /// Makes one for a track alone, in lane 0.
    pub(crate) fn of_track(hub: Arc<Hub>, clock: Clock, setup: &Setup, kind: MediaKind) -> Self {
        Self {
            mode: Mode::PassThrough,
            audio_only: kind == MediaKind::Audio,
            picture_only: kind == MediaKind::Video,
            ..Self::new(hub, clock, setup)
        }
    }

    /// Takes over what is to be composed. The first scene starts the composer.
    pub(crate) fn set_scene(&mut self, scene: Scene) -> Result<(), GraphError> {
        match (&mut self.composer, self.mode) {
            (_, Mode::PassThrough) => {}
            (Some(composer), Mode::Composed(_)) => composer.set_scene(scene),
            (None, Mode::Composed(preset)) => {
                let (hub, clock) = (self.hub.clone(), self.clock);
                let composer = Composer::start(preset, self.audio_bitrate, scene, hub, clock)?;
                eprintln!("{NOTE}composing with {}", composer.encoder());
                self.composer = Some(composer);
            }
        }
        Ok(())
    }

    /// Returns whether those who send are to be asked for a keyframe, once.
    pub(crate) fn take_keyframe_wanted(&mut self) -> bool {
        if let Some(composer) = &mut self.composer {
            return composer.take_keyframe_wanted();
        }
        let videos = self.video.iter().chain(self.layers.values());
        videos.filter(|video| video.take_keyframe_wanted()).count() > 0
    }

    /// Returns of which simulcast layer each lane's video is to be, so many below the top, if that has changed.
    pub(crate) fn take_layers(&mut self) -> Option<BTreeMap<u32, usize>> {
        self.composer.as_mut()?.take_layers()
    }

    /// Takes over what the composed picture is like.
    pub(crate) fn set_preset(&mut self, preset: Preset) -> Result<(), GraphError> {
        self.mode = Mode::Composed(preset);
        match &mut self.composer {
            Some(composer) => composer.set_preset(preset),
            None => Ok(()),
        }
    }

    /// Returns the codec of the broadcast's video if nothing is on air because it cannot be read.
    pub(crate) fn refused(&self) -> Option<Codec> {
        self.refused.filter(|_| self.hub.is_unreadable())
    }

    /// Returns whether the picture that passes through is in another codec than H.264, if there is one.
    pub(crate) fn is_foreign(&self) -> Option<bool> {
        let video = self.video.as_ref()?;
        Some(video.codec != Codec::H264)
    }

    /// Takes in a packet.
    pub(crate) fn push(&mut self, packet: &Packet<'_>) -> Result<(), GraphError> {
        let Some(time) = self.clock.running_time(packet.presentation_ns) else {
            return Ok(());
        };
        if let Mode::Composed(_) = self.mode {
            if let Some(composer) = &mut self.composer {
                composer.push(packet.lane, packet.codec, packet.rtp, time);
            }
            return Ok(());
        }
        let kind = packet.codec.kind();
        if self.audio_only && kind == MediaKind::Video {
            return Ok(());
        }
        if packet.lane > 0 {
            return self.push_layer(packet, time);
        }
        match kind {
            MediaKind::Video => self.push_video(packet, time),
            MediaKind::Audio => {
                self.hub.handle_packet(kind);
                self.audio()?.push(packet.rtp, time);
                Ok(())
            }
        }
    }

    fn push_video(&mut self, packet: &Packet<'_>, time: Duration) -> Result<(), GraphError> {
        let codec = packet.codec;
        if self.refused == Some(codec) {
            self.hub.handle_unreadable();
            return Ok(());
        }
        let video = match self.video.take_if(|video| video.codec == codec) {
            Some(video) => Ok(video),
            None => Video::start(codec, self.transcode_bitrate, &self.hub, &self.clock),
        };
        match video {
            Ok(video) => {
                self.refused = None;
                self.hub.handle_packet(MediaKind::Video);
                self.video.insert(video).push(packet.rtp, time);
                Ok(())
            }
            // Not every machine has a decoder for the others.
            Err(GraphError::Build(reason)) if codec != Codec::H264 => {
                eprintln!("{codec:?} cannot be read: {reason}");
                self.video = None;
                self.refused = Some(codec);
                self.hub.handle_unreadable();
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    /// Takes in a packet of a lower layer, which passes through or is left out.
    fn push_layer(&mut self, packet: &Packet<'_>, time: Duration) -> Result<(), GraphError> {
        let Some(rendition) = u8::try_from(packet.lane).ok().filter(|n| *n <= LAYER_LIMIT) else {
            return Ok(());
        };
        if packet.codec != Codec::H264 {
            self.layers.remove(&rendition);
            return Ok(());
        }
        let layer = match self.layers.remove(&rendition) {
            Some(layer) => layer,
            None => Video::start_layer(rendition, &self.hub, &self.clock)?,
        };
        self.layers
            .entry(rendition)
            .or_insert(layer)
            .push(packet.rtp, time);
        Ok(())
    }

    /// Does what is due: `None` when nothing is on air. A pipeline that has failed is made anew; what was
    /// wrong with it is returned.
    pub(crate) fn handle_timeout(&mut self, due: Option<Due>) -> Result<Vec<String>, GraphError> {
        if let Some(composer) = &mut self.composer {
            return composer.handle_timeout();
        }
        if let Mode::Composed(_) = self.mode {
            return Ok(Vec::new());
        }
        let mut failures = Vec::new();
        if let Some(failure) = self.video.as_ref().and_then(Video::failure) {
            self.video = None;
            failures.push(failure);
        }
        self.layers.retain(|_, layer| {
            let failure = layer.failure();
            let works = failure.is_none();
            failures.extend(failure);
            works
        });
        if let Some(failure) = self.audio.as_ref().and_then(Audio::failure) {
            self.audio = None;
            failures.push(failure);
        }
        match due {
            Some(due) => {
                if !self.picture_only {
                    self.audio()?.fill(due.since, due.sound_until);
                }
                if let Some(video) = &mut self.video {
                    video.force_keyframes(self.keyframe_interval, self.clock.now());
                }
            }
            None if self.hub.is_off() => {
                self.video = None;
                self.layers.clear();
                self.audio = None;
            }
            None => {}
        }
        Ok(failures)
    }

    fn audio(&mut self) -> Result<&Audio, GraphError> {
        let audio = match self.audio.take() {
            Some(audio) => audio,
            None => Audio::start(self.audio_bitrate, &self.hub, &self.clock)?,
        };
        Ok(self.audio.insert(audio))
    }
}

/// Lower layers than these are left out.
const LAYER_LIMIT: u8 = 4;
