//! [`Stage`]: who is shown and heard: the slots, the program, the speakers.

use std::time::{Duration, Instant};

use crate::{
    MediaKind, ParticipantId, PublicationId,
    publication::Publication,
    slot::{AUDIO_SLOTS, MAX_VIDEO_SLOTS, Owner, Shown, Slots, View},
    speaker::{Floor, Voice},
};

/// Decides what the viewers of one room are shown.
#[derive(Debug)]
pub(crate) struct Stage {
    acts: Vec<Act>,
    video: Slots,
    audio: Slots,
    program: Program,
    floor: Floor,
    featured: Option<ParticipantId>,
    /// Whether something changed besides loudness.
    disturbed: bool,
    /// Whether what is shown is decided elsewhere.
    follows: bool,
    looked_at: Option<Instant>,
}

/// What is shown, by slot and in the program: what is decided at a room's home and repeated elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scene {
    video: Slotted,
    audio: Slotted,
    program: Program,
}

/// A publication, as far as the stage knows it.
#[derive(Clone, Copy, Debug)]
struct Act {
    publication: PublicationId,
    owner: Owner,
    kind: MediaKind,
    voice: Voice,
    /// Whether it could be started with once.
    ready: bool,
    last_packet: Option<Instant>,
}

/// What viewers with one m-line of a kind are shown: the featured video, and the audio to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Program {
    audio: Option<PublicationId>,
    video: Option<PublicationId>,
}

impl Default for Stage {
    fn default() -> Self {
        Self {
            acts: Vec::new(),
            video: Slots::new(STAGE_SIZE),
            audio: Slots::new(AUDIO_SLOTS),
            program: Program::default(),
            floor: Floor::default(),
            featured: None,
            disturbed: false,
            follows: false,
            looked_at: None,
        }
    }
}

impl Stage {
    /// Sets the number of video slots.
    pub(crate) fn resize(&mut self, video_slots: usize) {
        let count = video_slots.clamp(1, MAX_VIDEO_SLOTS);
        if count != self.video.shown().len() {
            self.video.resize(count);
            self.disturbed = true;
        }
    }

    /// Puts a participant into the picture whoever speaks, or nobody.
    pub(crate) fn feature(&mut self, participant: Option<ParticipantId>) {
        self.featured = participant;
        self.disturbed = true;
    }

    /// Takes in a publication. Those of a participant are told apart by the order of their m-lines.
    pub(crate) fn enter(&mut self, publication: &Publication, owner: Owner) {
        self.acts.push(Act {
            publication: publication.id,
            owner,
            kind: publication.kind(),
            voice: Voice::default(),
            ready: false,
            last_packet: None,
        });
    }

    /// Forgets a publication.
    pub(crate) fn exit(&mut self, publication: PublicationId) {
        self.acts.retain(|act| act.publication != publication);
        self.disturbed = true;
    }

    /// A packet of a publication came, with its audio level if it has one.
    pub(crate) fn hear(&mut self, publication: &Publication, level: Option<u8>, now: Instant) {
        let mut acts = self.acts.iter_mut();
        let Some(act) = acts.find(|act| act.publication == publication.id) else {
            return;
        };
        let was_flowing = act.is_flowing(now);
        act.last_packet = Some(now);
        if let Some(level) = level {
            act.voice.hear(level, now);
        }
        let is_new = !act.ready && publication.is_ready();
        act.ready |= is_new;
        self.disturbed |= is_new || !was_flowing;
    }

    /// The sender of a publication said that it stopped.
    pub(crate) fn stop(&mut self, publication: PublicationId) {
        let mut acts = self.acts.iter_mut();
        if let Some(act) = acts.find(|act| act.publication == publication) {
            act.last_packet = None;
            self.disturbed = true;
        }
    }

    /// Returns whether anything came of a publication lately: of a still screen or during silence it is little.
    pub(crate) fn is_flowing(&self, publication: PublicationId, now: Instant) -> bool {
        self.find(publication).is_some_and(|a| a.is_flowing(now))
    }

