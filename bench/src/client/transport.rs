//! ICE, DTLS, SRTP and a data channel of one client. Time and datagrams are values.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use aws_lc_rs::rand;
use bytes::BytesMut;
use rtc_crypto::RTCCryptoProvider;
use rtc_dtls::{
    endpoint::{Endpoint, EndpointEvent},
    extension::extension_use_srtp::SrtpProtectionProfile,
};
use rtc_shared::TransportProtocol;
use rtc_srtp::{context::Context, protection_profile::ProtectionProfile};

use super::{
    Answer, Feedback, Identity, Offer,
    channel::Channel,
    stun::{self, Credentials, Incoming},
};

/// A client's transport.
pub(crate) struct Transport {
    identity: Arc<Identity>,
    local: Credentials,
    remote: Credentials,
    candidates: Vec<SocketAddr>,
    /// The candidate that has answered.
    selected: Option<SocketAddr>,
    next_check: Instant,
    checks: u32,
    random: u64,
    dtls: Endpoint,
    /// The last handshake flight, and when to repeat it: the library's own timer stops too early.
    flight: Vec<Vec<u8>>,
    repeat_at: Option<Instant>,
    keys: Option<Keys>,
    wants_channel: bool,
    channel: Option<Box<Channel>>,
    outgoing: Vec<(SocketAddr, Vec<u8>)>,
}

struct Keys {
    outgoing: Context,
    incoming: Context,
}

/// What a datagram caused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Media may flow.
    Connected,
    /// RTCP said this.
    Feedback(Vec<Feedback>),
    /// The server has ended the session.
    Closed,
}

