//! Data channels (RFC 8831): one SCTP association that the peer opens, and its channels.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use sctp_proto::{
    Association, AssociationHandle, Chunks, DatagramEvent, Endpoint, EndpointConfig, Event,
    Payload, PayloadProtocolIdentifier, ReliabilityType, ServerConfig, StreamEvent, StreamId,
    TransportConfig,
};

use super::{
    PacketError,
    dcep::{self, Open, Reliability},
    sctp_guard::{MAX_STREAMS, SctpGuard},
};

/// The configuration of all associations.
pub(super) struct SctpConfig {
    endpoint: Arc<EndpointConfig>,
    server: Arc<ServerConfig>,
}

impl SctpConfig {
    pub(super) fn new() -> Self {
        let transport = TransportConfig::default()
            .with_max_receive_buffer_size(RECEIVE_BUFFER)
            .with_max_send_message_size(MAX_MESSAGE_LEN)
            .with_max_receive_message_size(MAX_MESSAGE_LEN)
            .with_max_num_inbound_streams(MAX_STREAMS)
            .with_max_num_outbound_streams(MAX_STREAMS)
            .with_rto_initial_ms(RTO_INITIAL_MS)
            .with_rto_min_ms(RTO_MIN_MS)
            .with_rto_max_ms(RTO_MAX_MS);
        let mut server = ServerConfig::new();
        server.transport = Arc::new(transport);
        Self {
            endpoint: Arc::new(EndpointConfig::new()),
            server: Arc::new(server),
        }
    }
}

/// What an association tells its transport.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SctpEvent {
    Opened {
        label: String,
    },
    Message {
        label: String,
        payload: Bytes,
    },
    /// The association is lost or was aborted.
    Lost,
}

/// One peer's association. Memory is taken only when the peer opens it.
#[derive(Debug, Default)]
pub(super) struct Sctp {
    guard: SctpGuard,
    endpoint: Option<Box<Endpoint>>,
    association: Option<(AssociationHandle, Box<Association>)>,
    /// In the order in which they were opened, at most [`MAX_CHANNELS`].
    channels: Vec<Channel>,
}

#[derive(Debug)]
struct Channel {
    stream: StreamId,
    label: String,
}

impl Sctp {
    /// Takes an SCTP packet; then call [`Sctp::pump`].
    pub(super) fn handle(
        &mut self,
        config: &SctpConfig,
        packet: Bytes,
        now: Instant,
    ) -> Result<(), PacketError> {
        self.guard.check(&packet)?;
        let endpoint = self.endpoint.get_or_insert_with(|| {
            let server = Some(config.server.clone());
            Box::new(Endpoint::new(config.endpoint.clone(), server))
        });
        match endpoint.handle(now, PLACEHOLDER, None, None, packet) {
            Some((handle, DatagramEvent::NewAssociation(association)))
                if self.association.is_none() =>
            {
                self.association = Some((handle, Box::new(association)));
            }
            Some((handle, DatagramEvent::AssociationEvent(event))) => match &mut self.association {
                Some((own, association)) if *own == handle => association.handle_event(event),
                _ => return Err(PacketError::Malformed),
            },
            Some((_, DatagramEvent::NewAssociation(_))) => return Err(PacketError::OverBudget),
            None => return Err(PacketError::Malformed),
        }
        Ok(())
    }

    /// Sends a text message. Returns whether it was taken.
    pub(super) fn send(&mut self, label: &str, payload: &[u8]) -> bool {
        let Some((_, association)) = &mut self.association else {
            return false;
        };
        let channel = self.channels.iter().rev().find(|c| c.label == label);
        let Some(mut stream) = channel.and_then(|c| association.stream(c.stream).ok()) else {
            return false;
        };
        let waiting = stream.buffered_amount().unwrap_or(usize::MAX);
        if waiting.saturating_add(payload.len()) > MAX_WAITING {
            return false;
        }
        let written = if payload.is_empty() {
            stream.write_with_ppi(&[0], PayloadProtocolIdentifier::StringEmpty)
        } else {
            stream.write_with_ppi(payload, PayloadProtocolIdentifier::String)
        };
        written.is_ok()
    }

