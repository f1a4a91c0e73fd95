//! An independent WebRTC peer on the `webrtc` crate.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use reqwest::{Response, StatusCode, header};
use rtc::{
    media_stream::MediaStreamTrack,
    rtp::Packet,
    rtp_transceiver::rtp_sender::{
        RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters,
        RTCRtpEncodingParameters, RtpCodecKind,
    },
};
use tokio::{
    sync::{broadcast, watch},
    task::JoinSet,
};
use webrtc::{
    media_stream::{
        track_local::{TrackLocal, static_rtp::TrackLocalStaticRTP},
        track_remote::{TrackRemote, TrackRemoteEvent},
    },
    peer_connection::{
        MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler,
        RTCPeerConnectionState, RTCSessionDescription, Registry, register_default_interceptors,
    },
    rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit},
};

use super::{
    channel::Channel,
    http,
    random::Random,
    relay::Relay,
    server::Server,
    source::{Source, Video},
    stream::Stream,
    wait,
};

/// A peer connection with what it sends and what it has received.
pub(crate) struct Peer {
    connection: Arc<dyn PeerConnection>,
    state: watch::Receiver<RTCPeerConnectionState>,
    received: Arc<Mutex<BTreeMap<u32, Stream>>>,
    senders: JoinSet<()>,
    readers: Arc<Mutex<JoinSet<()>>>,
    path: Option<Relay>,
    /// Whether it offers transport-wide feedback. The client of these tests dates what it reads late, which
    /// looks like a full path, on which little is repeated.
    reports_arrivals: bool,
}

/// A WHIP or WHEP session, by its URL.
pub(crate) struct Resource {
    url: String,
}

impl Peer {
    /// Creates a peer that sends what `source` makes, once it is connected.
    pub(crate) async fn publisher(server: &Server, source: &Source) -> Self {
        let mut engine = MediaEngine::default();
        if let Some((codec, _)) = &source.video {
            register_video(&mut engine, *codec);
        }
        engine.register_codec(opus(), RtpCodecKind::Audio).unwrap();
        let mut peer = Box::pin(Self::new(server.ip(), engine)).await;
        if let Some((codec, packets)) = &source.video {
            peer.send(RtpCodecKind::Video, video(*codec), packets.subscribe())
                .await;
        }
        if let Some(packets) = &source.audio {
            peer.send(RtpCodecKind::Audio, opus(), packets.subscribe())
                .await;
        }
        peer
    }

    /// Creates a peer that receives one video and one audio.
    pub(crate) async fn viewer(server: &Server) -> Self {
        Self::viewer_of(server, &[RtpCodecKind::Video, RtpCodecKind::Audio]).await
    }

    /// Creates a viewer that loses this share of the RTP packets, in thousandths.
    pub(crate) async fn lossy_viewer(server: &Server, loss: u64) -> Self {
        let mut peer = Self::viewer(server).await;
        peer.path = Some(Relay::start(server.ip(), loss).await);
        peer.reports_arrivals = false;
        peer
    }

    /// Creates a peer that receives these kinds of media, one m-line each.
    pub(crate) async fn viewer_of(server: &Server, kinds: &[RtpCodecKind]) -> Self {
        let mut engine = MediaEngine::default();
        register_video(&mut engine, Video::H264);
        register_video(&mut engine, Video::Vp8);
        engine.register_codec(opus(), RtpCodecKind::Audio).unwrap();
        let mut peer = Box::pin(Self::new(server.ip(), engine)).await;
        peer.path = Some(Relay::start(server.ip(), 0).await);
        for kind in kinds {
            let init = RTCRtpTransceiverInit {
                direction: RTCRtpTransceiverDirection::Recvonly,
                ..Default::default()
            };
            peer.connection
                .add_transceiver_from_kind(*kind, Some(init))
                .await
                .unwrap();
        }
        peer
    }

