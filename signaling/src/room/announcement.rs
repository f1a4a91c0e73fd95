//! What the members of a room are to be told, and how soon.

use super::{Room, slots::Slots};
use crate::protocol::RoomInfo;

/// What members are to be told.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Announcement {
    pub(crate) info: Option<RoomInfo>,
    pub(crate) slots: Option<Slots>,
}

/// How soon members are to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Change {
    /// Nothing to tell.
    None,
    /// Only a count: may wait for more of them.
    Soon,
    /// Something to act on.
    Now,
}

impl Room {
    /// Returns how soon members are to be told what has changed since [`Room::announce`].
    pub(crate) fn change(&self) -> Change {
        let info = self.info();
        if self.slots() != self.announced_slots {
            Change::Now
        } else if info == self.announced {
            Change::None
        } else if (RoomInfo {
            viewers: self.announced.viewers,
            ..info
        }) == self.announced
        {
            Change::Soon
        } else {
            Change::Now
        }
    }

    /// Returns what members are to be told, and notes that they are.
    pub(crate) fn announce(&mut self) -> Announcement {
        let (info, slots) = (self.info(), self.slots());
        let announcement = Announcement {
            info: (info != self.announced).then(|| info.clone()),
            slots: (slots != self.announced_slots).then(|| slots.clone()),
        };
        (self.announced, self.announced_slots) = (info, slots);
        announcement
    }
}
