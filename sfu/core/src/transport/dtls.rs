//! The server's side of one DTLS association, with a budget in front of the library.

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use aws_lc_rs::digest;
use bytes::{Bytes, BytesMut};
use rtc_crypto::{RTCCryptoProvider, providers::AwsLcRsProvider};
use rtc_dtls::{
    config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig},
    crypto::Certificate,
    endpoint::{Endpoint, EndpointEvent},
    extension::extension_use_srtp::SrtpProtectionProfile,
};
use rtc_shared::TransportProtocol;

use super::{
    PacketError,
    client_hello::ClientHello,
    reader::Reader,
    srtp::{Keys, Profile},
};

/// The certificate and the two configurations of all associations.
pub(super) struct DtlsConfig {
    gcm: Arc<HandshakeConfig>,
    sha1: Arc<HandshakeConfig>,
    fingerprint: [u8; 32],
}

impl DtlsConfig {
    /// Generates an ECDSA P-256 certificate.
    pub(super) fn new(provider: &Arc<AwsLcRsProvider>) -> Self {
        let certificate =
            Certificate::generate_self_signed(vec!["fanlight".to_owned()], provider.crypto())
                .expect("key generation fails only without randomness");
        let fingerprint = certificate
            .certificate
            .first()
            .map(|der| sha256(der))
            .expect("a generated certificate has one entry");
        let with_profile = |profile| {
            let provider: Arc<dyn RTCCryptoProvider> = provider.clone();
            let config = ConfigBuilder::default()
                .with_crypto_provider(provider)
                .with_certificates(vec![certificate.clone()])
                .with_srtp_protection_profiles(vec![profile])
                .with_client_auth(ClientAuthType::RequireAnyClientCert)
                .with_extended_master_secret(ExtendedMasterSecretType::Require)
                // Peers are self-signed: their certificate is checked against the offer's fingerprint.
                .with_insecure_skip_verify(true)
                .build(false, None)
                .expect("the configuration is constant and valid");
            Arc::new(config)
        };
        Self {
            gcm: with_profile(SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm),
            sha1: with_profile(SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80),
            fingerprint,
        }
    }

    /// Returns the certificate's sha-256 fingerprint.
    pub(super) fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }
}

/// What an association tells its transport.
#[derive(Debug)]
pub(super) enum DtlsEvent {
    /// The handshake is done and the certificate is the announced one.
    Connected(Keys),
    /// Application data: an SCTP packet.
    Data(Bytes),
    /// The peer said goodbye.
    Closed,
    /// The handshake failed, exceeded its budget, or the certificate was another.
    Failed,
}

/// One association. It never learns the peer's address, so that the address may move.
pub(super) struct Dtls {
    endpoint: Endpoint,
    state: State,
    /// What the certificate must hash to.
    expected: [u8; 32],
    /// Unprotected records taken since the last state.
    records: usize,
    /// Bytes of those.
    bytes: usize,
    outgoing: VecDeque<BytesMut>,
    flight: Flight,
    /// The number of the client's last message so far.
    newest: Option<u16>,
}

/// The server's last flight, repeated until the client goes on (RFC 6347 §4.2.4).
///
/// The library's own timer stops for ever at the first repetition it receives, so it is not used. The
/// datagrams are repeated as they were: what arrived of them the client drops as replayed, and takes the rest.
#[derive(Debug, Default)]
struct Flight {
    datagrams: Vec<BytesMut>,
    repetitions: u32,
    due: Option<Instant>,
}

#[derive(Debug)]
enum State {
    Hello(ClientHello),
    Handshaking,
    Connected,
    Closed,
}

