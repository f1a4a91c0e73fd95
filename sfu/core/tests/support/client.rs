//! One client: offers, checks, shakes hands, encrypts, opens channels. Time and datagrams are values.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use aws_lc_rs::digest;
use bytes::{Bytes, BytesMut};
use rtc_crypto::{RTCCryptoProvider, providers::AwsLcRsProvider};
use rtc_dtls::{
    config::{ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig},
    crypto::Certificate,
    endpoint::{Endpoint, EndpointEvent},
    extension::extension_use_srtp::SrtpProtectionProfile,
};
use rtc_shared::TransportProtocol;
use rtc_srtp::{context::Context, protection_profile::ProtectionProfile};
use rtc_stun::{
    attributes::{ATTR_ICE_CONTROLLED, ATTR_USE_CANDIDATE, ATTR_USERNAME, RawAttribute},
    fingerprint::FINGERPRINT,
    integrity::MessageIntegrity,
    message::{BINDING_REQUEST, Message, Setter, TransactionId},
    textattrs::TextAttribute,
};
use sctp_proto::{
    Association, ClientConfig, DatagramEvent, Endpoint as SctpEndpoint, EndpointConfig, Event,
    Payload, PayloadProtocolIdentifier, StreamEvent,
};

/// Which SRTP profiles the client offers, in this order.
pub(crate) const CHROMIUM_ORDER: &[SrtpProtectionProfile] = &[
    SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
    SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
];
/// A client without AEAD.
pub(crate) const SHA1_ONLY: &[SrtpProtectionProfile] =
    &[SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80];

const REPEAT_AFTER: Duration = Duration::from_millis(400);
const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7);

/// A browser's transport.
pub(crate) struct Client {
    provider: Arc<AwsLcRsProvider>,
    config: Arc<HandshakeConfig>,
    certificate_hash: Vec<u8>,
    dtls: Endpoint,
    keys: Option<(Context, Context)>,
    sctp: SctpEndpoint,
    association: Option<(sctp_proto::AssociationHandle, Association)>,
    /// What the server answered to, on any channel: stream, protocol identifier, bytes.
    pub(crate) messages: Vec<(u16, PayloadProtocolIdentifier, Vec<u8>)>,
    /// SCTP packets received while there is no association.
    pub(crate) packets: Vec<Bytes>,
    /// Whether the server said close_notify.
    pub(crate) is_closed: bool,
    transactions: u8,
    /// The last handshake flight, and when to repeat it: the library's own timer stops too early.
    flight: Vec<Vec<u8>>,
    repeat_at: Option<Instant>,
}

impl Client {
    pub(crate) fn new(profiles: &[SrtpProtectionProfile]) -> Self {
        let provider = Arc::new(AwsLcRsProvider::default());
        let certificate =
            Certificate::generate_self_signed(vec!["client".to_owned()], provider.crypto())
                .unwrap();
        let hash = digest::digest(&digest::SHA256, &certificate.certificate[0]);
        let crypto: Arc<dyn RTCCryptoProvider> = provider.clone();
        let config = ConfigBuilder::default()
            .with_crypto_provider(crypto)
            .with_certificates(vec![certificate])
            .with_srtp_protection_profiles(profiles.to_vec())
            .with_extended_master_secret(ExtendedMasterSecretType::Require)
            .with_insecure_skip_verify(true)
            .build(true, None)
            .unwrap();
        Self {
            provider,
            config: Arc::new(config),
            certificate_hash: hash.as_ref().to_vec(),
            dtls: Endpoint::new(SERVER, TransportProtocol::UDP, None),
            keys: None,
            sctp: SctpEndpoint::new(Arc::new(EndpointConfig::new()), None),
            association: None,
            messages: Vec::new(),
            packets: Vec::new(),
            is_closed: false,
            transactions: 0,
            flight: Vec::new(),
            repeat_at: None,
        }
    }

    /// The session part of an offer: m-lines are the caller's.
    pub(crate) fn offer(&self, media: &str) -> String {
        let fingerprint: Vec<String> = self
            .certificate_hash
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        format!(
            "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=ice-ufrag:cafe\r\n\
             a=ice-pwd:0123456789012345678901\r\na=fingerprint:sha-256 {}\r\na=setup:actpass\r\n{media}",
            fingerprint.join(":"),
        )
    }