    /// Decides anew. Returns whether what is shown has changed.
    pub(crate) fn arrange(&mut self, now: Instant) -> bool {
        if self.follows {
            return std::mem::take(&mut self.disturbed);
        }
        let is_due = |at: Instant| now.saturating_duration_since(at) >= LOOK;
        let may_change = self.acts.len() > 1 && self.looked_at.is_none_or(is_due);
        if !self.disturbed && !may_change {
            return false;
        }
        self.disturbed = false;
        self.looked_at = Some(now);
        let before = self.program;
        self.choose_program(now);
        let mut changed = self.program != before;
        changed |= self.seat_videos(now);
        changed |= self.seat_voices(now);
        changed
    }

    /// Returns what each video slot shows, what each audio slot does, and the featured video.
    pub(crate) fn layout(&self) -> (Slotted, Slotted, Option<PublicationId>) {
        let (video, audio) = (self.video.shown(), self.audio.shown());
        (video.collect(), audio.collect(), self.program.video)
    }

    /// Returns what is shown if it is not this already.
    pub(crate) fn differs(&self, scene: Option<&Scene>) -> Option<Scene> {
        let is_same = scene.is_some_and(|scene| {
            self.program == scene.program
                && self.video.shown().eq(scene.video.iter().copied())
                && self.audio.shown().eq(scene.audio.iter().copied())
        });
        (!is_same).then(|| Scene {
            video: self.video.shown().collect(),
            audio: self.audio.shown().collect(),
            program: self.program,
        })
    }

    /// Shows what is shown elsewhere, from now on.
    pub(crate) fn follow(&mut self, scene: &Scene) {
        self.follows = true;
        self.video.show(&scene.video);
        self.audio.show(&scene.audio);
        self.program = scene.program;
        self.disturbed = true;
    }

    /// Returns whose publication it is.
    pub(crate) fn owner_of(&self, publication: PublicationId) -> Option<Owner> {
        Some(self.find(publication)?.owner)
    }

    /// Returns whether a view shows anything.
    pub(crate) fn get(&self, view: View) -> Option<PublicationId> {
        match view {
            View::Program(MediaKind::Audio) => self.program.audio,
            View::Program(MediaKind::Video) => self.program.video,
            View::Slot(MediaKind::Audio, slot) => self.audio.shown().nth(slot).flatten(),
            View::Slot(MediaKind::Video, slot) => self.video.shown().nth(slot).flatten(),
        }
    }

