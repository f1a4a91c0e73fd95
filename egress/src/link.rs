//! What the supervisor and a worker say to each other.
//!
//! Two sockets join them: datagrams with one RTP packet each towards the worker (its standard input), and a
//! stream of frames both ways (its standard output). A frame is a JSON head and raw bytes.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    path::PathBuf,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sfu::{Codec, TapPacket};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::{
    hls::{InitHead, StepHead},
    preset::{Mode, Preset},
    scene::Scene,
    status::{DestinationState, FailureCode},
};

/// Supervisor to worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    /// The first command.
    Setup(Setup),
    /// Starts an attempt at a destination that is not running. Carries its key: never logged.
    Connect {
        destination: usize,
        target: Target,
        /// Whether loopback and private addresses may be connected to.
        allow_private: bool,
    },
    /// Ends a destination cleanly.
    Disconnect { destination: usize },
    /// What a composed job shows from here on.
    Scene(Scene),
    /// What the picture of a composed job is like from here on.
    Preset(Preset),
    /// What became of a picture that a destination took.
    Pictured {
        destination: usize,
        shot: u64,
        outcome: Pictured,
    },
    /// Ends all destinations cleanly, then the process.
    Drain,
}

/// What a worker needs to know.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) mode: Mode,
    /// Whether the packets of many come, each publication in a lane, or those of one.
    pub(crate) stage: bool,
    /// Whether the picture is left out.
    pub(crate) audio_only: bool,
    /// The folder of the room's images, which a composed job reads.
    pub(crate) images: Option<PathBuf>,
    /// Folders that may be written to.
    pub(crate) folders: Vec<PathBuf>,
    pub(crate) keyframe_interval_ms: u64,
    pub(crate) connect_timeout_ms: u64,
    pub(crate) stall_timeout_ms: u64,
    pub(crate) hold_ms: u64,
    pub(crate) audio_bitrate: u32,
    pub(crate) transcode_bitrate: u32,
    /// Certificates (PEM) that are trusted besides the system's.
    pub(crate) tls_ca_file: Option<PathBuf>,
}

/// Where a worker sends to.
#[derive(Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) enum Target {
    Rtmp(RtmpTarget),
    Srt(SrtTarget),
    Hls(HlsTarget),
    Record(RecordTarget),
    Thumbnails(ThumbnailTarget),
}

/// Where and how a recording is written.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct RecordTarget {
    pub(crate) folder: PathBuf,
    /// How long each of its files is, about; `None` for one file.
    pub(crate) segment_ms: Option<u64>,
    pub(crate) segment_bytes: Option<u64>,
    /// With less than this, the disk is full.
    pub(crate) min_free_bytes: u64,
    /// What the folders of tracks are named after, if each track is to have files of its own, too.
    pub(crate) tracks: Option<String>,
}

/// Which pictures are taken, and how many are kept.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct ThumbnailTarget {
    pub(crate) interval_ms: u64,
    pub(crate) width: u16,
    pub(crate) keep: usize,
}

/// How this server's own playlist is made.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct HlsTarget {
    /// Wanted duration of a segment.
    pub(crate) segment_ms: u64,
    /// Most duration of a part.
    pub(crate) part_ms: u64,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Rtmp(_) => "Rtmp(…)",
            Self::Srt(_) => "Srt(…)",
            Self::Hls(_) => "Hls",
            Self::Record(_) => "Record(…)",
            Self::Thumbnails(_) => "Thumbnails",
        })
    }
}

/// The parts of an RTMP URL, and the key.
#[derive(Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct RtmpTarget {
    pub(crate) tls: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) application: String,
    pub(crate) key: String,
}

impl Target {
    /// Returns whether a server would take only one of the two: they go to the same place with the same key.
    pub(crate) fn collides(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Rtmp(a), Self::Rtmp(b)) => a == b,
            (Self::Srt(a), Self::Srt(b)) => {
                a.host == b.host && a.port == b.port && a.stream_id == b.stream_id
            }
            (
                Self::Rtmp(_) | Self::Srt(_) | Self::Hls(_) | Self::Record(_) | Self::Thumbnails(_),
                _,
            ) => false,
        }
    }

    /// Returns `text` without the key, if there is one, and on one line.
    pub(crate) fn scrub(&self, text: &str) -> String {
        match self {
            Self::Rtmp(target) => target.scrub(text),
            Self::Srt(target) => target.scrub(text),
            Self::Hls(_) | Self::Record(_) | Self::Thumbnails(_) => text.to_owned(),
        }
    }
}

impl RtmpTarget {
    /// Returns the URL without the key.
    pub(crate) fn url(&self) -> String {
        let (scheme, usual) = if self.tls {
            ("rtmps", 443)
        } else {
            ("rtmp", 1935)
        };
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        let port = if self.port == usual {
            String::new()
        } else {
            format!(":{}", self.port)
        };
        format!("{scheme}://{host}{port}/{}", self.application)
    }

