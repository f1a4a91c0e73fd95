//! [`Composer`]: what comes in many lanes becomes one broadcast.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use gstreamer as gst;
use gstreamer_app as gst_app;
use sfu::{Codec, MediaKind};

use super::{
    Preset, crop,
    decoder::{Decoder, Listener},
    encoder::Encoder,
    fitting::Fitting,
    label::Label,
    lateness::Lateness,
    mixer::{Input, Mixer},
    stagehand::Stagehand,
    staging::Staging,
    wardrobe::{Dress, Wardrobe},
};
use crate::{
    pipeline::{Clock, GraphError, Hub, clock::clock_time},
    scene::Scene,
};

/// Composes a scene out of what comes in its lanes, and hands it to the hub.
pub(crate) struct Composer {
    preset: Preset,
    audio_bitrate: u32,
    hub: Arc<Hub>,
    clock: Clock,
    encoder: Encoder,
    stagehand: Arc<Stagehand>,
    mixer: Mixer,
    scene: Scene,
    wardrobe: Wardrobe,
    lanes: BTreeMap<LaneId, Lane>,
    /// By the lanes that belong together.
    lateness: BTreeMap<LaneId, Arc<Mutex<Lateness>>>,
    fitting: Fitting,
    keyframe_wanted: Arc<AtomicBool>,
    next_request: Duration,
    troubles: Vec<String>,
}

/// Numbers are of one kind: those of a source of one are the same for its picture and its sound.
type LaneId = (MediaKind, u32);

/// A lane that is shown or heard.
#[derive(Debug)]
struct Lane {
    input: Input,
    decoder: Option<Decoder>,
    /// When a decoder that failed is made anew, and how long the next one would have to wait.
    retry: Option<(Duration, Duration)>,
    /// Since when nobody wants it.
    idle: Option<Duration>,
}

/// Puts what a lane's decoder makes into the mixer.
#[derive(Debug, Clone)]
struct Feed {
    id: LaneId,
    source: gst_app::AppSrc,
    clock: Clock,
    stagehand: Arc<Stagehand>,
    lateness: Arc<Mutex<Lateness>>,
    keyframe_wanted: Arc<AtomicBool>,
}

impl Composer {
    /// Starts with the slate of `scene`.
    pub(crate) fn start(
        preset: Preset,
        audio_bitrate: u32,
        scene: Scene,
        hub: Arc<Hub>,
        clock: Clock,
    ) -> Result<Self, GraphError> {
        let encoder = Encoder::choose(&preset, &clock);
        let stagehand = Arc::new(Stagehand::new(Staging::new(
            preset.canvas(),
            preset.frame(),
        )));
        let mixer = Mixer::start(&preset, encoder, audio_bitrate, &stagehand, &hub, &clock)?;
        let mut composer = Self {
            preset,
            audio_bitrate,
            hub,
            clock,
            encoder,
            stagehand,
            mixer,
            scene: Scene::default(),
            wardrobe: Wardrobe::default(),
            lanes: BTreeMap::new(),
            lateness: BTreeMap::new(),
            fitting: Fitting::default(),
            keyframe_wanted: Arc::default(),
            next_request: Duration::ZERO,
            troubles: Vec::new(),
        };
        composer.scene = scene.clone();
        composer.dress();
        composer.stage(scene);
        composer.mixer.play(clock.now() + LEAD)?;
        Ok(composer)
    }

    /// Returns the encoder that is used.
    pub(crate) fn encoder(&self) -> Encoder {
        self.encoder
    }

    /// Has the encoder fail, as if it were this one.
    #[cfg(test)]
    pub(super) fn fail_encoder(&mut self, encoder: Encoder) {
        self.encoder = encoder;
        self.mixer.fail_encoder();
    }

    #[cfg(test)]
    pub(super) fn shown(&self) -> Vec<crate::layout::Place> {
        self.stagehand.shown()
    }

    /// Shows another scene from here on.
    pub(crate) fn set_scene(&mut self, scene: Scene) {
        let before = std::mem::replace(&mut self.scene, scene.clone());
        if Wardrobe::differ(&before.look, &self.scene.look) {
            let look = self.scene.look.clone();
            self.wardrobe.want(look, self.preset.canvas(), self.clock);
        }
        self.stage(scene);
    }

    /// Makes another picture from here on. Outputs see a gap of a moment and a new format.
    pub(crate) fn set_preset(&mut self, preset: Preset) -> Result<(), GraphError> {
        if preset == self.preset {
            return Ok(());
        }
        self.preset = preset;
        self.start_over()
    }