    async fn new(ip: IpAddr, mut engine: MediaEngine) -> Self {
        let registry = register_default_interceptors(Registry::new(), &mut engine).unwrap();
        let (changed, state) = watch::channel(RTCPeerConnectionState::New);
        let received = Arc::default();
        let readers = Arc::default();
        let handler = Handler {
            changed,
            received: Arc::clone(&received),
            readers: Arc::clone(&readers),
        };
        let local = if ip.is_ipv4() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            ip
        };
        let builder = PeerConnectionBuilder::new()
            .with_media_engine(engine)
            .with_interceptor_registry(registry)
            .with_handler(Arc::new(handler))
            .with_udp_addrs(vec![(local, 0_u16)]);
        let connection = Box::pin(builder.build()).await.unwrap();
        Self {
            connection: Arc::new(connection),
            state,
            received,
            senders: JoinSet::new(),
            readers,
            path: None,
            reports_arrivals: true,
        }
    }

    async fn send(
        &mut self,
        kind: RtpCodecKind,
        codec: RTCRtpCodecParameters,
        mut packets: broadcast::Receiver<Packet>,
    ) {
        let ssrc = u32::try_from(Random::new().next() >> 16).unwrap();
        let track = Arc::new(TrackLocalStaticRTP::new(MediaStreamTrack::new(
            "fanlight".into(),
            format!("track-{kind}"),
            format!("track-{kind}"),
            kind,
            vec![RTCRtpEncodingParameters {
                rtp_coding_parameters: RTCRtpCodingParameters {
                    ssrc: Some(ssrc),
                    ..Default::default()
                },
                codec: codec.rtp_codec,
                ..Default::default()
            }],
        )));
        self.connection
            .add_track(Arc::clone(&track) as Arc<dyn TrackLocal>)
            .await
            .unwrap();
        let mut state = self.state.clone();
        // Every connection counts from elsewhere, as a reloaded page does.
        let (seq_offset, time_offset) = ((ssrc >> 16) as u16, ssrc.rotate_left(7));
        self.senders.spawn(async move {
            if state
                .wait_for(|s| *s == RTCPeerConnectionState::Connected)
                .await
                .is_err()
            {
                return;
            }
            packets = packets.resubscribe();
            loop {
                let mut packet = match packets.recv().await {
                    Ok(packet) => packet,
                    Err(broadcast::error::RecvError::Lagged(_)) => continue,
                    Err(broadcast::error::RecvError::Closed) => return,
                };
                let header = &mut packet.header;
                header.ssrc = ssrc;
                header.payload_type = codec.payload_type;
                header.sequence_number = header.sequence_number.wrapping_add(seq_offset);
                header.timestamp = header.timestamp.wrapping_add(time_offset);
                if track.write_rtp(packet).await.is_err() {
                    return;
                }
            }
        });
    }

    /// Opens a data channel; before the offer.
    pub(crate) async fn channel(&self, label: &str) -> Channel {
        Channel::new(
            self.connection
                .create_data_channel(label, None)
                .await
                .unwrap(),
        )
    }

    /// Makes the offer. It holds no candidates that matter: the server learns addresses from checks.
    pub(crate) async fn offer(&self) -> String {
        let offer = self.connection.create_offer(None).await.unwrap();
        self.connection.set_local_description(offer).await.unwrap();
        self.connection.local_description().await.unwrap().sdp
    }

    /// Takes the answer.
    pub(crate) async fn accept(&self, answer: &str) {
        let answer = match &self.path {
            Some(path) => &path.lead(answer),
            None => answer,
        };
        let answer = RTCSessionDescription::answer(answer.to_owned())
            .unwrap_or_else(|error| panic!("answer is not SDP ({error}):\n{answer}"));
        self.connection
            .set_remote_description(answer)
            .await
            .unwrap();
    }

    /// Publishes by WHIP.
    pub(crate) async fn whip(&self, server: &Server, room: &str, token: &str) -> Resource {
        self.post(server, &format!("/whip/{room}"), Some(token))
            .await
    }

    /// Watches by WHEP, as anybody.
    pub(crate) async fn whep(&self, server: &Server, room: &str) -> Resource {
        self.post(server, &format!("/whep/{room}"), None).await
    }

    /// Watches by WHEP with a token.
    pub(crate) async fn whep_as(&self, server: &Server, room: &str, token: &str) -> Resource {
        let path = format!("/whep/{room}");
        self.post(server, &path, Some(token)).await
    }

    async fn post(&self, server: &Server, path: &str, token: Option<&str>) -> Resource {
        let mut offer = self.offer().await;
        if !self.reports_arrivals {
            offer = without_arrival_reports(&offer);
        }
        let response = http::post_sdp(server, path, token, offer).await;
        let resource = Resource::of(server, &response);
        let status = response.status();
        let answer = response.text().await.unwrap();
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        self.accept(&answer).await;
        resource
    }

    /// Returns how many packets the network has lost.
    pub(crate) fn lost(&self) -> usize {
        self.path.as_ref().map_or(0, Relay::lost)
    }

    /// Waits until the connection is up.
    pub(crate) async fn connected(&self) {
        wait::until("the peer connects", async || {
            let state = *self.state.borrow();
            wait::check(state == RTCPeerConnectionState::Connected, state)
        })
        .await;
    }

    /// Waits until the server has ended the connection.
    pub(crate) async fn ended(&self) {
        wait::until("the peer is told of the end", async || {
            let state = *self.state.borrow();
            let ended = matches!(
                state,
                RTCPeerConnectionState::Closed
                    | RTCPeerConnectionState::Failed
                    | RTCPeerConnectionState::Disconnected
            );
            wait::check(ended, state)
        })
        .await;
    }

    /// Says goodbye and stops sending.
    pub(crate) async fn close(&mut self) {
        self.senders.abort_all();
        self.connection.close().await.unwrap();
    }

    /// Stops sending without a word, as when a machine loses its network.
    pub(crate) fn fall_silent(&mut self) {
        self.senders.abort_all();
    }

    /// Returns what has come of a codec so far, such as `video/H264`. Panics if it came on two SSRCs.
    pub(crate) fn stream(&self, codec: &str) -> Option<Stream> {
        let received = self.received.lock().unwrap();
        let mut found = received
            .values()
            .filter(|s| s.codec.eq_ignore_ascii_case(codec));
        let stream = found.next().cloned();
        assert!(found.next().is_none(), "{codec} came on two SSRCs");
        stream
    }

    /// Returns the codecs and numbers of packets of all streams, for messages.
    pub(crate) fn summary(&self) -> Vec<(String, usize)> {
        let received = self.received.lock().unwrap();
        received
            .values()
            .map(|s| (s.codec.clone(), s.packets.len()))
            .collect()
    }

    /// Waits until `count` packets of a codec have come.
    pub(crate) async fn receives(&self, codec: &str, count: usize) -> Stream {
        self.receives_since(codec, count, None).await
    }

    /// Waits until `count` packets of a codec have come after `since`.
    pub(crate) async fn receives_since(
        &self,
        codec: &str,
        count: usize,
        since: Option<Instant>,
    ) -> Stream {
        wait::until(&format!("{count} packets of {codec}"), async || {
            let stream = self.stream(codec).ok_or_else(|| self.summary())?;
            let seen = since.map_or(stream.packets.len(), |since| stream.count_since(since));
            wait::check(seen >= count, self.summary()).map(|()| stream)
        })
        .await
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.senders.abort_all();
        self.readers.lock().unwrap().abort_all();
    }
}