    /// Returns `text` without the key, which some servers repeat, and on one line.
    pub(crate) fn scrub(&self, text: &str) -> String {
        let bare_key = self.key.split('?').next().unwrap_or_default();
        scrub(text, &[&self.key, bare_key])
    }
}

/// An SRT receiver.
#[derive(Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct SrtTarget {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) latency_ms: u32,
    /// Empty when there is none.
    pub(crate) stream_id: String,
    pub(crate) passphrase: Option<String>,
}

impl SrtTarget {
    /// Returns `text` without the secrets, and on one line.
    pub(crate) fn scrub(&self, text: &str) -> String {
        let passphrase = self.passphrase.as_deref().unwrap_or_default();
        scrub(text, &[&self.stream_id, passphrase])
    }
}

fn scrub(text: &str, secrets: &[&str]) -> String {
    let mut clean = text.replace(char::is_control, " ");
    for secret in secrets {
        // Words of every language would be full of shorter ones.
        if secret.len() >= 4 {
            clean = clean.replace(secret, "…");
        }
    }
    clean
}

/// Worker to supervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The worker is set up and takes packets.
    Ready,
    /// Sent every 250 ms.
    Alive {
        /// Whether media arrived within the last second.
        receiving: bool,
        /// How long after they should have the frames of the last second came out.
        late_ms: u64,
        /// Whether the picture that passes through is in another codec than H.264; nothing while there is none.
        foreign: Option<bool>,
        /// Processor time used since the worker started.
        cpu_ms: u64,
        /// Each destination's, since the worker started.
        counters: Vec<(usize, Counters)>,
    },
    /// A destination's state has changed: `Connecting` (waits for media), `Live`, or `Ended`.
    State {
        destination: usize,
        state: DestinationState,
    },
    /// A destination's attempt has failed, or its delivery has broken off.
    Failed {
        destination: usize,
        failure: Failure,
    },
    /// A destination cannot do its work at the moment. It stays, and says when it is live.
    Held {
        destination: usize,
        failure: Failure,
    },
    /// The body is a keyframe (H.264 as MP4 has it) behind its configuration, whose length this is: a picture is to be
    /// made of it.
    Picture {
        destination: usize,
        /// Never used twice by a destination.
        shot: u64,
        /// Unix time.
        taken_at_ms: u64,
        configuration: usize,
    },
    /// An output has to start at a keyframe.
    KeyframeWanted,
    /// The video of each lane is to be so many simulcast layers below the top; 0 for lanes that are not listed.
    Layers(BTreeMap<u32, usize>),
    /// The body is the initialisation segment of a rendition.
    HlsInit(InitHead),
    /// The body is the next part of every rendition.
    HlsStep(StepHead),
    /// The pipeline itself failed; the process is about to end.
    Broken { message: String },
}

/// What became of a keyframe that a picture was to be made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Pictured {
    /// It is on disk, with so many bytes.
    Kept(u64),
    /// It cannot be decoded, or too much is waiting to be.
    Missed,
    /// No picture can be kept at the moment.
    Refused(Failure),
}

/// Why a destination failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) code: FailureCode,
    /// In plain words, with the server's own and what to do. Never contains the key.
    pub(crate) message: String,
}

/// What a destination has been sent since the worker started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counters {
    pub(crate) bytes: u64,
    /// What the far side has confirmed.
    pub(crate) acknowledged_bytes: u64,
    pub(crate) frames: u64,
    pub(crate) dropped_frames: u64,
    /// How old the newest frame was when it was sent.
    pub(crate) delay_ms: u64,
}

/// Writes `packet` as a datagram into `to`, which is cleared first. One that is `apart` is no part of the programme: it
/// is of a track that is recorded alone.
pub(crate) fn encode_packet(
    packet: &TapPacket,
    presentation_ns: u64,
    apart: bool,
    to: &mut Vec<u8>,
) {
    to.clear();
    to.push(match packet.codec {
        Codec::H264 => 0,
        Codec::Vp8 => 1,
        Codec::Opus => 2,
        Codec::Vp9 => 3,
        Codec::Av1 => 4,
    });
    to.push(u8::from(packet.keyframe));
    to.extend_from_slice(&[u8::from(apart), 0]);
    to.extend_from_slice(&packet.lane.to_le_bytes());
    to.extend_from_slice(&presentation_ns.to_le_bytes());
    to.extend_from_slice(&packet.rtp);
}

/// A packet as a worker receives it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Packet<'a> {
    pub(crate) lane: u32,
    pub(crate) codec: Codec,
    pub(crate) keyframe: bool,
    /// Whether it is of a track that is recorded alone.
    pub(crate) apart: bool,
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub(crate) presentation_ns: u64,
    pub(crate) rtp: &'a [u8],
}