    /// Takes in a packet of the scene; others are ignored.
    pub(crate) fn push(&mut self, lane: u32, codec: Codec, rtp: &[u8], time: Duration) {
        let id = (codec.kind(), lane);
        let now = self.clock.now();
        if !self.lanes.contains_key(&id) && !self.open(id) {
            return;
        }
        self.hub.handle_input();
        let feed = self.feed(id);
        let (Some(lane), Some(feed)) = (self.lanes.get_mut(&id), feed) else {
            return;
        };
        if lane.retry.is_some_and(|(at, _)| now < at) {
            return;
        }
        if lane
            .decoder
            .as_ref()
            .is_none_or(|decoder| decoder.codec != codec)
        {
            // The old one first: what it still has would come between.
            lane.decoder = None;
            match Decoder::start(codec, &self.clock, feed) {
                Ok(decoder) => lane.decoder = Some(decoder),
                Err(e) => {
                    lane.fail(now);
                    self.troubles.push(format!("lane {}: {e}", id.1));
                }
            }
            self.keyframe_wanted.store(true, Ordering::Relaxed);
        }
        if lane
            .decoder
            .as_ref()
            .is_some_and(|decoder| decoder.push(rtp, time))
        {
            self.keyframe_wanted.store(true, Ordering::Relaxed);
        }
    }

    /// Returns whether a keyframe is wanted of those who send, once, and not too often.
    pub(crate) fn take_keyframe_wanted(&mut self) -> bool {
        let now = self.clock.now();
        if now < self.next_request || !self.keyframe_wanted.swap(false, Ordering::Relaxed) {
            return false;
        }
        self.next_request = now + REQUEST_GAP;
        true
    }

    /// Returns of which simulcast layer each lane's video is to be, so many below the top, if that has changed.
    pub(crate) fn take_layers(&mut self) -> Option<BTreeMap<u32, usize>> {
        self.fitting
            .look(&self.stagehand.extents(), self.clock.now())
    }

    /// Does what is due. A lane whose decoder has failed gets another one after a while; what was wrong is
    /// returned.
    ///
    /// # Errors
    /// When the encoder does not work either way.
    pub(crate) fn handle_timeout(&mut self) -> Result<Vec<String>, GraphError> {
        let now = self.clock.now();
        if let Some(failure) = self.mixer.failure() {
            self.troubles.push(failure);
            // The one that works everywhere.
            self.encoder = Encoder::X264;
            self.start_over()?;
        }
        for ((_, number), lane) in &mut self.lanes {
            if let Some(failure) = lane.decoder.as_ref().and_then(Decoder::failure) {
                lane.decoder = None;
                lane.fail(now);
                self.troubles.push(format!("lane {number}: {failure}"));
            }
        }
        if let Some(dress) = self.wardrobe.poll() {
            self.put_on(dress);
        }
        self.close_unused(now);
        self.write_captions();
        Ok(std::mem::take(&mut self.troubles))
    }

    /// Begins again with another mixer.
    fn start_over(&mut self) -> Result<(), GraphError> {
        self.lanes.clear();
        self.mixer.stop();
        let canvas = Staging::new(self.preset.canvas(), self.preset.frame());
        self.stagehand = Arc::new(Stagehand::new(canvas));
        self.mixer = Mixer::start(
            &self.preset,
            self.encoder,
            self.audio_bitrate,
            &self.stagehand,
            &self.hub,
            &self.clock,
        )?;
        self.dress();
        self.stage(self.scene.clone());
        self.keyframe_wanted.store(true, Ordering::Relaxed);
        self.mixer.play(self.clock.now() + LEAD)
    }

    fn stage(&mut self, scene: Scene) {
        let heard: Vec<LaneId> = lanes_of(&scene).collect();
        self.lateness.retain(|id, _| heard.contains(id));
        self.stagehand.set_scene(scene);
        self.write_captions();
    }

    /// Opens a lane if it is worth it.
    fn open(&mut self, id: LaneId) -> bool {
        if !self.is_wanted(id) {
            return false;
        }
        match self.mixer.add(id.0, id.1) {
            Ok(input) => {
                let lane = Lane {
                    input,
                    decoder: None,
                    retry: None,
                    idle: None,
                };
                self.lanes.insert(id, lane);
                true
            }
            Err(e) => {
                self.troubles.push(format!("lane {}: {e}", id.1));
                false
            }
        }
    }

    fn is_wanted(&self, (kind, number): LaneId) -> bool {
        match kind {
            MediaKind::Audio => self
                .scene
                .tiles
                .iter()
                .any(|tile| tile.audio.contains(&number)),
            MediaKind::Video => self.stagehand.wanted().contains(&number),
        }
    }

    /// Closes lanes that nobody has wanted for a moment: by then no picture shows them.
    fn close_unused(&mut self, now: Duration) {
        let ids: Vec<LaneId> = self.lanes.keys().copied().collect();
        for id in ids {
            let wanted = self.is_wanted(id);
            let Some(lane) = self.lanes.get_mut(&id) else {
                continue;
            };
            if wanted {
                lane.idle = None;
            } else if now > *lane.idle.get_or_insert(now) + IDLE
                && let Some(lane) = self.lanes.remove(&id)
            {
                drop(lane.decoder);
                self.mixer.remove(&lane.input, id.1);
            }
        }
    }

