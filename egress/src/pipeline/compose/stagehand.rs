//! Sets up every picture that goes out as [`Staging`] has decided: pads and captions change between two pictures,
//! all at once.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_video as gst_video;

use super::{
    fitting::Extent,
    label::{Label, Style},
    staging::{Plan, Staging},
};
use crate::{
    layout::{Canvas, Place, Rect},
    scene::{Corner, Scene},
};

/// Shared by the mixer, which asks it before each picture, and the composer, which tells it what there is.
#[derive(Debug)]
pub(crate) struct Stagehand {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    staging: Staging,
    pads: BTreeMap<u32, gst::Pad>,
    /// Of the pictures that come in.
    sizes: BTreeMap<u32, (u32, u32)>,
    /// Shows the slate's image, if it has one.
    slate: Option<gst::Pad>,
    labels: BTreeMap<Caption, Option<Label>>,
    logo: Option<Label>,
    has_slate_image: bool,
    shown: Plan,
    /// Whether what is shown has to be set up again, although the plan is the same.
    stale: bool,
    overlay: Option<gst_video::VideoOverlayComposition>,
}

/// A line of text of a certain size.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Caption {
    pub(crate) text: String,
    pub(crate) style: Style,
}

/// Where a caption stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spot {
    LowerLeft(Place),
    UpperLeft,
    Middle,
}

impl Stagehand {
    pub(crate) fn new(staging: Staging) -> Self {
        Self {
            state: Mutex::new(State {
                staging,
                pads: BTreeMap::new(),
                sizes: BTreeMap::new(),
                slate: None,
                labels: BTreeMap::new(),
                logo: None,
                has_slate_image: false,
                shown: Plan::default(),
                stale: true,
                overlay: None,
            }),
        }
    }

    pub(crate) fn set_scene(&self, scene: Scene) {
        let mut state = self.lock();
        state.staging.set_scene(scene);
        state.stale = true;
    }

    /// Takes in that a lane has a decoded picture of this size for `time`; returns where it is shown.
    pub(crate) fn handle_frame(
        &self,
        lane: u32,
        time: Duration,
        size: Option<(u32, u32)>,
    ) -> Option<Rect> {
        let mut state = self.lock();
        state.staging.handle_frame(lane, time);
        if let Some(size) = size
            && state.sizes.insert(lane, size) != Some(size)
        {
            state.stale = true;
        }
        let mut places = state.shown.places.iter();
        Some(places.find(|place| place.lane == lane)?.rect)
    }

    /// Returns where lanes are to be shown, and how large the pictures are that come in them.
    pub(crate) fn extents(&self) -> Vec<Extent> {
        let state = self.lock();
        let places = state.staging.wanted().into_iter();
        let extents = places.map(|place| Extent {
            lane: place.lane,
            place: (place.rect.width, place.rect.height),
            picture: state.sizes.get(&place.lane).copied(),
        });
        extents.collect()
    }

    /// Takes a lane's pad into use, or the new one of a lane that had one.
    pub(crate) fn add_pad(&self, lane: u32, pad: gst::Pad) {
        let mut state = self.lock();
        state.pads.insert(lane, pad);
        state.stale = true;
    }

    /// Forgets a lane, whose pad is about to go.
    pub(crate) fn remove(&self, lane: u32) {
        let mut state = self.lock();
        state.pads.remove(&lane);
        state.sizes.remove(&lane);
        state.staging.remove(lane);
    }

    pub(crate) fn set_slate_pad(&self, pad: gst::Pad) {
        self.lock().slate = Some(pad);
    }

    /// Changes the images that are laid over: the logo, and whether there is one for the slate.
    pub(crate) fn set_images(&self, logo: Option<Label>, has_slate_image: bool) {
        let mut state = self.lock();
        state.logo = logo;
        state.has_slate_image = has_slate_image;
        state.stale = true;
    }