/// Reads what [`encode_packet`] wrote.
pub(crate) fn decode_packet(datagram: &[u8]) -> Option<Packet<'_>> {
    let (head, rest) = datagram.split_first_chunk::<4>()?;
    let (lane, rest) = rest.split_first_chunk::<4>()?;
    let (presentation, rtp) = rest.split_first_chunk::<8>()?;
    let codec = match head[0] {
        0 => Codec::H264,
        1 => Codec::Vp8,
        2 => Codec::Opus,
        3 => Codec::Vp9,
        4 => Codec::Av1,
        _ => return None,
    };
    Some(Packet {
        lane: u32::from_le_bytes(*lane),
        codec,
        keyframe: head[1] & 1 == 1,
        apart: head[2] & 1 == 1,
        presentation_ns: u64::from_le_bytes(*presentation),
        rtp,
    })
}

/// Returns `head` and `body` as one frame.
///
/// # Errors
/// `InvalidInput` above [`FRAME_LIMIT`].
pub(crate) fn encode_frame(head: &impl Serialize, body: &[u8]) -> io::Result<Vec<u8>> {
    let head = serde_json::to_vec(head)?;
    if head.len() + body.len() > FRAME_LIMIT {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "frame too large",
        ));
    }
    let mut frame = Vec::with_capacity(8 + head.len() + body.len());
    for part in [head.len(), body.len()] {
        let length = u32::try_from(part).map_err(io::Error::other)?;
        frame.extend_from_slice(&length.to_be_bytes());
    }
    frame.extend_from_slice(&head);
    frame.extend_from_slice(body);
    Ok(frame)
}

/// Reads one frame.
///
/// # Errors
/// `UnexpectedEof` when the other side has closed; `InvalidData` when it speaks nonsense.
pub(crate) fn read_frame<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<(T, Bytes)> {
    let mut lengths = [0; 8];
    from.read_exact(&mut lengths)?;
    let (head, body) = split_lengths(lengths)?;
    let mut bytes = vec![0; head + body];
    from.read_exact(&mut bytes)?;
    parse_frame(bytes, head)
}

/// Reads one frame. Not cancel safe.
///
/// # Errors
/// As [`read_frame`].
pub(crate) async fn read_frame_async<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
) -> io::Result<(T, Bytes)> {
    let mut lengths = [0; 8];
    from.read_exact(&mut lengths).await?;
    let (head, body) = split_lengths(lengths)?;
    let mut bytes = vec![0; head + body];
    from.read_exact(&mut bytes).await?;
    parse_frame(bytes, head)
}

fn split_lengths([a, b, c, d, e, f, g, h]: [u8; 8]) -> io::Result<(usize, usize)> {
    let head = u32::from_be_bytes([a, b, c, d]) as usize;
    let body = u32::from_be_bytes([e, f, g, h]) as usize;
    if head.saturating_add(body) > FRAME_LIMIT {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "frame too large",
        ));
    }
    Ok((head, body))
}

fn parse_frame<T: DeserializeOwned>(bytes: Vec<u8>, head: usize) -> io::Result<(T, Bytes)> {
    let mut head_bytes = Bytes::from(bytes);
    let body = head_bytes.split_off(head);
    Ok((serde_json::from_slice(&head_bytes)?, body))
}

/// Most bytes of a frame: four seconds of video at 60 Mbit/s.
const FRAME_LIMIT: usize = 32 << 20;

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_survive_the_trip() {
        let mut wire = encode_frame(&Report::KeyframeWanted, b"body").unwrap();
        wire.extend(encode_frame(&Report::Ready, b"").unwrap());
        let mut wire = wire.as_slice();
        let (first, body) = read_frame::<Report>(&mut wire).unwrap();
        assert_eq!(
            (first, body.as_ref()),
            (Report::KeyframeWanted, &b"body"[..])
        );
        assert_eq!(read_frame::<Report>(&mut wire).unwrap().0, Report::Ready);
        let end = read_frame::<Report>(&mut wire).unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_hostile_length_is_refused_before_memory_is_taken() {
        let error = read_frame::<Report>(&mut [0xff; 64].as_slice()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn commands_do_not_print_their_keys() {
        let target = Target::Rtmp(RtmpTarget {
            tls: false,
            host: "host".into(),
            port: 1,
            application: "app".into(),
            key: "hush".into(),
        });
        let connect = Command::Connect {
            destination: 1,
            target,
            allow_private: false,
        };
        assert!(!format!("{connect:?}").contains("hush"));
    }

    proptest! {
        #[test]
        fn packets_survive_the_trip(
            presentation_ns: u64,
            lane: u32,
            keyframe: bool,
            apart: bool,
            codec in prop_oneof![Just(Codec::H264), Just(Codec::Vp8), Just(Codec::Opus)],
            rtp in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let packet = TapPacket {
                lane,
                codec,
                presentation: Instant::now(),
                keyframe,
                rtp: rtp.clone().into(),
            };
            let mut wire = Vec::new();
            encode_packet(&packet, presentation_ns, apart, &mut wire);
            prop_assert_eq!(
                decode_packet(&wire),
                Some(Packet { lane, codec, keyframe, apart, presentation_ns, rtp: &rtp })
            );
        }

        #[test]
        fn garbage_is_not_a_packet_but_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = decode_packet(&bytes);
        }
    }
}
