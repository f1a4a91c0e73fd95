//! Clients of an independent stack, over real sockets.

mod keyframe_requests;

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::BytesMut;
use rtc::{
    data_channel::RTCDataChannelId,
    interceptor::{Registry, Slot},
    media_stream::MediaStreamTrack,
    peer_connection::{
        RTCPeerConnection, RTCPeerConnectionBuilder,
        configuration::media_engine::MediaEngine,
        event::{RTCDataChannelEvent, RTCPeerConnectionEvent},
        message::RTCMessage,
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

use keyframe_requests::KeyframeRequests;

/// A browser-like peer and everything it has received.
pub(crate) struct Client {
    connection: Box<RTCPeerConnection>,
    socket: UdpSocket,
    local: SocketAddr,
    sender: Option<RTCRtpSenderId>,
    channel: Option<RTCDataChannelId>,
    next_seq: u16,
    pub(crate) connected: bool,
    pub(crate) ended: bool,
    pub(crate) packets: Vec<rtp::Packet>,
    pub(crate) messages: Vec<String>,
    keyframe_requests: Arc<AtomicUsize>,
}

impl Client {
    /// A viewer on this loopback address, and its offer.
    pub(crate) fn viewer(ip: IpAddr) -> (Self, String) {
        let mut client = Self::new(ip);
        client
            .connection
            .add_transceiver_from_kind(RtpCodecKind::Video, None)
            .unwrap();
        client.connection.create_data_channel("chat", None).unwrap();
        let offer = client.offer();
        (client, offer)
    }

    /// A publisher of H264 on this loopback address, and its offer.
    pub(crate) fn publisher(ip: IpAddr) -> (Self, String) {
        let mut client = Self::new(ip);
        client.sender = Some(client.connection.add_track(video_track()).unwrap());
        client.connection.create_data_channel("chat", None).unwrap();
        let offer = client.offer();
        (client, offer)
    }

    pub(crate) fn accept(&mut self, answer: String) {
        let answer = RTCSessionDescription::answer(answer).unwrap();
        self.connection
            .set_remote_description(Instant::now(), answer)
            .unwrap();
    }

    /// Sends one packet of video.
    pub(crate) fn send_video(&mut self, payload: &[u8], frame: u32, marker: bool) {
        let header = rtp::header::Header {
            version: 2,
            marker,
            payload_type: VIDEO_PT,
            sequence_number: self.next_seq,
            timestamp: frame.wrapping_mul(3000),
            ssrc: VIDEO_SSRC,
            ..Default::default()
        };
        self.next_seq = self.next_seq.wrapping_add(1);
        let payload = payload.to_vec().into();
        let sender = self.sender.unwrap();
        self.connection
            .rtp_sender(sender)
            .unwrap()
            .write_rtp(Instant::now(), rtp::Packet { header, payload })
            .unwrap();
    }

    /// How many keyframes were asked for.
    pub(crate) fn keyframe_requests(&self) -> usize {
        self.keyframe_requests.load(Ordering::Relaxed)
    }

    /// Whether the data channel is open.
    pub(crate) fn has_channel(&self) -> bool {
        self.channel.is_some()
    }

    pub(crate) fn say(&mut self, text: &str) {
        let id = self.channel.unwrap();
        let mut channel = self.connection.data_channel(id).unwrap();
        channel.send_text(Instant::now(), text).unwrap();
    }

    /// Receives, sends and does what is due.
    pub(crate) fn step(&mut self) {
        let now = Instant::now();
        let mut buffer = [0; 2048];
        loop {
            match self.socket.recv_from(&mut buffer) {
                Ok((len, source)) => self.feed(&buffer[..len], source, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => panic!("receive: {error}"),
            }
        }
        if self.connection.poll_timeout().is_some_and(|at| at <= now) {
            self.connection.handle_timeout(now).unwrap();
        }
        while let Some(output) = self.connection.poll_write() {
            let to = output.transport.peer_addr;
            self.socket.send_to(&output.message, to).unwrap();
        }
        while let Some(event) = self.connection.poll_event() {
            self.note(&event);
        }
        while let Some(message) = self.connection.poll_read() {
            match message.message {
                RTCMessage::RtpPacket(_, packet) => self.packets.push(packet),
                RTCMessage::DataChannelMessage(_, message) => {
                    let text = String::from_utf8(message.data.to_vec());
                    self.messages.push(text.unwrap());
                }
                RTCMessage::RtcpPacket(..) | _ => {}
            }
        }
    }

    fn new(ip: IpAddr) -> Self {
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let local = socket.local_addr().unwrap();
        let mut codecs = MediaEngine::default();
        codecs.register_default_codecs().unwrap();
        let requests = KeyframeRequests::default();
        let keyframe_requests = Arc::clone(&requests.count);
        let connection = RTCPeerConnectionBuilder::new()
            .with_media_engine(codecs)
            .with_interceptor_registry(Registry::new().with(Slot::from(14_000), requests))
            .build(Instant::now())
            .unwrap();
        Self {
            connection: Box::new(connection),
            socket,
            local,
            sender: None,
            channel: None,
            next_seq: 65_500,
            connected: false,
            ended: false,
            packets: Vec::new(),
            messages: Vec::new(),
            keyframe_requests,
        }
    }

    fn offer(&mut self) -> String {
        let offer = self.connection.create_offer(None).unwrap();
        self.connection
            .set_local_description(Instant::now(), offer.clone())
            .unwrap();
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
        .new_candidate_host()
        .unwrap();
        let candidate = RTCIceCandidate::from(&candidate).to_json().unwrap();
        self.connection.add_local_candidate(candidate).unwrap();
        offer.sdp
    }

    fn feed(&mut self, datagram: &[u8], source: SocketAddr, now: Instant) {
        let input = TaggedBytesMut {
            now,
            transport: TransportContext {
                local_addr: self.local,
                peer_addr: source,
                transport_protocol: TransportProtocol::UDP,
                ecn: None,
            },
            message: BytesMut::from(datagram),
        };
        self.connection.handle_read(input).unwrap();
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "most events of a browser-like peer do not matter here"
    )]
    fn note(&mut self, event: &RTCPeerConnectionEvent) {
        match event {
            RTCPeerConnectionEvent::OnConnectionStateChangeEvent(state) => {
                self.connected = *state == RTCPeerConnectionState::Connected;
                self.ended |= matches!(
                    state,
                    RTCPeerConnectionState::Closed | RTCPeerConnectionState::Failed
                );
            }
            RTCPeerConnectionEvent::OnDataChannel(RTCDataChannelEvent::OnOpen(id)) => {
                self.channel = Some(*id);
            }
            RTCPeerConnectionEvent::OnDataChannel(RTCDataChannelEvent::OnClose(_)) => {
                self.channel = None;
            }
            _ => {}
        }
    }
}

/// Runs clients until something is true of them; panics after 10 s.
pub(crate) async fn until<const N: usize>(
    what: &str,
    clients: &mut [&mut Client; N],
    mut done: impl FnMut(&mut [&mut Client; N]) -> bool,
) {
    let limit = Instant::now() + Duration::from_secs(10);
    loop {
        for client in clients.iter_mut() {
            client.step();
        }
        if done(clients) {
            return;
        }
        assert!(Instant::now() < limit, "waited 10 s until {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A keyframe's packets: parameter sets (STAP-A) and two fragments of an IDR slice (RFC 6184).
pub(crate) fn keyframe() -> [Vec<u8>; 3] {
    let mut sets = vec![0x78, 0, 14];
    sets.extend([
        0x67, 0x42, 0xe0, 0x1f, 0x8c, 0x8d, 0x40, 0x50, 0x1e, 0xd0, 0x0f, 0x08, 0x84, 0x6a,
    ]);
    sets.extend([0, 4, 0x68, 0xce, 0x3c, 0x80]);
    let fragment = |header: u8| [vec![0x7c, header], vec![7; 900]].concat();
    [sets, fragment(0x85), fragment(0x45)]
}

/// A dependent frame of one packet that says which it is.
pub(crate) fn delta(frame: u8) -> Vec<u8> {
    [vec![0x41, frame], vec![frame; 500]].concat()
}

fn video_track() -> MediaStreamTrack {
    MediaStreamTrack::new(
        "stream".to_owned(),
        "video".to_owned(),
        "video".to_owned(),
        RtpCodecKind::Video,
        vec![RTCRtpEncodingParameters {
            rtp_coding_parameters: RTCRtpCodingParameters {
                ssrc: Some(VIDEO_SSRC),
                ..Default::default()
            },
            codec: RTCRtpCodec {
                mime_type: "video/H264".to_owned(),
                clock_rate: 90_000,
                channels: 0,
                sdp_fmtp_line:
                    "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"
                        .to_owned(),
                rtcp_feedback: vec![],
            },
            ..Default::default()
        }],
    )
}

const VIDEO_SSRC: u32 = 0x1234;
const VIDEO_PT: u8 = 125;