    /// Returns where the decoder of a lane puts what it makes.
    fn feed(&mut self, id: LaneId) -> Option<Feed> {
        let source = self.lanes.get(&id)?.input.source.clone();
        let family = family(&self.scene, id);
        Some(Feed {
            id,
            source,
            clock: self.clock,
            stagehand: self.stagehand.clone(),
            lateness: self.lateness.entry(family).or_default().clone(),
            keyframe_wanted: self.keyframe_wanted.clone(),
        })
    }

    /// Gets ready what the look consists of, and waits for it.
    fn dress(&mut self) {
        self.wardrobe.clear();
        let dress = Dress::of(&self.scene.look, self.preset.canvas(), &self.clock);
        if let Some(backdrop) = &dress.backdrop {
            // It needs something to begin with.
            self.mixer.set_slate(backdrop);
        }
        self.put_on(dress);
    }

    fn put_on(&mut self, dress: Dress) {
        if let Some(backdrop) = &dress.backdrop {
            self.mixer.set_backdrop(backdrop);
        }
        if let Some(slate) = &dress.slate {
            self.mixer.set_slate(slate);
        }
        self.stagehand.set_images(dress.logo, dress.slate.is_some());
        self.troubles.extend(dress.troubles);
    }

    /// Gets ready what is written and is not there yet.
    fn write_captions(&mut self) {
        for caption in self.stagehand.missing_captions() {
            let label = Label::of_text(&caption.text, &caption.style, &self.clock);
            let label = label.unwrap_or_else(|e| {
                self.troubles.push(e.to_string());
                None
            });
            self.stagehand.add_label(caption, label);
        }
    }
}

impl Lane {
    fn fail(&mut self, now: Duration) {
        let wait = self.retry.map_or(FIRST_RETRY, |(_, next)| next);
        self.retry = Some((now + wait, (wait * 2).min(LAST_RETRY)));
    }
}

impl Drop for Composer {
    fn drop(&mut self) {
        // Decoders first: what they push has then nowhere to come between.
        self.lanes.clear();
    }
}

impl Listener for Feed {
    fn handle_raw(&self, mut buffer: gst::Buffer, caps: &gst::Caps, time: Duration) {
        let time = self
            .lateness
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .handle_frame(time, self.clock.now());
        let raw = buffer.make_mut();
        raw.set_pts(clock_time(time));
        let (kind, lane) = self.id;
        if kind == MediaKind::Video {
            // It is shown until the next one comes.
            raw.set_duration(gst::ClockTime::NONE);
            let place = self.stagehand.handle_frame(lane, time, size(caps));
            if let Some((cut, caps)) = place.and_then(|place| crop::to(&buffer, caps, place)) {
                self.source.set_caps(Some(&caps));
                let _ = self.source.push_buffer(cut);
                return;
            }
        }
        self.source.set_caps(Some(caps));
        // Refused only when the lane is being closed.
        let _ = self.source.push_buffer(buffer);
    }

    fn handle_keyframe_wanted(&self) {
        self.keyframe_wanted.store(true, Ordering::Relaxed);
    }
}

fn size(caps: &gst::Caps) -> Option<(u32, u32)> {
    let picture = caps.structure(0)?;
    let pixels = |field| u32::try_from(picture.get::<i32>(field).ok()?).ok();
    Some((pixels("width")?, pixels("height")?))
}

/// Returns the lane by which all lanes of a tile go: they are delayed alike.
fn family(scene: &Scene, id: LaneId) -> LaneId {
    let (kind, number) = id;
    let tile = scene.tiles.iter().find(|tile| match kind {
        MediaKind::Audio => tile.audio.contains(&number),
        MediaKind::Video => tile.video == Some(number),
    });
    let picture = tile.and_then(|tile| tile.video);
    picture.map_or(id, |video| (MediaKind::Video, video))
}

fn lanes_of(scene: &Scene) -> impl Iterator<Item = LaneId> {
    scene.tiles.iter().flat_map(|tile| {
        let video = tile.video.map(|lane| (MediaKind::Video, lane));
        let audio = tile.audio.iter().map(|lane| (MediaKind::Audio, *lane));
        video.into_iter().chain(audio)
    })
}

/// By then the backdrop is there, as a rule, and pictures begin with the sound.
const LEAD: Duration = Duration::from_millis(100);
/// Longer than the mixer waits.
const IDLE: Duration = Duration::from_millis(500);
/// A publisher's browser ignores what comes sooner.
const REQUEST_GAP: Duration = Duration::from_millis(300);
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);
