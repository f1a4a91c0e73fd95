//! One WebRTC client: a sans-I/O peer connection and its socket. Media that it receives is counted, not
//! decrypted: with hundreds of viewers in one process, their crypto would be most of the machine's work.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    time::Instant,
};

use anyhow::Context;
use bytes::BytesMut;
use rtc::{
    dtls::extension::extension_use_srtp::SrtpProtectionProfile,
    interceptor::Registry,
    media_stream::MediaStreamTrack,
    peer_connection::{
        RTCPeerConnection, RTCPeerConnectionBuilder,
        configuration::{media_engine::MediaEngine, setting_engine::SettingEngineBuilder},
        event::{RTCDataChannelEvent, RTCPeerConnectionEvent},
        sdp::RTCSessionDescription,
        state::RTCPeerConnectionState,
        transport::{CandidateConfig, CandidateHostConfig, RTCIceCandidate},
    },
    rtp,
    rtp_transceiver::{
        RTCRtpSenderId,
        rtp_sender::{RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind},
    },
    sansio::Protocol,
    shared::{TaggedBytesMut, TransportContext, TransportProtocol},
};

use crate::profile::Medium;

/// A client that is being connected or is connected.
pub(crate) struct Peer {
    connection: RTCPeerConnection,
    socket: UdpSocket,
    local: SocketAddr,
    senders: Option<Senders>,
    connected: bool,
    channel_open: bool,
    packets: u64,
}

/// What a publisher sends with.
struct Senders {
    video: RTCRtpSenderId,
    audio: RTCRtpSenderId,
}

impl Peer {
    /// Creates a viewer with a data channel, and its offer.
    ///
    /// # Errors
    /// When the client cannot be built.
    pub(crate) fn viewer() -> anyhow::Result<(Self, String)> {
        let mut peer = Self::new()?;
        for kind in [RtpCodecKind::Video, RtpCodecKind::Audio] {
            peer.connection.add_transceiver_from_kind(kind, None)?;
        }
        peer.connection.create_data_channel("chat", None)?;
        let offer = peer.offer()?;
        Ok((peer, offer))
    }

    /// Creates a publisher of H264 and Opus, and its offer.
    ///
    /// # Errors
    /// When the client cannot be built.
    pub(crate) fn publisher() -> anyhow::Result<(Self, String)> {
        let mut peer = Self::new()?;
        let video = peer.connection.add_track(track(Medium::Video))?;
        let audio = peer.connection.add_track(track(Medium::Audio))?;
        peer.senders = Some(Senders { video, audio });
        let offer = peer.offer()?;
        Ok((peer, offer))
    }

    /// Takes the answer: connecting begins.
    ///
    /// # Errors
    /// When the answer is not usable.
    pub(crate) fn accept(&mut self, answer: String, now: Instant) -> anyhow::Result<()> {
        let answer = RTCSessionDescription::answer(answer).context("read the answer")?;
        self.connection
            .set_remote_description(now, answer)
            .context("use the answer")?;
        self.advance(now)
    }

    /// Takes everything that has arrived.
    ///
    /// # Errors
    /// When the connection has failed.
    pub(crate) fn receive(&mut self, buffer: &mut [u8], now: Instant) -> anyhow::Result<()> {
        let mut fed = false;
        loop {
            let (len, source) = match self.socket.recv_from(buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("receive"),
            };
            let datagram = buffer.get(..len).unwrap_or_default();
            if is_media(datagram) {
                self.packets += 1;
                continue;
            }
            fed = true;
            self.connection.handle_read(TaggedBytesMut {
                now,
                transport: TransportContext {
                    local_addr: self.local,
                    peer_addr: source,
                    transport_protocol: TransportProtocol::UDP,
                    ecn: None,
                },
                message: BytesMut::from(datagram),
            })?;
        }
        if fed { self.advance(now) } else { Ok(()) }
    }

    /// Does what is due.
    ///
    /// # Errors
    /// When the connection has failed.
    pub(crate) fn tick(&mut self, now: Instant) -> anyhow::Result<()> {
        if self.connection.poll_timeout().is_some_and(|at| at <= now) {
            self.connection.handle_timeout(now)?;
            self.advance(now)?;
        }
        Ok(())
    }

    /// Sends one packet of a publisher.
    ///
    /// # Errors
    /// When there is no such track, or the connection has failed.
    pub(crate) fn publish(
        &mut self,
        medium: Medium,
        mut packet: rtp::Packet,
        now: Instant,
    ) -> anyhow::Result<()> {
        let senders = self.senders.as_ref().context("only a publisher sends")?;
        let (sender, ssrc, pt) = match medium {
            Medium::Audio => (senders.audio, AUDIO_SSRC, AUDIO_PT),
            Medium::Video => (senders.video, VIDEO_SSRC, VIDEO_PT),
        };
        packet.header.ssrc = ssrc;
        packet.header.payload_type = pt;
        self.connection
            .rtp_sender(sender)
            .context("find the sender")?
            .write_rtp(now, packet)?;
        self.advance(now)
    }