impl Resource {
    /// Reads `Location` of a response.
    fn of(server: &Server, response: &Response) -> Self {
        let location = http::header_text(response, header::LOCATION);
        let url = if location.starts_with('/') {
            server.url(&location)
        } else {
            location
        };
        Self { url }
    }

    /// Ends the session.
    pub(crate) async fn delete(&self, token: Option<&str>) -> Response {
        let mut request = http::client().delete(&self.url);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        request.send().await.unwrap()
    }
}

struct Handler {
    changed: watch::Sender<RTCPeerConnectionState>,
    received: Arc<Mutex<BTreeMap<u32, Stream>>>,
    readers: Arc<Mutex<JoinSet<()>>>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        self.changed.send_replace(state);
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let received = Arc::clone(&self.received);
        self.readers.lock().unwrap().spawn(async move {
            while let Some(event) = track.poll().await {
                let TrackRemoteEvent::OnRtpPacket(packet) = event else {
                    continue;
                };
                let (at, ssrc) = (Instant::now(), packet.header.ssrc);
                if !received.lock().unwrap().contains_key(&ssrc) {
                    let codec = track.codec(ssrc).await.unwrap_or_default();
                    let stream = Stream::new(codec.mime_type, codec.clock_rate);
                    received.lock().unwrap().insert(ssrc, stream);
                }
                // Padding only: a probe, nothing to see.
                if !packet.payload.is_empty() {
                    received
                        .lock()
                        .unwrap()
                        .get_mut(&ssrc)
                        .unwrap()
                        .push(&packet, at);
                }
            }
        });
    }
}

fn without_arrival_reports(offer: &str) -> String {
    let lines = offer.split_inclusive('\n');
    lines
        .filter(|line| !line.contains("transport-cc") && !line.contains("transport-wide-cc"))
        .collect()
}

fn register_video(engine: &mut MediaEngine, codec: Video) {
    let parameters = video(codec);
    let rtx = RTCRtpCodecParameters {
        rtp_codec: RTCRtpCodec {
            mime_type: "video/rtx".into(),
            clock_rate: 90_000,
            sdp_fmtp_line: format!("apt={}", parameters.payload_type),
            ..Default::default()
        },
        payload_type: parameters.payload_type + 1,
    };
    engine
        .register_codec(parameters, RtpCodecKind::Video)
        .unwrap();
    engine.register_codec(rtx, RtpCodecKind::Video).unwrap();
}

fn video(codec: Video) -> RTCRtpCodecParameters {
    let (mime_type, fmtp, payload_type) = match codec {
        Video::H264 => (
            "video/H264",
            "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
            102,
        ),
        Video::Vp8 => ("video/VP8", "", 96),
    };
    let feedback = [
        ("nack", ""),
        ("nack", "pli"),
        ("ccm", "fir"),
        ("transport-cc", ""),
    ];
    RTCRtpCodecParameters {
        rtp_codec: RTCRtpCodec {
            mime_type: mime_type.into(),
            clock_rate: 90_000,
            channels: 0,
            sdp_fmtp_line: fmtp.into(),
            rtcp_feedback: feedback
                .map(|(typ, parameter)| RTCPFeedback {
                    typ: typ.into(),
                    parameter: parameter.into(),
                })
                .into(),
        },
        payload_type,
    }
}

fn opus() -> RTCRtpCodecParameters {
    RTCRtpCodecParameters {
        rtp_codec: RTCRtpCodec {
            mime_type: "audio/opus".into(),
            clock_rate: 48_000,
            channels: 2,
            sdp_fmtp_line: "minptime=10;useinbandfec=1".into(),
            rtcp_feedback: Vec::new(),
        },
        payload_type: 111,
    }
}

/// How far ahead of its time a packet may come: what the server keeps for newcomers.
pub(crate) const START_BURST: Duration = Duration::from_secs(3);
