//! [`Transport`]: one peer's ICE-lite, DTLS, SRTP and SCTP, joined.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    Carried, ExtensionIds, IceCredentials, Offer, PacketError, Rtp, SendHeader, Shared,
    dtls::{Dtls, DtlsEvent},
    ice::Ice,
    rtp::{Header, SendExtensions},
    sctp::{Sctp, SctpEvent},
    srtp::{Keys, Srtp},
};
use crate::{Outgoing, Path, Ssrc};

/// What a transport tells its peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransportEvent {
    /// The handshake is done, the fingerprint matches and the SRTP keys are in place.
    Connected,
    /// A data channel was opened.
    ChannelOpened {
        /// Its label.
        label: String,
    },
    /// A message arrived on a data channel.
    Message {
        /// The channel's label.
        label: String,
        /// The message.
        payload: Bytes,
    },
    /// The other side closed the session properly.
    Left,
    /// The handshake failed or the certificate did not match.
    HandshakeFailed,
}

/// What the handshake showed of the path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// The shortest time from a flight of the server to its answer.
    pub rtt: Option<Duration>,
    /// What the path carries at least, bit/s: a whole flight within the time until its answer.
    pub bitrate: u64,
    /// What it may carry, bit/s, if a longer flight took longer because of its bytes. The peer's arithmetic
    /// takes time, too. `None` if the longer flight was answered sooner: the other one's answer was held up.
    pub guess: Option<u64>,
    first: Option<(usize, Duration)>,
}

/// One peer's ICE-lite, DTLS, SRTP and SCTP. What is needed to send comes first, in neighbouring cache lines.
#[derive(Debug)]
#[repr(C)]
pub struct Transport {
    /// Once the handshake is done, for as long as the session lives.
    srtp: Option<Box<Srtp>>,
    extensions: ExtensionIds,
    ice: Ice,
    dtls: Dtls,
    sctp: Sctp,
    /// The server's last flight of the handshake: its bytes, and when it left.
    flight: Option<(usize, Instant)>,
    /// Its bytes, also when it was a repeat.
    flight_bytes: usize,
    shown: Shown,
    events: VecDeque<TransportEvent>,
    dtls_events: Vec<DtlsEvent>,
    sctp_events: Vec<SctpEvent>,
}

impl Transport {
    /// Creates the server's side for an accepted offer.
    pub fn new(
        _shared: &Shared,
        credentials: IceCredentials,
        offer: &Offer,
        extensions: ExtensionIds,
        now: Instant,
    ) -> Self {
        Self {
            ice: Ice::new(credentials, now),
            dtls: Dtls::new(offer.fingerprint),
            srtp: None,
            sctp: Sctp::default(),
            extensions,
            flight: None,
            flight_bytes: 0,
            shown: Shown::default(),
            events: VecDeque::new(),
            dtls_events: Vec::new(),
            sctp_events: Vec::new(),
        }
    }

    /// Answers a STUN binding request. If it was authentic, `from` is a path to this peer, and the
    /// selected one if the request nominates it (RFC 8445 §7.3.1.5). At most 8 paths are kept; see
    /// [`Transport::paths`].
    ///
    /// # Errors
    /// [`PacketError`] for a request that is malformed or not authentic.
    pub fn handle_stun(
        &mut self,
        shared: &Shared,
        from: Path,
        datagram: &[u8],
        now: Instant,
        out: &mut Outgoing,
    ) -> Result<(), PacketError> {
        self.ice.handle(shared.crypto(), from, datagram, now, out)
    }

    /// Notes that an authentic packet came on a path; see [`Transport::selected`].
    pub fn heard(&mut self, from: Path, now: Instant) {
        self.ice.heard(from, now);
    }

    /// Forgets a path that is gone for good.
    pub fn forget(&mut self, path: Path) {
        self.ice.forget(path);
    }

    /// Starts a new ICE session with these credentials; DTLS and everything above it goes on.
    pub fn restart_ice(&mut self, credentials: IceCredentials) {
        self.ice.restart(credentials);
    }

    /// Returns the username fragments that checks may be for: the session's, and after a restart the one's
    /// before until the peer has used the new one.
    pub fn ufrags(&self) -> impl Iterator<Item = &str> + Clone {
        self.ice.ufrags()
    }

    /// Returns where media and data go: to the path that the peer nominated last, or, when that one is
    /// silent, to where the peer sends from.
    pub fn selected(&self) -> Option<Path> {
        self.ice.selected()
    }