    /// Returns the lanes worth decoding: who is shown, and who would be if they had come.
    pub(crate) fn wanted(&self) -> Vec<u32> {
        let state = self.lock();
        let wanted = state.staging.wanted().into_iter();
        let shown = state.shown.places.iter().copied();
        wanted.chain(shown).map(|place| place.lane).collect()
    }

    #[cfg(test)]
    pub(super) fn shown(&self) -> Vec<Place> {
        self.lock().shown.places.clone()
    }

    /// Returns the captions that there is no picture of, and forgets those that nobody needs.
    pub(crate) fn missing_captions(&self) -> Vec<Caption> {
        let mut state = self.lock();
        let scene = state.staging.scene();
        let canvas = state.staging.canvas();
        let likely = Plan {
            places: state.staging.wanted(),
        };
        let plans = [&likely, &state.shown, &Plan::default()];
        let needed: Vec<Caption> = plans
            .into_iter()
            .flat_map(|plan| captions(scene, canvas, plan))
            .map(|(caption, _)| caption)
            .collect();
        state.labels.retain(|caption, _| needed.contains(caption));
        let mut missing = needed;
        missing.sort();
        missing.dedup();
        missing.retain(|caption| !state.labels.contains_key(caption));
        missing
    }

    /// Takes in the picture of a caption.
    pub(crate) fn add_label(&self, caption: Caption, label: Option<Label>) {
        let mut state = self.lock();
        state.labels.insert(caption, label);
        state.stale = true;
    }

    /// Sets up the picture that is shown at `at`. Called by the mixer, before it mixes.
    pub(crate) fn handle_picture(&self, at: Duration) {
        let mut state = self.lock();
        let plan = state.staging.plan(at);
        if plan == state.shown && !state.stale {
            return;
        }
        state.stale = false;
        state.shown = plan;
        state.place();
        state.overlay = state.compose_overlay();
    }

