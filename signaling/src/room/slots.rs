//! What the slots of a room's viewers carry.

use std::sync::Arc;

use sfu::{MediaKind, PublicationId};

use super::Room;
use crate::{
    auth::Member,
    look::Look,
    protocol::{Layout, Slot, TrackKind},
};

/// A publication and whose it is.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) kind: MediaKind,
    pub(super) member: Arc<Member>,
}

/// Which publication each slot of the room's viewers carries, as the SFU says.
#[derive(Debug, Default)]
pub(crate) struct Bindings {
    pub(crate) video: Vec<Option<PublicationId>>,
    pub(crate) audio: Vec<Option<PublicationId>>,
    pub(crate) program: Option<PublicationId>,
}

/// The same, as members see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slots {
    pub(crate) video: Vec<Option<Slot>>,
    pub(crate) audio: Vec<Option<Slot>>,
    pub(crate) program: Option<String>,
}

/// Who can be seen and heard on a stage, for those who compose a picture of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Performance {
    /// The host first, then by arrival.
    pub performers: Vec<Performer>,
    /// The picture that is to be shown large.
    pub main: Option<PublicationId>,
    /// How the pictures are arranged.
    pub layout: Layout,
    /// What is around and over them.
    pub look: Look,
}

/// Somebody on stage, and what they send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Performer {
    /// Who it is.
    pub identity: String,
    /// The name shown.
    pub name: String,
    /// Their pictures: the camera or, see `screen`, what is in its place; then a screen beside it.
    pub video: Vec<PublicationId>,
    /// Their sound: the microphone, then what the screen plays.
    pub audio: Vec<PublicationId>,
    /// Whether their first picture is a shared screen in the place of the camera.
    pub screen: bool,
}

impl Room {
    /// Returns who can be seen and heard.
    pub(crate) fn performance(&self) -> Performance {
        let of = |identity: &str, wanted: MediaKind| {
            let theirs = self.publications.iter().filter(|(_, published)| {
                published.kind == wanted && published.member.identity == identity
            });
            // They are numbered in the order of the m-lines.
            let mut ids: Vec<_> = theirs.map(|(id, _)| *id).collect();
            ids.sort();
            ids
        };
        let stage = self.seen_on_stage().into_iter();
        let performers = stage.map(|member| Performer {
            video: of(&member.identity, MediaKind::Video),
            audio: of(&member.identity, MediaKind::Audio),
            screen: self.stage.shares_screen(&member.identity),
            identity: member.identity,
            name: member.name,
        });
        Performance {
            performers: performers.collect(),
            main: self.bindings.program,
            layout: self.layout,
            look: self.look.clone(),
        }
    }

    /// Notes what the SFU has bound to the slots.
    pub(crate) fn handle_stage(&mut self, bindings: Bindings) {
        self.bindings = bindings;
    }

    /// Returns what the slots of viewers carry.
    pub(crate) fn slots(&self) -> Slots {
        let bound = |publications: &[Option<PublicationId>]| {
            (0..)
                .zip(publications)
                .map(|(slot, publication)| self.slot(slot, (*publication)?))
                .collect()
        };
        Slots {
            video: bound(&self.bindings.video),
            audio: bound(&self.bindings.audio),
            program: self
                .bindings
                .program
                .and_then(|program| self.publications.get(&program))
                .map(|published| published.member.identity.clone()),
        }
    }

    fn slot(&self, slot: u32, publication: PublicationId) -> Option<Slot> {
        let Published { kind, member } = self.publications.get(&publication)?;
        Some(Slot {
            slot,
            identity: member.identity.clone(),
            name: member.name.clone(),
            kind: match kind {
                MediaKind::Audio => TrackKind::Audio,
                MediaKind::Video => TrackKind::Video,
            },
            heights: match kind {
                MediaKind::Audio => Vec::new(),
                MediaKind::Video => self.stage.heights(&member.identity).to_vec(),
            },
        })
    }
}