    /// Collects events and packets to send.
    pub(super) fn pump(
        &mut self,
        now: Instant,
        events: &mut Vec<SctpEvent>,
        mut send: impl FnMut(&[u8]),
    ) {
        while let Some((_, association)) = &mut self.association {
            let Some(event) = association.poll() else {
                break;
            };
            match event {
                Event::Stream(StreamEvent::Readable { id } | StreamEvent::Opened { id }) => {
                    self.read(id, events)
                }
                Event::Stream(StreamEvent::Finished { id }) => {
                    self.channels.retain(|channel| channel.stream != id);
                }
                Event::AssociationLost { .. } => events.push(SctpEvent::Lost),
                Event::Connected
                | Event::HandshakeFailed { .. }
                | Event::Stream(_)
                | Event::DataChannelStatsFinal(_)
                | Event::DatagramReceived
                | _ => {}
            }
        }
        let Some((handle, association)) = &mut self.association else {
            return;
        };
        while association.accept_stream().is_some() {}
        while let Some(transmit) = association.poll_transmit(now) {
            if let Payload::RawEncode(packets) = transmit.payload {
                for packet in packets {
                    self.guard.observe_sent(&packet, RECEIVE_BUFFER);
                    send(&packet);
                }
            }
        }
        let mut is_drained = false;
        while let Some(event) = association.poll_endpoint_event() {
            is_drained = true;
            if let Some(endpoint) = &mut self.endpoint {
                endpoint.handle_event(*handle, event);
            }
        }
        if is_drained {
            self.association = None;
            self.channels.clear();
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let (_, association) = self.association.as_ref()?;
        association.poll_timeout()
    }

    /// Does what is due; then call [`Sctp::pump`].
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Some((_, association)) = &mut self.association {
            association.handle_timeout(now);
        }
    }

    fn read(&mut self, id: StreamId, events: &mut Vec<SctpEvent>) {
        while let Some((_, association)) = &mut self.association {
            let chunks = association.stream(id).and_then(|mut stream| stream.read());
            let Ok(Some(chunks)) = chunks else {
                return;
            };
            self.guard.deliver(chunks.chunks.len());
            self.take(id, &chunks, events);
        }
    }

    fn take(&mut self, id: StreamId, chunks: &Chunks, events: &mut Vec<SctpEvent>) {
        let mut message = vec![0; chunks.len()];
        if chunks.read(&mut message).is_err() {
            return;
        }
        let channel = self.channels.iter().find(|channel| channel.stream == id);
        match (chunks.ppi, channel) {
            (PayloadProtocolIdentifier::Dcep, None) => self.open(id, &message, events),
            (
                PayloadProtocolIdentifier::String | PayloadProtocolIdentifier::Binary,
                Some(channel),
            ) => events.push(SctpEvent::Message {
                label: channel.label.clone(),
                payload: message.into(),
            }),
            (
                PayloadProtocolIdentifier::StringEmpty | PayloadProtocolIdentifier::BinaryEmpty,
                Some(channel),
            ) => events.push(SctpEvent::Message {
                label: channel.label.clone(),
                payload: Bytes::new(),
            }),
            _ => {}
        }
    }

    fn open(&mut self, id: StreamId, message: &[u8], events: &mut Vec<SctpEvent>) {
        let Some((_, association)) = &mut self.association else {
            return;
        };
        let Ok(mut stream) = association.stream(id) else {
            return;
        };
        let open = Open::parse(message).filter(|_| self.channels.len() < MAX_CHANNELS);
        let Some(open) = open else {
            // Refused: the peer sees its channel close. Nothing is left to do if that fails.
            let _ = stream.close();
            return;
        };
        let (kind, limit) = match open.reliability {
            Reliability::Reliable => (ReliabilityType::Reliable, 0),
            Reliability::Retransmissions(count) => (ReliabilityType::Rexmit, count),
            Reliability::Lifetime(ms) => (ReliabilityType::Timed, ms),
        };
        let is_open = stream
            .write_with_ppi(dcep::ACK, PayloadProtocolIdentifier::Dcep)
            .and_then(|_| stream.set_reliability_params(open.is_unordered, kind, limit));
        if is_open.is_ok() {
            self.channels.push(Channel {
                stream: id,
                label: open.label.clone(),
            });
            events.push(SctpEvent::Opened { label: open.label });
        }
    }
}

/// The library knows addresses only to compare them.
const PLACEHOLDER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 5000);

const MAX_CHANNELS: usize = 16;
const MAX_MESSAGE_LEN: u32 = 64 * 1024;
const RECEIVE_BUFFER: u32 = 256 * 1024;

/// Bytes that may wait on one channel. A reader that is slower than that loses messages.
const MAX_WAITING: usize = 256 * 1024;

/// As browsers have them: the protocol's own seconds are made for other networks.
const RTO_INITIAL_MS: u64 = 500;
const RTO_MIN_MS: u64 = 400;
const RTO_MAX_MS: u64 = 10_000;
