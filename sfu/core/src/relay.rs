//! What several SFUs tell each other about a room that has viewers at more than one of them.
//!
//! A room's publishers all live at one SFU, its *home*. Another SFU that has a viewer of the room follows it
//! there: it receives every packet once, decrypted, keeps it in histories of its own, and serves its viewers
//! from those, retransmissions and newcomers included. Only requests for keyframes run back.
//!
//! Nothing in a message is shared memory or an instant of one machine's clock, so a message may also cross a
//! network. Messages of one sender must arrive in order; what is lost is made up for by [`Sfu::relay_lost`].
//!
//! [`Sfu::relay_lost`]: crate::Sfu::relay_lost

mod inlet;
mod outlet;

use std::{collections::VecDeque, sync::Arc};

pub(crate) use inlet::{Here, Inlet};
pub(crate) use outlet::Outlet;

use crate::{
    Codec, PeerId, PublicationId, RoomId, ShardId, history::Extensions, slot::Owner, stage::Scene,
    transport::Carried,
};

/// What one SFU tells another.
#[derive(Clone, Debug)]
pub enum RelayMessage {
    /// To the home: there is a viewer of the room here.
    Follow(RoomId),
    /// To the home: there is none any more.
    Leave(RoomId),
    /// To the home: a viewer here needs a keyframe of a layer.
    Keyframe {
        /// The room.
        room: RoomId,
        /// The publication.
        publication: PublicationId,
        /// The position of the layer.
        layer: u8,
    },
    /// To the home: which layers of a publication viewers here want, by position. Before, all of them.
    LayersWanted {
        /// The room.
        room: RoomId,
        /// The publication.
        publication: PublicationId,
        /// By position of the layer.
        wanted: Vec<bool>,
    },
    /// From the home: what happened in the room.
    News(Arc<RelayBatch>),
}

/// What happened in a room since the last batch: the same for everybody who follows it.
#[derive(Debug)]
pub struct RelayBatch {
    room: RoomId,
    /// Whether it is for those who know nothing, or missed something.
    is_beginning: bool,
    /// All publications of the room, when any of them changed.
    publications: Option<Vec<Announced>>,
    /// What is shown, when that changed.
    scene: Option<Scene>,
    reports: Vec<ClockReport>,
    packets: Vec<Relayed>,
    /// The payload and the dependency descriptor of each packet, one behind the other.
    bytes: Vec<u8>,
}

/// A publication, as others need to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Announced {
    id: PublicationId,
    peer: PeerId,
    owner: Owner,
    codec: Codec,
    layers: usize,
    published: bool,
    stopped: bool,
    withheld: Option<Withheld>,
}

/// A size of a stream's picture that its sender has paused, above those that it sends: its number, and what it took
/// before, bit/s.
pub(crate) type Withheld = (usize, u64);

/// What a publisher's sender report said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ClockReport {
    publication: PublicationId,
    layer: usize,
    ntp_micros: i64,
    timestamp: u32,
}

/// A packet, without its bytes.
#[derive(Clone, Copy, Debug)]
struct Relayed {
    publication: PublicationId,
    layer: usize,
    epoch: u32,
    seq: u16,
    timestamp: u32,
    marker: bool,
    is_red: bool,
    extensions: Extensions,
    payload: usize,
    descriptor: usize,
}

/// Messages for others, in order.
pub(crate) type Outbound = VecDeque<(ShardId, RelayMessage)>;

impl RelayBatch {
    fn new(room: RoomId) -> Self {
        Self {
            room,
            is_beginning: false,
            publications: None,
            scene: None,
            reports: Vec::new(),
            packets: Vec::new(),
            bytes: Vec::new(),
        }
    }

    /// Returns how many packets it carries.
    pub fn packets(&self) -> usize {
        self.packets.len()
    }

    pub(crate) fn room(&self) -> RoomId {
        self.room
    }

    fn is_empty(&self) -> bool {
        self.publications.is_none()
            && self.scene.is_none()
            && self.reports.is_empty()
            && self.packets.is_empty()
    }

    /// Returns the packets with their payloads and header extensions.
    fn iter(&self) -> impl Iterator<Item = (&Relayed, &[u8], Carried<'_>)> {
        let mut rest = self.bytes.as_slice();
        self.packets.iter().map(move |packet| {
            let (payload, after) = rest.split_at_checked(packet.payload).unwrap_or_default();
            let (descriptor, after) = after
                .split_at_checked(packet.descriptor)
                .unwrap_or_default();
            rest = after;
            (packet, payload, packet.extensions.carried(descriptor))
        })
    }
}