impl Dtls {
    pub(super) fn new(expected: [u8; 32]) -> Self {
        Self {
            endpoint: Endpoint::new(PLACEHOLDER, TransportProtocol::UDP, None),
            state: State::Hello(ClientHello::default()),
            expected,
            records: 0,
            bytes: 0,
            outgoing: VecDeque::new(),
            flight: Flight::default(),
            newest: None,
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        matches!(self.state, State::Connected)
    }

    /// Takes a datagram; then poll [`Dtls::poll_transmit`].
    pub(super) fn handle(
        &mut self,
        config: &DtlsConfig,
        datagram: &[u8],
        now: Instant,
        events: &mut Vec<DtlsEvent>,
    ) -> Result<(), PacketError> {
        let unprotected = self.count_unprotected(datagram)?;
        if unprotected > 0 {
            self.records += unprotected;
            self.bytes += datagram.len();
        }
        match &mut self.state {
            State::Closed => return Err(PacketError::OverBudget),
            State::Connected if unprotected > 0 && self.records > MAX_LATE_RECORDS => {
                return Err(PacketError::OverBudget);
            }
            State::Connected => {}
            State::Hello(_) | State::Handshaking
                if self.records > MAX_RECORDS || self.bytes > MAX_BYTES =>
            {
                self.fail(events);
                return Err(PacketError::OverBudget);
            }
            State::Handshaking => {}
            State::Hello(hello) => {
                if !hello.push(datagram) {
                    return Err(PacketError::Malformed);
                }
                let Some(offers_gcm) = hello.offers_gcm() else {
                    return Ok(());
                };
                let config = if offers_gcm {
                    &config.gcm
                } else {
                    &config.sha1
                };
                self.endpoint.set_server_config(Some(config.clone()));
                let hello = std::mem::take(hello);
                self.state = State::Handshaking;
                for datagram in hello.into_datagrams() {
                    self.read(&datagram, now, events)?;
                }
                return Ok(());
            }
        }
        self.read(datagram, now, events)
    }

    /// Returns whether a message of the handshake begins in a datagram that the client has not sent before: one that
    /// only repeats, or brings the rest of a long message, answers nothing.
    pub(super) fn goes_on(&mut self, datagram: &[u8]) -> bool {
        let mut reader = Reader::new(datagram);
        let records = std::iter::from_fn(|| Record::read(&mut reader));
        let newest = records.filter_map(|record| record.newest_message()).max();
        let goes_on = newest > self.newest;
        self.newest = self.newest.max(newest);
        goes_on
    }

    /// Encrypts application data; then poll [`Dtls::poll_transmit`].
    pub(super) fn write(&mut self, data: &[u8], now: Instant) {
        if self.is_connected() {
            // It can fail only when the association is gone, and then nobody misses the data.
            let _ = self.endpoint.write(now, PLACEHOLDER, data);
            self.collect(now);
        }
    }

    pub(super) fn poll_transmit(&mut self) -> Option<BytesMut> {
        self.outgoing.pop_front()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.flight.due
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, events: &mut Vec<DtlsEvent>) {
        if self.flight.due.is_none_or(|due| now < due) {
            return;
        }
        self.flight.repetitions += 1;
        if self.flight.repetitions > MAX_REPETITIONS {
            self.fail(events);
            return;
        }
        let wait = FLIGHT_INTERVAL * (1 << self.flight.repetitions);
        self.flight.due = Some(now + wait.min(MAX_FLIGHT_INTERVAL));
        self.outgoing.extend(self.flight.datagrams.iter().cloned());
    }

    /// Says close_notify; then poll [`Dtls::poll_transmit`].
    pub(super) fn close(&mut self, now: Instant) {
        if !matches!(self.state, State::Closed) {
            self.enter(State::Closed);
            // Closing cannot fail: it queues one alert.
            let _ = self.endpoint.close(now);
            self.collect(now);
        }
    }

    /// Counts what costs the library memory: before the handshake is done every record and every
    /// handshake fragment, afterwards the same but for encrypted data and alerts.
    pub(super) fn count_unprotected(&self, datagram: &[u8]) -> Result<usize, PacketError> {
        let mut reader = Reader::new(datagram);
        let mut unprotected = 0;
        while !reader.is_empty() {
            let record = Record::read(&mut reader).ok_or(PacketError::Malformed)?;
            let is_protected = record.epoch > 0
                && matches!(record.kind, APPLICATION_DATA | ALERT)
                && self.is_connected();
            if !is_protected {
                unprotected += record.cost()?;
            }
        }
        Ok(unprotected)
    }

    fn read(
        &mut self,
        datagram: &[u8],
        now: Instant,
        events: &mut Vec<DtlsEvent>,
    ) -> Result<(), PacketError> {
        let read = self
            .endpoint
            .read(now, PLACEHOLDER, None, BytesMut::from(datagram));

        self.collect(now);
        let Ok(read) = read else {
            // The library answered with a fatal alert, or received one.
            if self.is_connected() {
                if matches!(read, Err(rtc_shared::error::Error::ErrAlertFatalOrClose)) {
                    self.enter(State::Closed);
                    events.push(DtlsEvent::Closed);
                }
            } else {
                self.fail(events);
            }
            return Err(PacketError::Malformed);
        };
        for event in read {
            match event {
                EndpointEvent::HandshakeComplete => self.complete(events),
                EndpointEvent::ApplicationData(data) if self.is_connected() => {
                    events.push(DtlsEvent::Data(data.freeze()));
                }
                EndpointEvent::PeerClosed if self.is_connected() => {
                    self.enter(State::Closed);
                    events.push(DtlsEvent::Closed);
                }
                EndpointEvent::PeerClosed => self.fail(events),
                EndpointEvent::ApplicationData(_) => {}
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes over what the library wants to send; while it shakes hands, that is a flight.
    fn collect(&mut self, now: Instant) {
        let mut datagrams = Vec::new();
        while let Some(transmit) = self.endpoint.poll_transmit() {
            datagrams.push(transmit.message);
        }
        if matches!(self.state, State::Handshaking) && !datagrams.is_empty() {
            self.flight = Flight {
                datagrams: datagrams.clone(),
                repetitions: 0,
                due: Some(now + FLIGHT_INTERVAL),
            };
        }
        self.outgoing.extend(datagrams);
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.flight = Flight::default();
    }

    fn complete(&mut self, events: &mut Vec<DtlsEvent>) {
        if let Some(keys) = self.export_keys() {
            self.enter(State::Connected);
            (self.records, self.bytes) = (0, 0);
            events.push(DtlsEvent::Connected(keys));
        } else {
            self.fail(events);
        }
    }

    /// Returns the SRTP keys if the peer's certificate is the announced one (RFC 5763 §5).
    fn export_keys(&self) -> Option<Keys> {
        let state = self.endpoint.get_connection_state(PLACEHOLDER)?;
        if sha256(state.peer_certificates.first()?) != self.expected {
            return None;
        }
        let profile = match state.srtp_protection_profile() {
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => Profile::AeadAes128Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => Profile::Aes128CmSha1_80,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_32
            | SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm
            | SrtpProtectionProfile::Unsupported => return None,
            _ => return None,
        };
        let material = state
            .export_keying_material(EXPORTER_LABEL, &[], profile.keying_material_len())
            .ok()?;
        Keys::from_dtls(profile, material.as_ref())
    }

    fn fail(&mut self, events: &mut Vec<DtlsEvent>) {
        if !matches!(self.state, State::Closed) {
            self.enter(State::Closed);
            events.push(DtlsEvent::Failed);
        }
    }
}

impl std::fmt::Debug for Dtls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dtls")
            .field("state", &self.state)
            .field("records", &self.records)
            .finish_non_exhaustive()
    }
}

/// One record (RFC 6347 §4.1).
struct Record<'a> {
    kind: u8,
    epoch: u16,
    content: &'a [u8],
}

impl<'a> Record<'a> {
    fn read(reader: &mut Reader<'a>) -> Option<Self> {
        let (kind, _version, epoch) = (reader.u8()?, reader.u16()?, reader.u16()?);
        let _sequence: [u8; 6] = reader.array()?;
        let content = reader.vec16()?;
        Some(Self {
            kind,
            epoch,
            content,
        })
    }