impl Transport {
    /// Creates a transport and its offer.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub(crate) fn new(
        identity: &Arc<Identity>,
        offer: Offer,
        now: Instant,
    ) -> anyhow::Result<(Self, String)> {
        let mut random = [0; 24];
        if rand::fill(&mut random).is_err() {
            anyhow::bail!("no randomness");
        }
        let word: String = random[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let local = Credentials {
            ufrag: word[..8].to_owned(),
            pwd: word[8..].to_owned(),
        };
        let sdp = offer.write(&local, &identity.fingerprint);
        let [.., a, b, c, d, e, f, g, h] = random;
        let transport = Self {
            identity: Arc::clone(identity),
            local,
            remote: Credentials::default(),
            candidates: Vec::new(),
            selected: None,
            next_check: now,
            checks: 0,
            random: u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            dtls: Endpoint::new(SERVER, TransportProtocol::UDP, None),
            flight: Vec::new(),
            repeat_at: None,
            keys: None,
            wants_channel: false,
            channel: None,
            outgoing: Vec::new(),
        };
        Ok((transport, sdp))
    }

    /// Takes the answer: checks begin.
    pub(crate) fn accept(&mut self, answer: &Answer, now: Instant) {
        self.remote.clone_from(&answer.remote);
        self.candidates.clone_from(&answer.candidates);
        self.wants_channel = answer.channel;
        self.handle_timeout(now);
    }

    /// Returns whether media may flow.
    pub(crate) fn is_connected(&self) -> bool {
        self.keys.is_some()
    }

    /// Returns whether the data channel is open.
    pub(crate) fn is_channel_open(&self) -> bool {
        self.channel
            .as_ref()
            .is_some_and(|channel| channel.is_open())
    }

    /// Returns where to send to.
    pub(crate) fn selected(&self) -> Option<SocketAddr> {
        self.selected
    }

    /// Takes one datagram that is not RTP.
    pub(crate) fn handle(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        now: Instant,
    ) -> Option<Event> {
        match datagram.first()? {
            0..=3 => {
                self.handle_stun(datagram, from, now);
                None
            }
            20..=63 => self.handle_dtls(datagram, now),
            128..=191 => {
                let plain = self.keys.as_mut()?.incoming.decrypt_rtcp(datagram).ok()?;
                Some(Event::Feedback(Feedback::parse(&plain)))
            }
            _ => None,
        }
    }

    /// Returns when [`Transport::handle_timeout`] is due.
    pub(crate) fn poll_timeout(&self) -> Instant {
        let channel = self
            .channel
            .as_ref()
            .and_then(|channel| channel.poll_timeout());
        [self.repeat_at, channel]
            .into_iter()
            .flatten()
            .fold(self.next_check, Instant::min)
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.next_check <= now && !self.candidates.is_empty() {
            self.check(now);
        }
        if self.repeat_at.is_some_and(|at| at <= now) {
            self.repeat_at = Some(now + REPEAT_AFTER);
            for datagram in self.flight.clone() {
                self.send(datagram);
            }
        }
        if let Some(channel) = &mut self.channel
            && channel.poll_timeout().is_some_and(|at| at <= now)
        {
            channel.handle_timeout(now);
        }
        self.flush(now);
    }

    /// Returns the next datagram to send.
    pub(crate) fn take_outgoing(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        std::mem::take(&mut self.outgoing)
    }

    /// Decrypts one RTP packet.
    pub(crate) fn open_rtp(&mut self, datagram: &[u8]) -> Option<BytesMut> {
        self.keys.as_mut()?.incoming.decrypt_rtp(datagram).ok()
    }

    /// Encrypts one RTP packet.
    pub(crate) fn seal_rtp(&mut self, packet: &[u8]) -> Option<BytesMut> {
        self.keys.as_mut()?.outgoing.encrypt_rtp(packet).ok()
    }

    /// Sends a compound RTCP packet.
    pub(crate) fn send_rtcp(&mut self, compound: &[u8]) {
        if let Some(keys) = &mut self.keys
            && let Ok(sealed) = keys.outgoing.encrypt_rtcp(compound)
        {
            self.send(sealed.to_vec());
        }
    }

    /// Says goodbye.
    pub(crate) fn close(&mut self, now: Instant) {
        // A connection that is not there needs no closing.
        let _ = self.dtls.close(now);
        self.flush(now);
    }

    /// Checks, and later asks for consent (RFC 7675): every candidate until one has answered.
    fn check(&mut self, now: Instant) {
        self.checks += 1;
        let crypto = self.identity.provider.crypto();
        let transaction = self.random.wrapping_add(u64::from(self.checks));
        let is_nominated = self.selected.is_some();
        let check = stun::check(crypto, &self.local, &self.remote, transaction, is_nominated);
        if let Some(check) = check {
            let to = self
                .selected
                .map_or_else(|| self.candidates.clone(), |one| vec![one]);
            self.outgoing
                .extend(to.into_iter().map(|to| (to, check.clone())));
        }
        self.next_check = now
            + if self.is_connected() {
                // Randomized between 0.8 and 1.2 of its base, RFC 7675 §5.1.
                let share = u32::try_from(transaction % 400).unwrap_or(0);
                CONSENT * (800 + share) / 1000
            } else {
                CHECK_GAP
            };
    }

    fn handle_stun(&mut self, datagram: &[u8], from: SocketAddr, now: Instant) {
        let crypto = self.identity.provider.crypto();
        match stun::receive(crypto, &self.local, from, datagram) {
            Some(Incoming::Check(answer)) => self.outgoing.push((from, answer)),
            Some(Incoming::Answer) if self.selected.is_none() => {
                self.selected = Some(from);
                self.check(now);
                let config = Arc::clone(&self.identity.config);
                if self.dtls.connect(now, SERVER, config, None).is_ok() {
                    self.flush(now);
                }
            }
            Some(Incoming::Answer) | None => {}
        }
    }

    fn handle_dtls(&mut self, datagram: &[u8], now: Instant) -> Option<Event> {
        let events = self
            .dtls
            .read(now, SERVER, None, BytesMut::from(datagram))
            .unwrap_or_default();
        let mut outcome = None;
        for event in events {
            match event {
                EndpointEvent::HandshakeComplete => {
                    self.keys = self.export_keys().ok();
                    self.repeat_at = None;
                    self.next_check = now + CONSENT;
                    if self.wants_channel {
                        self.channel = Channel::new(SERVER).ok().map(Box::new);
                    }
                    outcome = Some(Event::Connected);
                }
                EndpointEvent::ApplicationData(data) => {
                    if let Some(channel) = &mut self.channel {
                        channel.handle(data.freeze(), SERVER, now);
                    }
                }
                EndpointEvent::PeerClosed => outcome = Some(Event::Closed),
                _ => {}
            }
        }
        self.flush(now);
        outcome
    }

    fn export_keys(&self) -> anyhow::Result<Keys> {
        let state = self
            .dtls
            .get_connection_state(SERVER)
            .context("find the connection")?;
        let is_gcm =
            state.srtp_protection_profile() == SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm;
        let profile = if is_gcm {
            ProtectionProfile::AeadAes128Gcm
        } else {
            ProtectionProfile::Aes128CmHmacSha1_80
        };
        let (key, salt) = (profile.key_len(), profile.salt_len());
        let material =
            state.export_keying_material("EXTRACTOR-dtls_srtp", &[], 2 * (key + salt))?;
        let material: &[u8] = material.as_ref();
        let (keys, salts) = material.split_at_checked(2 * key).context("cut the keys")?;
        let context = |key: &[u8], salt: &[u8]| {
            Context::new(
                key,
                salt,
                profile,
                None,
                None,
                self.identity.provider.crypto(),
            )
        };
        Ok(Keys {
            outgoing: context(&keys[..key], &salts[..salt])?,
            incoming: context(&keys[key..], &salts[salt..])?,
        })
    }

    /// Collects what the parts have to send.
    fn flush(&mut self, now: Instant) {
        let mut packets = Vec::new();
        while let Some(raw) = self
            .channel
            .as_mut()
            .and_then(|channel| channel.poll_transmit(now))
        {
            packets.extend(raw);
        }
        for packet in packets {
            // Lost like a datagram: SCTP repeats it.
            let _ = self.dtls.write(now, SERVER, &packet);
        }
        let mut datagrams = Vec::new();
        while let Some(transmit) = self.dtls.poll_transmit() {
            datagrams.push(transmit.message.to_vec());
        }
        if !self.is_connected() && !datagrams.is_empty() {
            self.flight.clone_from(&datagrams);
            self.repeat_at = Some(now + REPEAT_AFTER);
        }
        for datagram in datagrams {
            self.send(datagram);
        }
    }

    fn send(&mut self, datagram: Vec<u8>) {
        if let Some(to) = self.selected {
            self.outgoing.push((to, datagram));
        }
    }
}

/// The library keys connections by address; addresses are decided above it.
const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7);

const CHECK_GAP: Duration = Duration::from_millis(50);
const CONSENT: Duration = Duration::from_secs(5);
const REPEAT_AFTER: Duration = Duration::from_millis(400);
