//! A data channel (RFC 8831, RFC 8832) over DTLS.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use anyhow::Context;
use bytes::Bytes;
use sctp_proto::{
    Association, AssociationHandle, ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Event,
    Payload, PayloadProtocolIdentifier, StreamEvent,
};

/// An SCTP association with one channel.
pub(super) struct Channel {
    endpoint: Endpoint,
    handle: AssociationHandle,
    association: Association,
    is_open: bool,
}

impl Channel {
    /// Starts the association.
    pub(super) fn new(remote: SocketAddr) -> anyhow::Result<Self> {
        let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::new()), None);
        let (handle, association) = endpoint
            .connect(ClientConfig::new(), remote)
            .context("start SCTP")?;
        Ok(Self {
            endpoint,
            handle,
            association,
            is_open: false,
        })
    }

    /// Returns whether the server has acknowledged the channel.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Returns when [`Channel::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.association.poll_timeout()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.association.handle_timeout(now);
    }

    /// Takes one SCTP packet.
    pub(super) fn handle(&mut self, packet: Bytes, remote: SocketAddr, now: Instant) {
        if let Some((handle, DatagramEvent::AssociationEvent(event))) =
            self.endpoint.handle(now, remote, None, None, packet)
            && handle == self.handle
        {
            self.association.handle_event(event);
        }
        while let Some(event) = self.association.poll() {
            if let Event::Connected = event {
                self.open();
            } else if let Event::Stream(StreamEvent::Readable { id } | StreamEvent::Opened { id }) =
                event
            {
                self.read(id);
            }
        }
    }

    /// Returns the packets to send.
    pub(super) fn poll_transmit(&mut self, now: Instant) -> Option<Vec<Bytes>> {
        match self.association.poll_transmit(now)?.payload {
            Payload::RawEncode(raw) => Some(raw),
            Payload::PartialDecode(_) => Some(vec![]),
        }
    }

    /// Asks for the channel (RFC 8832 §5.1): reliable, ordered.
    fn open(&mut self) {
        let mut open = vec![3, 0, 0, 0, 0, 0, 0, 0];
        open.extend([0, 4, 0, 0]);
        open.extend(b"chat");
        if let Ok(mut stream) = self
            .association
            .open_stream(STREAM, PayloadProtocolIdentifier::Dcep)
        {
            let _ = stream.write_with_ppi(&open, PayloadProtocolIdentifier::Dcep);
        }
    }

    /// Reads and forgets what came; an acknowledgement opens the channel.
    fn read(&mut self, id: u16) {
        let mut buffer = [0; 2048];
        while let Ok(Some(chunks)) = self.association.stream(id).and_then(|mut s| s.read()) {
            let is_control = chunks.ppi == PayloadProtocolIdentifier::Dcep;
            let len = chunks.read(&mut buffer).unwrap_or(0);
            self.is_open |= id == STREAM && is_control && buffer[..len].first() == Some(&DCEP_ACK);
        }
    }
}

/// Even, because the client of DTLS opens it (RFC 8832 §6).
const STREAM: u16 = 0;
const DCEP_ACK: u8 = 2;