    /// A connectivity check for the server's credentials.
    pub(crate) fn check(&mut self, ufrag: &str, pwd: &str, nominate: bool) -> Vec<u8> {
        let extra: &[u16] = if nominate {
            &[ATTR_USE_CANDIDATE.value()]
        } else {
            &[]
        };
        self.check_with(ufrag, pwd, extra)
    }

    /// A check of an agent that thinks it is controlled.
    pub(crate) fn check_as_controlled(&mut self, ufrag: &str, pwd: &str) -> Vec<u8> {
        self.check_with(ufrag, pwd, &[ATTR_ICE_CONTROLLED.value()])
    }

    fn check_with(&mut self, ufrag: &str, pwd: &str, attributes: &[u16]) -> Vec<u8> {
        self.transactions += 1;
        let mut setters: Vec<Box<dyn Setter + '_>> = vec![
            Box::new(BINDING_REQUEST),
            Box::new(TransactionId([self.transactions; 12])),
            Box::new(TextAttribute::new(ATTR_USERNAME, format!("{ufrag}:cafe"))),
        ];
        for &attribute in attributes {
            let value = if attribute == ATTR_USE_CANDIDATE.value() {
                vec![]
            } else {
                vec![1; 8]
            };
            setters.push(Box::new(RawAttribute {
                typ: rtc_stun::attributes::AttrType(attribute),
                length: u16::try_from(value.len()).unwrap(),
                value,
            }));
        }
        setters.push(Box::new(
            MessageIntegrity::new_short_term_integrity_with_provider(
                pwd.to_owned(),
                self.provider.crypto(),
            ),
        ));
        setters.push(Box::new(FINGERPRINT));
        let mut message = Message::new();
        message.build(&setters).unwrap();
        message.raw
    }

    /// Starts the DTLS handshake.
    pub(crate) fn connect(&mut self, now: Instant) {
        self.dtls
            .connect(now, SERVER, self.config.clone(), None)
            .unwrap();
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.keys.is_some()
    }

    /// Returns the DTLS datagrams to send.
    pub(crate) fn poll(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        if let Some((_, association)) = &mut self.association {
            while let Some(transmit) = association.poll_transmit(now) {
                if let Payload::RawEncode(raw) = transmit.payload {
                    packets.extend(raw);
                }
            }
        }
        for packet in packets {
            self.write(&packet, now);
        }
        // Its last flight is made anew, with other record numbers, as browsers do.
        let _ = self.dtls.handle_timeout(SERVER, now);
        let mut datagrams = Vec::new();
        while let Some(transmit) = self.dtls.poll_transmit() {
            datagrams.push(transmit.message.to_vec());
        }
        if self.keys.is_none() {
            if !datagrams.is_empty() {
                self.flight.clone_from(&datagrams);
                self.repeat_at = Some(now + REPEAT_AFTER);
            } else if self.repeat_at.is_some_and(|due| due <= now) {
                self.repeat_at = Some(now + REPEAT_AFTER);
                datagrams.clone_from(&self.flight);
            }
        }
        datagrams
    }

    /// Sends application data as it is.
    pub(crate) fn write(&mut self, data: &[u8], now: Instant) {
        self.dtls.write(now, SERVER, data).unwrap();
    }

    pub(crate) fn handle_dtls(&mut self, datagram: &[u8], now: Instant) {
        let Ok(events) = self.dtls.read(now, SERVER, None, BytesMut::from(datagram)) else {
            return;
        };
        for event in events {
            match event {
                EndpointEvent::HandshakeComplete => self.export_keys(),
                EndpointEvent::ApplicationData(data) => self.handle_sctp(data.freeze(), now),
                EndpointEvent::PeerClosed => self.is_closed = true,
                _ => {}
            }
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if let Some((_, association)) = &mut self.association {
            association.handle_timeout(now);
        }
    }

    pub(crate) fn close(&mut self, now: Instant) {
        self.dtls.close(now).unwrap();
    }

    pub(crate) fn profile(&self) -> ProtectionProfile {
        let state = self.dtls.get_connection_state(SERVER).unwrap();
        if state.srtp_protection_profile() == SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm {
            ProtectionProfile::AeadAes128Gcm
        } else {
            ProtectionProfile::Aes128CmHmacSha1_80
        }
    }

    fn export_keys(&mut self) {
        let profile = self.profile();
        let state = self.dtls.get_connection_state(SERVER).unwrap();
        let (key, salt) = (profile.key_len(), profile.salt_len());
        let material = state
            .export_keying_material("EXTRACTOR-dtls_srtp", &[], 2 * (key + salt))
            .unwrap();
        let material: &[u8] = material.as_ref();
        let (keys, salts) = material.split_at(2 * key);
        let context = |key: &[u8], salt: &[u8]| {
            Context::new(key, salt, profile, None, None, self.provider.crypto()).unwrap()
        };
        let outgoing = context(&keys[..key], &salts[..salt]);
        let incoming = context(&keys[key..], &salts[salt..]);
        self.keys = Some((outgoing, incoming));
    }

    pub(crate) fn seal_rtp(&mut self, packet: &[u8]) -> Vec<u8> {
        let (outgoing, _) = self.keys.as_mut().unwrap();
        outgoing.encrypt_rtp(packet).unwrap().to_vec()
    }

    pub(crate) fn open_rtp(&mut self, datagram: &[u8]) -> Vec<u8> {
        let (_, incoming) = self.keys.as_mut().unwrap();
        incoming.decrypt_rtp(datagram).unwrap().to_vec()
    }

    pub(crate) fn seal_rtcp(&mut self, packet: &[u8]) -> Vec<u8> {
        let (outgoing, _) = self.keys.as_mut().unwrap();
        outgoing.encrypt_rtcp(packet).unwrap().to_vec()
    }

    pub(crate) fn open_rtcp(&mut self, datagram: &[u8]) -> Vec<u8> {
        let (_, incoming) = self.keys.as_mut().unwrap();
        incoming.decrypt_rtcp(datagram).unwrap().to_vec()
    }

    /// Starts the SCTP association.
    pub(crate) fn connect_sctp(&mut self) {
        let (handle, association) = self.sctp.connect(ClientConfig::new(), SERVER).unwrap();
        self.association = Some((handle, association));
    }

    /// Opens a stream and asks for a data channel on it (RFC 8832 §5.1).
    pub(crate) fn open_channel(&mut self, stream: u16, label: &[u8]) {
        self.association()
            .open_stream(stream, PayloadProtocolIdentifier::Dcep)
            .unwrap();
        let mut open = vec![3, 0, 0, 0, 0, 0, 0, 0];
        open.extend(u16::try_from(label.len()).unwrap().to_be_bytes());
        open.extend([0, 0]);
        open.extend(label);
        self.send(stream, PayloadProtocolIdentifier::Dcep, &open);
    }

    pub(crate) fn send(&mut self, stream: u16, ppi: PayloadProtocolIdentifier, payload: &[u8]) {
        self.association()
            .stream(stream)
            .unwrap()
            .write_with_ppi(payload, ppi)
            .unwrap();
    }

    pub(crate) fn association(&mut self) -> &mut Association {
        &mut self.association.as_mut().unwrap().1
    }

    fn handle_sctp(&mut self, packet: Bytes, now: Instant) {
        let Some((_, association)) = &mut self.association else {
            self.packets.push(packet);
            return;
        };
        if let Some((_, DatagramEvent::AssociationEvent(event))) =
            self.sctp.handle(now, SERVER, None, None, packet)
        {
            association.handle_event(event);
        }
        while let Some(event) = association.poll() {
            let Event::Stream(StreamEvent::Readable { id } | StreamEvent::Opened { id }) = event
            else {
                continue;
            };
            while let Ok(Some(chunks)) = association.stream(id).and_then(|mut s| s.read()) {
                let mut message = vec![0; chunks.len()];
                chunks.read(&mut message).unwrap();
                self.messages.push((id, chunks.ppi, message));
            }
        }
    }
}