    /// Returns 1, or the number of handshake fragments: the library reassembles them recursively.
    fn cost(&self) -> Result<usize, PacketError> {
        match (self.kind, self.epoch) {
            (HANDSHAKE, 0) => {
                let mut reader = Reader::new(self.content);
                let mut fragments = 0;
                while !reader.is_empty() {
                    read_fragment(&mut reader).ok_or(PacketError::Malformed)?;
                    fragments += 1;
                }
                Ok(fragments.max(1))
            }
            // Encrypted: nothing but a Finished, which has 24 bytes and a cipher's overhead.
            (HANDSHAKE, _) if self.content.len() > MAX_FINISHED => Err(PacketError::OverBudget),
            _ => Ok(1),
        }
    }

    /// Returns the highest number of a handshake message that is readable.
    fn newest_message(&self) -> Option<u16> {
        let mut reader = Reader::new(self.content);
        let is_readable = (self.kind, self.epoch) == (HANDSHAKE, 0);
        let mut messages = std::iter::from_fn(|| read_fragment(&mut reader));
        is_readable.then(|| messages.by_ref().max()).flatten()
    }
}

/// Reads a piece of a handshake message (RFC 6347 §4.2.2). Returns the message's number.
fn read_fragment(reader: &mut Reader<'_>) -> Option<u16> {
    let _kind_and_length = reader.take(4)?;
    let (message, _offset, len) = (reader.u16()?, reader.u24()?, reader.u24()?);
    reader.take(usize::try_from(len).ok()?)?;
    Some(message)
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// RFC 5764 §4.2.
const EXPORTER_LABEL: &str = "EXTRACTOR-dtls_srtp";

/// The library keys associations by address; ours has one, whose address it need not know.
const PLACEHOLDER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9);

/// How long the first repetition of a flight waits; each further one waits twice as long.
const FLIGHT_INTERVAL: Duration = Duration::from_millis(300);
const MAX_FLIGHT_INTERVAL: Duration = Duration::from_secs(3);
const MAX_REPETITIONS: u32 = 8;

/// Records (or fragments) and bytes of one handshake, repetitions included. A browser needs 10 and 3 KB,
/// and the library keeps fragments and early records without a limit of its own.
const MAX_RECORDS: usize = 96;
const MAX_BYTES: usize = 32 * 1024;

/// Several times an encrypted Finished.
const MAX_FINISHED: usize = 256;

/// Unprotected records after the handshake: repetitions of the last flight.
const MAX_LATE_RECORDS: usize = 32;
