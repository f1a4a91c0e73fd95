//! [`Flow`]: what the path to one peer carries, and [`Sender`]: the way media takes to it.

use std::time::Instant;

use crate::{
    Outgoing,
    transport::{Carried, SendHeader, Transport},
};

/// The sending side of one peer's path.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    /// The transport-wide sequence number of the next packet.
    next_seq: u16,
}

/// What one peer's media is sent with.
#[derive(Debug)]
pub(crate) struct Sender<'a> {
    /// Encrypts.
    pub(crate) transport: &'a mut Transport,
    /// Notes and paces.
    pub(crate) flow: &'a mut Flow,
    /// Where datagrams go.
    pub(crate) out: &'a mut Outgoing,
    /// The time of this flush.
    pub(crate) now: Instant,
}

impl Sender<'_> {
    /// Sends a packet, its payload made of two parts. Returns the datagram's length, 0 when nothing was sent.
    pub(crate) fn send(
        &mut self,
        header: &SendHeader,
        carried: &Carried<'_>,
        payload: [&[u8]; 2],
    ) -> usize {
        let seq = self.transport.has_feedback().then_some(self.flow.next_seq);
        let len = self
            .transport
            .seal_rtp(header, seq, carried, payload, self.out);
        if len > 0 {
            self.flow.next_seq = self.flow.next_seq.wrapping_add(1);
        }
        len
    }

    /// Returns whether the path has room for more than what is live: for replays and repeats.
    pub(crate) fn has_room(&mut self) -> bool {
        true
    }

    /// Returns whether a live packet of video goes at once; not while so much is on the path already that it
    /// would only wait there.
    pub(crate) fn may_go(&mut self) -> bool {
        true
    }
}
