//! A client with its socket.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Instant,
};

use anyhow::Context;

use crate::{
    client::{Answer, Event, Identity, Offer, Transport},
    socket,
};

/// A client that is being connected or is connected.
pub(crate) struct Peer {
    /// Its transport.
    pub(crate) transport: Transport,
    /// What was agreed on.
    pub(crate) answer: Answer,
    socket: Option<UdpSocket>,
    is_bound: bool,
}

impl Peer {
    /// Creates a client and its offer.
    ///
    /// # Errors
    /// When the client cannot be built.
    pub(crate) fn new(identity: &Arc<Identity>, offer: Offer) -> anyhow::Result<(Self, String)> {
        let (transport, sdp) = Transport::new(identity, offer, Instant::now())?;
        let peer = Self {
            transport,
            answer: Answer::default(),
            socket: None,
            is_bound: false,
        };
        Ok((peer, sdp))
    }

    /// Takes the answer: connecting begins.
    ///
    /// # Errors
    /// When the answer is not usable.
    pub(crate) fn accept(&mut self, sdp: &str, now: Instant) -> anyhow::Result<()> {
        let mut answer = Answer::parse(sdp)?;
        let first = answer.candidates.first().context("find an address")?.ip();
        answer
            .candidates
            .retain(|to| to.is_ipv4() == first.is_ipv4());
        self.socket = Some(socket::open(socket::local_for(first))?);
        self.transport.accept(&answer, now);
        self.answer = answer;
        self.flush();
        Ok(())
    }

    /// Returns its socket, after [`Peer::accept`].
    pub(crate) fn socket(&self) -> Option<&UdpSocket> {
        self.socket.as_ref()
    }

    /// Takes one datagram that is not RTP.
    pub(crate) fn handle(
        &mut self,
        datagram: &[u8],
        source: Option<SocketAddr>,
        now: Instant,
    ) -> Option<Event> {
        let from = source.or(self.transport.selected())?;
        let event = self.transport.handle(datagram, from, now);
        self.flush();
        event
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, now: Instant) {
        if self.transport.poll_timeout() <= now {
            self.transport.handle_timeout(now);
        }
        self.flush();
    }

    /// Sends one datagram to the server. A full buffer is a lost datagram.
    pub(crate) fn send(&self, datagram: &[u8]) {
        if let (Some(socket), true) = (&self.socket, self.is_bound) {
            let _ = socket.send(datagram);
        }
    }

    /// Says goodbye.
    pub(crate) fn close(&mut self) {
        self.transport.close(Instant::now());
        self.flush();
    }

    /// Sends what the transport has to send.
    pub(crate) fn flush(&mut self) {
        let Some(socket) = &self.socket else { return };
        if !self.is_bound
            && let Some(selected) = self.transport.selected()
        {
            self.is_bound = socket.connect(selected).is_ok();
        }
        for (to, datagram) in self.transport.take_outgoing() {
            let _ = if self.is_bound {
                socket.send(&datagram)
            } else {
                socket.send_to(&datagram, to)
            };
        }
    }
}