    /// Returns whether media may flow.
    pub(crate) fn is_connected(&self) -> bool {
        self.connected
    }

    /// Returns whether the data channel is open.
    pub(crate) fn is_channel_open(&self) -> bool {
        self.channel_open
    }

    /// Returns how many media packets arrived since the last call.
    pub(crate) fn take_packets(&mut self) -> u64 {
        std::mem::take(&mut self.packets)
    }

    fn new() -> anyhow::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").context("open a socket")?;
        socket.set_nonblocking(true)?;
        let local = socket.local_addr()?;
        let mut codecs = MediaEngine::default();
        codecs.register_default_codecs()?;
        // The order of Chromium: a server that does not look for itself ends up with HMAC-SHA1.
        let settings = SettingEngineBuilder::new()
            .with_srtp_protection_profiles(vec![
                SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
                SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
            ])
            .build();
        let connection = RTCPeerConnectionBuilder::new()
            .with_media_engine(codecs)
            .with_setting_engine(settings)
            .with_interceptor_registry(Registry::new())
            .build(Instant::now())
            .context("build a peer connection")?;
        Ok(Self {
            connection,
            socket,
            local,
            senders: None,
            connected: false,
            channel_open: false,
            packets: 0,
        })
    }

    fn offer(&mut self) -> anyhow::Result<String> {
        let offer = self
            .connection
            .create_offer(None)
            .context("make an offer")?;
        self.connection
            .set_local_description(Instant::now(), offer.clone())?;
        let candidate = CandidateHostConfig {
            base_config: CandidateConfig {
                network: "udp".to_owned(),
                address: self.local.ip().to_string(),
                port: self.local.port(),
                component: 1,
                ..Default::default()
            },
            ..Default::default()
        }
        .new_candidate_host()?;
        self.connection
            .add_local_candidate(RTCIceCandidate::from(&candidate).to_json()?)?;
        Ok(offer.sdp)
    }

    /// Sends and notes all output.
    fn advance(&mut self, now: Instant) -> anyhow::Result<()> {
        if self.connection.poll_timeout().is_some_and(|at| at <= now) {
            self.connection.handle_timeout(now)?;
        }
        while let Some(output) = self.connection.poll_write() {
            // A full buffer is a lost datagram.
            let _ = self
                .socket
                .send_to(&output.message, output.transport.peer_addr);
        }
        while let Some(event) = self.connection.poll_event() {
            self.note(&event);
        }
        while self.connection.poll_read().is_some() {}
        Ok(())
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "most events of a browser-like peer do not matter here"
    )]
    fn note(&mut self, event: &RTCPeerConnectionEvent) {
        match event {
            RTCPeerConnectionEvent::OnConnectionStateChangeEvent(state) => {
                self.connected = *state == RTCPeerConnectionState::Connected;
            }
            RTCPeerConnectionEvent::OnDataChannel(RTCDataChannelEvent::OnOpen(_)) => {
                self.channel_open = true;
            }
            _ => {}
        }
    }
}

/// Tells SRTP from everything else (RFC 7983, RFC 5761).
fn is_media(datagram: &[u8]) -> bool {
    matches!(datagram, [128..=191, second, ..] if !(192..=223).contains(second))
}

fn track(medium: Medium) -> MediaStreamTrack {
    let (kind, ssrc, codec) = match medium {
        Medium::Audio => (
            RtpCodecKind::Audio,
            AUDIO_SSRC,
            codec("audio/opus", 48_000, 2, "minptime=10;useinbandfec=1"),
        ),
        Medium::Video => (
            RtpCodecKind::Video,
            VIDEO_SSRC,
            codec(
                "video/H264",
                90_000,
                0,
                "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
            ),
        ),
    };
    MediaStreamTrack::new(
        "bench".to_owned(),
        format!("bench-{kind}"),
        format!("bench-{kind}"),
        kind,
        vec![RTCRtpEncodingParameters {
            rtp_coding_parameters: RTCRtpCodingParameters {
                ssrc: Some(ssrc),
                ..Default::default()
            },
            codec,
            ..Default::default()
        }],
    )
}

fn codec(mime_type: &str, clock_rate: u32, channels: u16, fmtp: &str) -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: mime_type.to_owned(),
        clock_rate,
        channels,
        sdp_fmtp_line: fmtp.to_owned(),
        rtcp_feedback: vec![],
    }
}

const VIDEO_SSRC: u32 = 0x1111;
const AUDIO_SSRC: u32 = 0x2222;

/// The client's payload types of H264 constrained baseline (packetization mode 1) and Opus.
const VIDEO_PT: u8 = 125;
const AUDIO_PT: u8 = 111;