    /// Looks up what all views show.
    pub(crate) fn show<'a>(&self, publications: &'a [Publication]) -> Shown<'a> {
        let program = [MediaKind::Audio, MediaKind::Video].map(View::Program);
        let audio = (0..AUDIO_SLOTS).map(|slot| View::Slot(MediaKind::Audio, slot));
        let video = (0..self.video.shown().len()).map(|slot| View::Slot(MediaKind::Video, slot));
        let mut shown = Shown::new(publications);
        for view in program.into_iter().chain(audio).chain(video) {
            if let Some(publication) = self.get(view)
                && let Some(act) = self.find(publication)
            {
                shown.set(view, publication, act.owner.participant);
            }
        }
        shown
    }

    /// Returns the publication of a participant that represents them: the last of their m-lines that flows,
    /// which is the screen while it is shared.
    pub(crate) fn best_of(
        &self,
        participant: ParticipantId,
        kind: MediaKind,
        now: Instant,
    ) -> Option<PublicationId> {
        let theirs = self
            .ready(kind)
            .filter(|a| a.owner.participant == participant);
        let rank = |act: &&Act| {
            let position = act.owner.position;
            // Of sound the first is the voice.
            let position = match kind {
                MediaKind::Audio => usize::MAX - position,
                MediaKind::Video => position,
            };
            (act.is_flowing(now), position, act.publication)
        };
        theirs.max_by_key(rank).map(|act| act.publication)
    }

    /// Returns the n-th publication of a kind of a participant, by the order of their m-lines. Of several peers
    /// the newest one counts.
    pub(crate) fn nth_of(
        &self,
        participant: ParticipantId,
        kind: MediaKind,
        position: usize,
    ) -> Option<PublicationId> {
        let owner = Owner {
            participant,
            position,
        };
        let theirs = self
            .acts
            .iter()
            .filter(|a| a.kind == kind && a.owner == owner);
        let newest = theirs.max_by_key(|act| (act.ready, act.publication));
        newest.map(|act| act.publication)
    }

    /// Returns everything that could be shown or heard.
    pub(crate) fn performing(&self) -> impl Iterator<Item = (PublicationId, MediaKind)> {
        let ready = self.acts.iter().filter(|act| act.ready);
        ready.map(|act| (act.publication, act.kind))
    }

    /// Returns whether a video has a slot.
    pub(crate) fn is_shown(&self, publication: PublicationId) -> bool {
        self.video.shows(publication)
    }

    /// The featured participant if there is one, else who speaks, else who was in the picture, else the newest.
    fn choose_program(&mut self, now: Instant) {
        let video_of = |this: &Self, who| this.best_of(who, MediaKind::Video, now);
        let holder = self.floor.holder().filter(|who| self.sends_video(*who));
        let pinned = self.featured.filter(|who| video_of(self, *who).is_some());
        match (pinned, holder) {
            (Some(pinned), _) => self.floor.give(Some(pinned), now),
            (None, Some(holder)) => {
                let by = self.challenger(holder, now);
                self.floor.challenge(by, now);
            }
            (None, None) => {
                let heir = self.latest_speaker().or_else(|| self.newest());
                self.floor.give(heir, now);
            }
        }
        let featured = self.floor.holder();
        self.program.video = featured.and_then(|who| video_of(self, who));
        self.program.audio = self.choose_audio(featured, now);
    }

    /// Returns the loudest of those who have video and displace the holder.
    fn challenger(&self, holder: ParticipantId, now: Instant) -> Option<ParticipantId> {
        let held = self.voice_of(holder, now);
        let loudest = self
            .voices()
            .filter(|a| a.owner.participant != holder && a.voice.displaces(&held, now))
            .filter(|a| a.voice.holds_forth() && self.has_video(a.owner.participant))
            .max_by_key(|a| a.voice.loudness(now));
        loudest.map(|act| act.owner.participant)
    }

    /// The featured participant is heard, unless only somebody else speaks. Nobody is cut short.
    fn choose_audio(&self, featured: Option<ParticipantId>, now: Instant) -> Option<PublicationId> {
        let featured = featured.and_then(|who| self.best_of(who, MediaKind::Audio, now));
        let present = self.program.audio.filter(|id| self.find(*id).is_some());
        let speaks = |id: &PublicationId| self.find(*id).is_some_and(|a| a.voice.is_speaking(now));
        let loudest = self
            .voices()
            .filter(|act| act.voice.is_speaking(now))
            .max_by_key(|act| act.voice.loudness(now));
        let newest = || self.voices().map(|act| act.publication).max();
        featured
            .filter(speaks)
            .or_else(|| present.filter(speaks))
            .or_else(|| loudest.map(|act| act.publication))
            .or(featured)
            .or(present)
            .or_else(newest)
    }

    /// Gives every video a slot; if there are too few, to those of the featured participant and of who
    /// spoke lately.
    fn seat_videos(&mut self, now: Instant) -> bool {
        let Self { acts, video, .. } = self;
        let is_ready = |id| acts.iter().any(|act| act.publication == id && act.ready);
        let mut changed = video.retain(is_ready);
        let rank = |act: &Act| {
            let who = act.owner.participant;
            let theirs = acts.iter().filter(|a| a.owner.participant == who);
            let spoke = theirs.filter_map(|a| a.voice.spoke()).max();
            (self.featured == Some(who), spoke)
        };
        let is_video = |act: &&Act| act.ready && act.kind == MediaKind::Video;
        loop {
            let outside = acts.iter().filter(is_video);
            let outside = outside.filter(|act| !video.shows(act.publication));
            let Some(next) = outside.max_by_key(|a| (rank(a), std::cmp::Reverse(a.publication)))
            else {
                return changed;
            };
            if video.fill(next.publication, next.owner) {
                changed = true;
                continue;
            }
            let inside = acts.iter().filter(|act| video.shows(act.publication));
            let Some(last) = inside.min_by_key(|act| (rank(act), act.publication)) else {
                return changed;
            };
            let ((pinned, spoke), (last_pinned, last_spoke)) = (rank(next), rank(last));
            let speaks = spoke.is_some_and(|at| now.saturating_duration_since(at) < LATELY);
            let is_later = spoke > last_spoke.map(|at| at + LATELY);
            if last_pinned || !(pinned || speaks && is_later) {
                return changed;
            }
            video.replace(last.publication, next.publication, next.owner);
            changed = true;
        }
    }

    /// Gives the loudest voices a slot.
    fn seat_voices(&mut self, now: Instant) -> bool {
        let Self { acts, audio, .. } = self;
        let is_ready = |id| acts.iter().any(|act| act.publication == id && act.ready);
        let mut changed = audio.retain(is_ready);
        let is_voice = |act: &&Act| act.ready && act.kind == MediaKind::Audio;
        loop {
            let outside = acts.iter().filter(is_voice);
            let outside = outside.filter(|act| !audio.shows(act.publication));
            let loudness = |act: &&Act| {
                let speaks = act.voice.is_speaking(now);
                (speaks, act.voice.loudness(now), act.voice.spoke())
            };
            let Some(next) = outside.max_by_key(loudness) else {
                return changed;
            };
            if audio.fill(next.publication, next.owner) {
                changed = true;
                continue;
            }
            let inside = acts.iter().filter(|act| audio.shows(act.publication));
            let Some(quietest) = inside.min_by_key(loudness) else {
                return changed;
            };
            if !next.voice.displaces(&quietest.voice, now) {
                return changed;
            }
            audio.replace(quietest.publication, next.publication, next.owner);
            changed = true;
        }
    }

    fn find(&self, publication: PublicationId) -> Option<&Act> {
        self.acts.iter().find(|act| act.publication == publication)
    }

    fn ready(&self, kind: MediaKind) -> impl Iterator<Item = &Act> {
        let acts = self.acts.iter();
        acts.filter(move |act| act.ready && act.kind == kind)
    }

    fn voices(&self) -> impl Iterator<Item = &Act> {
        self.ready(MediaKind::Audio)
    }

    /// Returns whether a participant has video, or is about to: one who reloads stays in the picture.
    fn sends_video(&self, participant: ParticipantId) -> bool {
        let mut theirs = self.acts.iter();
        theirs.any(|a| a.owner.participant == participant && a.kind == MediaKind::Video)
    }

    fn has_video(&self, participant: ParticipantId) -> bool {
        let mut videos = self.ready(MediaKind::Video);
        videos.any(|act| act.owner.participant == participant)
    }

    fn voice_of(&self, participant: ParticipantId, now: Instant) -> Voice {
        let theirs = self.voices().filter(|a| a.owner.participant == participant);
        let loudest = theirs.max_by_key(|act| act.voice.loudness(now));
        loudest.map(|act| act.voice).unwrap_or_default()
    }

    fn latest_speaker(&self) -> Option<ParticipantId> {
        let voices = self.voices().filter(|a| a.voice.spoke().is_some());
        let voices = voices.filter(|act| self.has_video(act.owner.participant));
        let latest = voices.max_by_key(|act| act.voice.spoke());
        latest.map(|act| act.owner.participant)
    }

    fn newest(&self) -> Option<ParticipantId> {
        let newest = self.ready(MediaKind::Video).max_by_key(|a| a.publication);
        newest.map(|act| act.owner.participant)
    }
}

impl Act {
    fn is_flowing(&self, now: Instant) -> bool {
        self.last_packet
            .is_some_and(|at| now.saturating_duration_since(at) < SILENT)
    }
}

/// What each slot of a kind shows.
type Slotted = Vec<Option<PublicationId>>;

/// Video slots of a room that says nothing else.
pub(crate) const STAGE_SIZE: usize = 9;

/// How often loudness is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// How long a place on a crowded stage is kept after the last word, and how soon after one it is taken.
const LATELY: Duration = Duration::from_secs(2);

/// Screens that stand still send a picture a second, silent microphones a packet every 400 ms.
const SILENT: Duration = Duration::from_secs(5);
