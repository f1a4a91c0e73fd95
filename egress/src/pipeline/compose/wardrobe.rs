//! [`Wardrobe`]: gets the images of a look ready beside the composer, which goes on meanwhile.

use std::{
    sync::mpsc::{Receiver, TryRecvError, sync_channel},
    thread,
};

use gstreamer as gst;

use super::{
    label::Label,
    picture::{self, Fit, PictureError},
};
use crate::{
    layout::Canvas,
    pipeline::Clock,
    scene::{Image, Look},
};

/// What is behind and over the pictures, ready to be shown.
#[derive(Debug, Default)]
pub(super) struct Dress {
    /// Nothing when not even the colour can be made.
    pub(super) backdrop: Option<gst::Sample>,
    pub(super) slate: Option<gst::Sample>,
    pub(super) logo: Option<Label>,
    /// What was wrong; what it was about is left out.
    pub(super) troubles: Vec<String>,
}

/// Gets one look ready at a time. Of those that are wanted meanwhile only the last is.
#[derive(Debug, Default)]
pub(super) struct Wardrobe {
    fitting: Option<Receiver<Dress>>,
    next: Option<(Look, Canvas, Clock)>,
}

impl Dress {
    /// Reads and fits what a look consists of; takes a while.
    pub(super) fn of(look: &Look, canvas: Canvas, clock: &Clock) -> Self {
        let mut dress = Self::default();
        let image = |file: &Option<Image>, fit| {
            let file = file.as_ref()?;
            Some(picture::image(file, fit, canvas, clock))
        };
        let background = image(&look.background_image, Fit::Cover);
        dress.backdrop = dress
            .note(background)
            .or_else(|| dress.note(Some(picture::colour(look.background, canvas, clock))));
        dress.slate = dress.note(image(&look.slate_image, Fit::Contain));
        let logo = look.logo.as_ref();
        dress.logo = dress.note(logo.map(|file| picture::logo(file, canvas, clock)));
        dress
    }

    fn note<T>(&mut self, outcome: Option<Result<T, PictureError>>) -> Option<T> {
        outcome?.map_err(|e| self.troubles.push(e.to_string())).ok()
    }
}

impl Wardrobe {
    /// Returns whether another look needs other images.
    pub(super) fn differ(a: &Look, b: &Look) -> bool {
        let images = |look: &Look| {
            let Look {
                background,
                background_image,
                logo,
                slate_image,
                ..
            } = look.clone();
            (background, background_image, logo, slate_image)
        };
        images(a) != images(b)
    }

    /// Begins to get a look ready; [`Self::poll`] returns it.
    pub(super) fn want(&mut self, look: Look, canvas: Canvas, clock: Clock) {
        self.next = Some((look, canvas, clock));
        self.begin();
    }

    /// Returns the look that is ready, once.
    pub(super) fn poll(&mut self) -> Option<Dress> {
        let ready = match self.fitting.as_ref()?.try_recv() {
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => None,
            Ok(dress) => Some(dress),
        };
        self.fitting = None;
        self.begin();
        ready
    }

    /// Forgets what is not ready yet.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn begin(&mut self) {
        if self.fitting.is_some() {
            return;
        }
        if let Some((look, canvas, clock)) = self.next.take() {
            let (done, ready) = sync_channel(1);
            thread::spawn(move || done.send(Dress::of(&look, canvas, &clock)));
            self.fitting = Some(ready);
        }
    }
}