    /// Returns what is laid over the present picture.
    pub(crate) fn overlay(&self) -> Option<gst_video::VideoOverlayComposition> {
        self.lock().overlay.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn place(&self) {
        for (lane, pad) in &self.pads {
            let places = &self.shown.places;
            let Some(place) = places.iter().find(|place| place.lane == *lane) else {
                pad.set_property("alpha", 0.0_f64);
                continue;
            };
            let rect = place.rect;
            let pixels = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
            pad.set_property("xpos", pixels(rect.x));
            pad.set_property("ypos", pixels(rect.y));
            pad.set_property("width", pixels(rect.width));
            pad.set_property("height", pixels(rect.height));
            pad.set_property("zorder", FRONT + place.depth);
            pad.set_property("alpha", 1.0_f64);
        }
        if let Some(slate) = &self.slate {
            let is_slate = self.shown.places.is_empty() && self.has_slate_image;
            slate.set_property("alpha", if is_slate { 1.0 } else { 0.0_f64 });
        }
    }

    fn compose_overlay(&self) -> Option<gst_video::VideoOverlayComposition> {
        let canvas = self.staging.canvas();
        let margin = margin(canvas);
        let mut rectangles = Vec::new();
        let logo = self.logo_place();
        if let (Some(label), Some(place)) = (&self.logo, logo) {
            rectangles.push(rectangle(label, place.x, place.y));
        }
        for (caption, spot) in captions(self.staging.scene(), canvas, &self.shown) {
            if spot == Spot::Middle && self.has_slate_image {
                continue;
            }
            let Some(Some(label)) = self.labels.get(&caption) else {
                continue;
            };
            let (x, y) = match spot {
                Spot::UpperLeft => {
                    let logo = logo.filter(|logo| logo.x == margin && logo.y == margin);
                    (
                        logo.map_or(margin, |logo| logo.x + logo.width + margin),
                        margin,
                    )
                }
                Spot::Middle => (
                    canvas.width.saturating_sub(label.width) / 2,
                    canvas.height.saturating_sub(label.height) / 2,
                ),
                Spot::LowerLeft(place) => {
                    let rect = self.fitted(&place);
                    let inside = margin / 2;
                    let bottom = (rect.y + rect.height).saturating_sub(label.height + inside);
                    // One that is wider than its picture is in the middle of it.
                    let spare = (rect.width / 2).saturating_sub(label.width / 2);
                    let left = (rect.x + rect.width / 2).saturating_sub(label.width / 2);
                    let left = if spare < inside {
                        left
                    } else {
                        rect.x + inside
                    };
                    // A logo that would hide it is not written over.
                    let hidden = logo.filter(|logo| {
                        left < logo.x + logo.width
                            && logo.x < left + label.width
                            && bottom < logo.y + logo.height
                            && logo.y < bottom + label.height
                    });
                    let beside = hidden.map(|logo| logo.x + logo.width + inside);
                    (beside.unwrap_or(left), bottom)
                }
            };
            rectangles.push(rectangle(label, x, y));
        }
        gst_video::VideoOverlayComposition::new(&rectangles).ok()
    }

    /// Returns where the logo is.
    fn logo_place(&self) -> Option<Rect> {
        let (canvas, logo) = (self.staging.canvas(), self.logo.as_ref()?);
        let margin = margin(canvas);
        let right = canvas.width.saturating_sub(logo.width + margin);
        let low = canvas.height.saturating_sub(logo.height + margin);
        let (x, y) = match self.staging.scene().look.logo_corner {
            Corner::UpperLeft => (margin, margin),
            Corner::UpperRight => (right, margin),
            Corner::LowerLeft => (margin, low),
            Corner::LowerRight => (right, low),
        };
        let (width, height) = (logo.width, logo.height);
        Some(Rect {
            x,
            y,
            width,
            height,
        })
    }

    /// Returns the part of its place that a picture covers.
    fn fitted(&self, place: &Place) -> Rect {
        let rect = place.rect;
        match self.sizes.get(&place.lane) {
            Some((width, height)) => rect.fit(*width, *height),
            None => rect,
        }
    }
}

/// Returns what is written in a picture.
fn captions(scene: &Scene, canvas: Canvas, plan: &Plan) -> Vec<(Caption, Spot)> {
    let look = &scene.look;
    let caption = |text: &str, size: u32, width: u32, plate| Caption {
        text: text.trim().to_owned(),
        style: Style { size, width, plate },
    };
    let edge = canvas.width.min(canvas.height);
    let mut all = Vec::new();
    if look.names {
        for place in &plan.places {
            let tiles = scene.tiles.iter();
            let mut theirs = tiles.filter(|tile| tile.video == Some(place.lane));
            let name = theirs.next().map_or("", |tile| tile.name.as_str());
            // Never larger than the title.
            let size = (place.rect.height / 18).min(edge / 28).max(12);
            let width = place.rect.width.saturating_sub(margin(canvas));
            all.push((caption(name, size, width, true), Spot::LowerLeft(*place)));
        }
    }
    let width = canvas.width * 3 / 5;
    all.push((
        caption(&look.title, (edge / 24).max(12), width, true),
        Spot::UpperLeft,
    ));
    if plan.places.is_empty() {
        let width = canvas.width * 9 / 10;
        all.push((
            caption(&look.slate, (edge / 16).max(12), width, false),
            Spot::Middle,
        ));
    }
    all.retain(|(caption, _)| !caption.text.is_empty());
    all
}

fn rectangle(label: &Label, x: u32, y: u32) -> gst_video::VideoOverlayRectangle {
    let pixels = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    gst_video::VideoOverlayRectangle::new_raw(
        &label.buffer,
        pixels(x),
        pixels(y),
        label.width,
        label.height,
        gst_video::VideoOverlayFormatFlags::PREMULTIPLIED_ALPHA,
    )
}

fn margin(canvas: Canvas) -> u32 {
    canvas.width.min(canvas.height) / 30
}

/// In front of background and slate.
const FRONT: u32 = 2;