    /// Takes a DTLS datagram: handshake or SCTP. Poll events afterwards.
    ///
    /// # Errors
    /// [`PacketError`] for what was dropped.
    pub fn handle_dtls(
        &mut self,
        shared: &Shared,
        datagram: &[u8],
        now: Instant,
        out: &mut Outgoing,
    ) -> Result<(), PacketError> {
        let is_answer = !self.dtls.is_connected() && self.dtls.goes_on(datagram);
        if is_answer && let Some((bytes, at)) = self.flight.take() {
            self.shown
                .answered(bytes, now.saturating_duration_since(at));
        }
        let handled = self
            .dtls
            .handle(shared.dtls(), datagram, now, &mut self.dtls_events);
        let delivered = self.deliver(shared, now);
        self.transmit(now, out);
        handled.and(delivered)
    }

    /// Decrypts an SRTP packet.
    ///
    /// `known` tells whether the SSRC is one the peer announced or used before: of others only a limited
    /// number is taken.
    ///
    /// # Errors
    /// [`PacketError`] for what was dropped.
    pub fn open_rtp<'a>(
        &mut self,
        datagram: &'a mut [u8],
        known: impl Fn(Ssrc) -> bool,
    ) -> Result<Rtp<'a>, PacketError> {
        let srtp = self.srtp.as_mut().ok_or(PacketError::NoKeys)?;
        let header = Header::parse(datagram).ok_or(PacketError::Malformed)?;
        let (head, payload) = srtp.open_rtp(&header, datagram, known(header.ssrc))?;
        Rtp::new(&header, head, payload, &self.extensions).ok_or(PacketError::Malformed)
    }

    /// Decrypts an SRTCP packet into a compound RTCP packet.
    ///
    /// # Errors
    /// [`PacketError`] for what was dropped.
    pub fn open_rtcp(&mut self, datagram: &[u8]) -> Result<Bytes, PacketError> {
        let srtp = self.srtp.as_mut().ok_or(PacketError::NoKeys)?;
        srtp.open_rtcp(datagram).map(Bytes::from)
    }

    /// Encrypts an RTP packet into `out`, its payload made of two parts, with those header extensions that
    /// the peer negotiated. Nothing is sent before the peer is connected. Returns the datagram's length.
    pub fn seal_rtp(
        &mut self,
        header: &SendHeader,
        transport_seq: Option<u16>,
        carried: &Carried<'_>,
        payload: [&[u8]; 2],
        out: &mut Outgoing,
    ) -> usize {
        let (Some(srtp), Some(to)) = (&self.srtp, self.ice.selected()) else {
            return 0;
        };
        let extensions = SendExtensions::new(&self.extensions, transport_seq, carried);
        let payload_len: usize = payload.iter().map(|part| part.len()).sum();
        let len = srtp.sealed_len(extensions.len(), payload_len + usize::from(header.padding));
        srtp.seal_rtp(header, &extensions, payload, out.reserve(to, len))
            .expect("the space reserved has the sealed packet's length");
        len
    }

    /// Reads what [`Transport::seal_rtp`] will; see [`Peer::warm`](crate::peer::Peer::warm).
    pub(crate) fn warm(&self) -> usize {
        usize::from(self.has_feedback()) + usize::from(self.ice.selected().is_some())
    }

    /// Like [`Transport::warm`], behind what that has read.
    pub(crate) fn warm_keys(&self) -> usize {
        self.srtp.as_ref().map_or(0, |srtp| srtp.warm())
    }

    /// Returns whether the peer reads dependency descriptors.
    pub fn has_dependency_descriptor(&self) -> bool {
        self.extensions.dependency_descriptor != 0
    }

    /// Returns whether the peer reports on packets by their transport-wide sequence numbers.
    pub fn has_feedback(&self) -> bool {
        self.extensions.transport_cc != 0
    }

    /// Encrypts a compound RTCP packet into `out`. Nothing is sent before the peer is connected.
    pub fn seal_rtcp(&mut self, packet: &[u8], out: &mut Outgoing) {
        if let (Some(srtp), Some(to)) = (&mut self.srtp, self.ice.selected())
            && let Some(sealed) = srtp.seal_rtcp(packet)
        {
            out.push(to, &sealed);
        }
    }

    /// Sends a text message on the channel with this label, the newest if there are several. Returns
    /// whether it was taken: not when the channel is not open or more than 256 KiB wait already.
    pub fn send_message(
        &mut self,
        label: &str,
        payload: &Bytes,
        now: Instant,
        out: &mut Outgoing,
    ) -> bool {
        let is_taken = self.sctp.send(label, payload);
        if is_taken {
            self.transmit(now, out);
        }
        is_taken
    }

    /// Returns the next event.
    pub fn poll_event(&mut self) -> Option<TransportEvent> {
        self.events.pop_front()
    }

    /// Returns when [`Transport::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = [self.dtls.poll_timeout(), self.sctp.poll_timeout()];
        due.into_iter().flatten().min()
    }

    /// Does what is due: DTLS and SCTP retransmission.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Outgoing) {
        self.dtls.handle_timeout(now, &mut self.dtls_events);
        self.sctp.handle_timeout(now);
        self.report();
        self.transmit(now, out);
        // An answer may be to what was sent before.
        self.flight = None;
    }

    /// Returns what the handshake showed of the path.
    pub fn shown(&self) -> Shown {
        self.shown
    }

    /// Returns whether the handshake is done and neither side has closed.
    pub fn is_connected(&self) -> bool {
        self.srtp.is_some()
    }

    /// Returns the paths on which authentic checks came, to route datagrams by.
    pub fn paths(&self) -> &[Path] {
        self.ice.paths()
    }

    /// Returns when the last authentic check arrived (consent, RFC 7675); creation time before the first.
    pub fn last_heard(&self) -> Instant {
        self.ice.last_heard()
    }

    /// Says goodbye (DTLS close_notify).
    pub fn close(&mut self, now: Instant, out: &mut Outgoing) {
        self.dtls.close(now);
        self.srtp = None;
        self.transmit(now, out);
    }

    /// Hands decrypted data to SCTP and turns the rest into events.
    fn deliver(&mut self, shared: &Shared, now: Instant) -> Result<(), PacketError> {
        let mut delivered = Ok(());
        for event in std::mem::take(&mut self.dtls_events) {
            match event {
                DtlsEvent::Data(packet) => {
                    delivered = delivered.and(self.sctp.handle(shared.sctp(), packet, now));
                }
                DtlsEvent::Connected(keys) => self.connected(&keys),
                DtlsEvent::Closed => self.end(TransportEvent::Left),
                DtlsEvent::Failed => self.end(TransportEvent::HandshakeFailed),
            }
        }
        delivered
    }

    pub(super) fn connected(&mut self, keys: &Keys) {
        self.srtp = Some(Box::new(Srtp::new(keys)));
        self.events.push_back(TransportEvent::Connected);
    }

    fn report(&mut self) {
        for event in std::mem::take(&mut self.dtls_events) {
            if matches!(event, DtlsEvent::Failed) {
                self.end(TransportEvent::HandshakeFailed);
            }
        }
    }

    fn end(&mut self, event: TransportEvent) {
        self.srtp = None;
        self.events.push_back(event);
    }

    /// Moves what the parts want to send into `out`, encrypted, to the selected address.
    fn transmit(&mut self, now: Instant, out: &mut Outgoing) {
        let (sctp, dtls) = (&mut self.sctp, &mut self.dtls);
        sctp.pump(now, &mut self.sctp_events, |packet| dtls.write(packet, now));
        for event in self.sctp_events.drain(..) {
            self.events.push_back(match event {
                SctpEvent::Opened { label } => TransportEvent::ChannelOpened { label },
                SctpEvent::Message { label, payload } => TransportEvent::Message { label, payload },
                SctpEvent::Lost => TransportEvent::Left,
            });
        }
        let mut bytes = 0;
        while let Some(datagram) = self.dtls.poll_transmit() {
            if let Some(to) = self.ice.selected() {
                out.push(to, &datagram);
                bytes += datagram.len();
            }
        }
        if bytes > 0 && !self.dtls.is_connected() {
            // The library repeats the first flight alone, whose length never changes. An answer to what was sent again
            // may be to what was sent before.
            let is_repeat = bytes == self.flight_bytes;
            self.flight = (!is_repeat).then_some((bytes, now));
            self.flight_bytes = bytes;
        }
    }
}

impl Shown {
    fn answered(&mut self, bytes: usize, after: Duration) {
        self.rtt = Some(self.rtt.map_or(after, |rtt| rtt.min(after)));
        self.bitrate = self.bitrate.max(bitrate(bytes, after));
        let (before, earlier) = *self.first.get_or_insert((bytes, after));
        let is_held_up = after + HELD_UP < earlier;
        if bytes > before && !is_held_up {
            self.guess = Some(bitrate(bytes - before, after.saturating_sub(earlier)));
        }
    }
}

/// By so much more than the longer flight's the first one's answer took when something else than the path held it up:
/// the client's processor, or a radio.
const HELD_UP: Duration = Duration::from_millis(2);

fn bitrate(bytes: usize, time: Duration) -> u64 {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    bytes as u64 * 8_000_000 / micros.max(1)
}
