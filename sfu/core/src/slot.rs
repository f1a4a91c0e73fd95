//! Which publication each slot shows, and what a viewer's m-line therefore receives.

use crate::{MediaKind, ParticipantId, PublicationId, publication::Publication};

/// What an m-line of a viewer receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// The room's program: the only m-line of its kind.
    Program(MediaKind),
    /// A slot of the stage.
    Slot(MediaKind, usize),
}

/// The slots of one kind of media. A publication keeps its slot for as long as it is on stage, and whoever
/// comes back finds the slot they had.
#[derive(Debug)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    shown: Option<PublicationId>,
    last: Option<Owner>,
}

/// Whose publication it is: the n-th of its kind of a participant, whichever peer sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    /// Who.
    pub(crate) participant: ParticipantId,
    /// Which of theirs.
    pub(crate) position: usize,
}

/// A publication and who sends it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    /// What is shown.
    pub(crate) publication: &'a Publication,
    /// Its sender, who may not want to receive it.
    pub(crate) participant: ParticipantId,
}

/// What all views of a room show at the time of a flush.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown<'a> {
    publications: &'a [Publication],
    program: [Option<Seen<'a>>; 2],
    video: [Option<Seen<'a>>; MAX_VIDEO_SLOTS],
    audio: [Option<Seen<'a>>; AUDIO_SLOTS],
}

impl View {
    /// Returns audio or video.
    pub(crate) fn kind(self) -> MediaKind {
        match self {
            Self::Program(kind) | Self::Slot(kind, _) => kind,
        }
    }
}

impl Slots {
    /// Creates empty slots.
    pub(crate) fn new(count: usize) -> Self {
        Self {
            slots: vec![Slot::default(); count],
        }
    }

    /// Changes the number of slots.
    pub(crate) fn resize(&mut self, count: usize) {
        self.slots.resize(count, Slot::default());
    }

    /// Makes the slots show exactly this.
    pub(crate) fn show(&mut self, shown: &[Option<PublicationId>]) {
        self.slots.resize(shown.len(), Slot::default());
        for (slot, shown) in self.slots.iter_mut().zip(shown) {
            slot.shown = *shown;
        }
    }

    /// Returns what each slot shows.
    pub(crate) fn shown(&self) -> impl ExactSizeIterator<Item = Option<PublicationId>> {
        self.slots.iter().map(|slot| slot.shown)
    }

    /// Returns whether a publication is in a slot.
    pub(crate) fn shows(&self, publication: PublicationId) -> bool {
        self.slots.iter().any(|s| s.shown == Some(publication))
    }

    /// Empties the slots whose publication is not to be shown any more. Returns whether there were any.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(PublicationId) -> bool) -> bool {
        let mut changed = false;
        for slot in &mut self.slots {
            if slot.shown.take_if(|shown| !keep(*shown)).is_some() {
                changed = true;
            }
        }
        changed
    }

    /// Puts a publication into an empty slot: the one its owner had, else one that nobody had, else the
    /// first. Returns whether there was one.
    pub(crate) fn fill(&mut self, publication: PublicationId, owner: Owner) -> bool {
        let rank = |slot: &Slot| match slot.last {
            Some(last) if last == owner => 0,
            None => 1,
            Some(_) => 2,
        };
        let empty = self.slots.iter_mut().filter(|slot| slot.shown.is_none());
        let Some(slot) = empty.min_by_key(|slot| rank(slot)) else {
            return false;
        };
        slot.shown = Some(publication);
        slot.last = Some(owner);
        true
    }

    /// Puts a publication into the slot of another one.
    pub(crate) fn replace(&mut self, before: PublicationId, by: PublicationId, owner: Owner) {
        let mut slots = self.slots.iter_mut();
        if let Some(slot) = slots.find(|slot| slot.shown == Some(before)) {
            slot.shown = Some(by);
            slot.last = Some(owner);
        }
    }
}

impl<'a> Shown<'a> {
    /// Shows nothing of these publications yet.
    pub(crate) fn new(publications: &'a [Publication]) -> Self {
        Self {
            publications,
            program: [None; 2],
            video: [None; MAX_VIDEO_SLOTS],
            audio: [None; AUDIO_SLOTS],
        }
    }

    /// Sets what a view shows.
    pub(crate) fn set(&mut self, view: View, publication: PublicationId, sender: ParticipantId) {
        let seen = self.find(publication).map(|publication| Seen {
            publication,
            participant: sender,
        });
        let place = match view {
            View::Program(MediaKind::Audio) => self.program.first_mut(),
            View::Program(MediaKind::Video) => self.program.last_mut(),
            View::Slot(MediaKind::Audio, slot) => self.audio.get_mut(slot),
            View::Slot(MediaKind::Video, slot) => self.video.get_mut(slot),
        };
        if let Some(place) = place {
            *place = seen;
        }
    }

    /// Returns what a view shows.
    pub(crate) fn get(&self, view: View) -> Option<Seen<'a>> {
        let place = match view {
            View::Program(MediaKind::Audio) => self.program.first(),
            View::Program(MediaKind::Video) => self.program.last(),
            View::Slot(MediaKind::Audio, slot) => self.audio.get(slot),
            View::Slot(MediaKind::Video, slot) => self.video.get(slot),
        };
        place.copied().flatten()
    }

    /// Returns a publication, shown or not.
    pub(crate) fn find(&self, publication: PublicationId) -> Option<&'a Publication> {
        self.publications.iter().find(|p| p.id == publication)
    }
}

/// Most video slots of a room.
pub(crate) const MAX_VIDEO_SLOTS: usize = 16;

/// As many speakers as are heard at a time.
pub(crate) const AUDIO_SLOTS: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(n: u64) -> Owner {
        Owner {
            participant: ParticipantId(n),
            position: 0,
        }
    }

    fn shown(slots: &Slots) -> Vec<u64> {
        slots.shown().map(|id| id.map_or(0, |id| id.0)).collect()
    }

    #[test]
    fn everybody_keeps_their_slot() {
        let mut slots = Slots::new(3);
        for n in [1, 2] {
            assert!(slots.fill(PublicationId(n), owner(n)));
        }
        assert!(slots.retain(|id| id != PublicationId(1)));
        assert_eq!(shown(&slots), [0, 2, 0], "the second stays where it is");
        assert!(slots.fill(PublicationId(3), owner(3)));
        assert_eq!(shown(&slots), [0, 2, 3], "the first one's place is kept");
        assert!(slots.fill(PublicationId(11), owner(1)));
        assert_eq!(shown(&slots), [11, 2, 3], "who came back has it again");
        assert!(!slots.fill(PublicationId(4), owner(4)));
        slots.replace(PublicationId(2), PublicationId(4), owner(4));
        assert_eq!(shown(&slots), [11, 4, 3]);
        assert!(!slots.retain(|_| true));
    }

    #[test]
    fn a_place_is_given_away_when_there_is_no_other() {
        let mut slots = Slots::new(1);
        slots.fill(PublicationId(1), owner(1));
        slots.retain(|_| false);
        assert!(slots.fill(PublicationId(2), owner(2)));
        assert_eq!(shown(&slots), [2]);
    }
}
