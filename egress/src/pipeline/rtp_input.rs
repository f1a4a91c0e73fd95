//! Where RTP packets enter a pipeline, and what takes the media out of them.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;
use sfu::{Codec, MediaKind};

use super::{
    Graph, GraphError,
    av1::{Depacketizer, Outcome},
    clock::clock_time,
};

/// The input of a pipeline that begins as [`RtpInput::description`] says.
#[derive(Debug)]
pub(crate) struct RtpInput {
    source: gst_app::AppSrc,
    /// For the codec that GStreamer does not take out of RTP.
    depacketizer: Option<Mutex<Depacketizer>>,
    /// Of video.
    pictures: Option<Mutex<Pictures>>,
}

/// Gives every picture a time of its own. Where one layer takes over from another, two may be of the same moment, and
/// parsers take the time of the second away: it would be lost, and all that builds on it.
#[derive(Debug, Default)]
struct Pictures {
    newest: Option<Newest>,
}

#[derive(Debug, Clone, Copy)]
struct Newest {
    /// What the input says.
    given: Duration,
    /// What goes on.
    time: Duration,
    complete: bool,
}

impl Pictures {
    /// Returns the time of the picture that this is of, its last part or not.
    fn place(&mut self, given: Duration, last: bool) -> Duration {
        let time = match self.newest {
            Some(newest) if !newest.complete && newest.given == given => newest.time,
            Some(newest) if given <= newest.time && newest.time < given + NEAR => {
                newest.time + STEP
            }
            _ => given,
        };
        self.newest = Some(Newest {
            given,
            time,
            complete: last,
        });
        time
    }
}

impl RtpInput {
    /// Returns the beginning of a pipeline, up to encoded media.
    pub(crate) fn description(codec: Codec) -> String {
        let rtp = |name: &str, rate: &str| {
            let media = match codec.kind() {
                MediaKind::Video => "video",
                MediaKind::Audio => "audio",
            };
            format!(
                "application/x-rtp,media={media},encoding-name={name},payload=96,clock-rate={rate}"
            )
        };
        let (caps, depacketize) = match codec {
            Codec::H264 => (rtp("H264", "90000"), format!("rtph264depay {RESUME}")),
            Codec::Vp8 => (rtp("VP8", "90000"), format!("rtpvp8depay {RESUME}")),
            Codec::Vp9 => (rtp("VP9", "90000"), format!("rtpvp9depay {RESUME}")),
            Codec::Av1 => (
                "video/x-av1,stream-format=obu-stream,alignment=tu".to_owned(),
                "av1parse".to_owned(),
            ),
            Codec::Opus => (
                rtp("OPUS", "48000,encoding-params=(string)2"),
                "rtpopusdepay".to_owned(),
            ),
        };
        let bytes = match codec.kind() {
            MediaKind::Video => 8 << 20,
            MediaKind::Audio => 1 << 20,
        };
        format!(
            "appsrc name=in is-live=true format=time max-bytes={bytes} leaky-type=upstream caps=\"{caps}\" ! \
             {depacketize}"
        )
    }

    /// Returns the input of a pipeline for that codec. `on_keyframe_wanted` is called when nothing can be made of
    /// packets until a keyframe comes.
    pub(crate) fn of(
        graph: &Graph,
        codec: Codec,
        on_keyframe_wanted: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, GraphError> {
        let source = graph.source("in")?;
        if let Some(pad) = source.static_pad("src") {
            pad.add_probe(gst::PadProbeType::EVENT_UPSTREAM, move |_, info| {
                if let Some(gst::PadProbeData::Event(event)) = &info.data
                    && gst_video::UpstreamForceKeyUnitEvent::parse(event).is_ok()
                {
                    on_keyframe_wanted();
                }
                gst::PadProbeReturn::Ok
            });
        }
        Ok(Self {
            source,
            depacketizer: (codec == Codec::Av1).then(Mutex::default),
            pictures: (codec.kind() == MediaKind::Video).then(Mutex::default),
        })
    }

    /// Takes in a packet; returns whether a keyframe is wanted.
    pub(crate) fn push(&self, rtp: &[u8], time: Duration) -> bool {
        let Some(depacketizer) = &self.depacketizer else {
            let marker = rtp.get(1).is_some_and(|byte| byte & 0x80 != 0);
            self.push_buffer(gst::Buffer::from_slice(rtp.to_vec()), time, marker);
            return false;
        };
        let mut depacketizer = depacketizer.lock().unwrap_or_else(PoisonError::into_inner);
        match depacketizer.push(rtp) {
            Outcome::Pending => false,
            Outcome::Lost => true,
            Outcome::Complete(unit) => {
                let mut buffer = gst::Buffer::from_slice(unit.data);
                if !unit.keyframe {
                    buffer.make_mut().set_flags(gst::BufferFlags::DELTA_UNIT);
                }
                self.push_buffer(buffer, time, true);
                false
            }
        }
    }

    /// `last`: it is the last part of a picture, or all of it.
    fn push_buffer(&self, mut buffer: gst::Buffer, mut time: Duration, last: bool) {
        if let Some(pictures) = &self.pictures {
            let mut pictures = pictures.lock().unwrap_or_else(PoisonError::into_inner);
            time = pictures.place(time, last);
        }
        buffer.make_mut().set_pts(clock_time(time));
        // Refused only when the pipeline has failed, which its bus tells.
        let _ = self.source.push_buffer(buffer);
    }
}

/// After a loss nothing is passed on that cannot be decoded.
const RESUME: &str = "wait-for-keyframe=true request-keyframe=true";
/// Pictures of one stream are further apart.
const NEAR: Duration = Duration::from_millis(4);
/// Too short to be seen.
const STEP: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Clock;

    #[test]
    fn pictures_have_times_of_their_own() {
        let mut pictures = Pictures::default();
        let given = [
            (0, false),
            (0, true),
            (33, true),
            (33, false),
            (33, true),
            (33, true),
            (66, false),
            (66, true),
        ];
        // A layer that takes over may be earlier: decoders see to that.
        let given = given.into_iter().chain([(40, true), (99, true)]);
        let times = given.map(|(ms, last)| pictures.place(Duration::from_millis(ms), last));
        let times: Vec<u128> = times.map(|time| time.as_millis()).collect();
        assert_eq!(times, [0, 0, 33, 34, 34, 35, 66, 66, 40, 99]);
    }

    #[test]
    fn a_picture_that_breaks_off_before_a_gap_is_left_out() {
        gst::init().unwrap();
        let clock = Clock::start();
        let packets = encoded(3, 1);
        let mut pictures = packets.split_inclusive(|rtp| rtp[1] & 0x80 != 0);
        let [first, broken, last] = [(); 3].map(|()| pictures.next().unwrap());
        let graph = parsing(&clock);
        let input = RtpInput::of(&graph, Codec::H264, || {}).unwrap();
        graph.play().unwrap();
        let sink = graph.sink("out").unwrap();
        let start = clock.now();
        let time = |picture: u32| start + Duration::from_millis(33) * picture;
        let mut number = 0_u16;
        let mut push = |packets: &[Vec<u8>], picture: u32| {
            for rtp in packets {
                let mut rtp = rtp.clone();
                rtp[2..4].copy_from_slice(&number.to_be_bytes());
                number += 1;
                input.push(&rtp, time(picture));
            }
            // As the SFU does where what it hands on breaks off.
            number += 1;
        };
        let come = |picture: u32| {
            let sample = sink.try_pull_sample(gst::ClockTime::from_seconds(20));
            let time_of = sample.unwrap().buffer().unwrap().pts();
            assert_eq!(time_of, Some(clock_time(time(picture))));
        };
        push(first, 0);
        come(0);
        push(&broken[..broken.len() / 2], 1);
        push(last, 2);
        come(2);
    }

    /// Returns pictures in RTP packets, the first of each `interval` a keyframe.
    fn encoded(pictures: u32, interval: u32) -> Vec<Vec<u8>> {
        let encoded = format!(
            "videotestsrc pattern=snow num-buffers={pictures} ! video/x-raw,width=320,height=180 ! \
             x264enc tune=zerolatency key-int-max={interval} ! rtph264pay mtu=400 config-interval=-1 ! \
             appsink name=out sync=false"
        );
        let encoder = Graph::build(&encoded, &Clock::start()).unwrap();
        encoder.play().unwrap();
        let sink = encoder.sink("out").unwrap();
        let packets = std::iter::from_fn(|| sink.pull_sample().ok());
        let packets =
            packets.map(|sample| sample.buffer().unwrap().map_readable().unwrap().to_vec());
        packets.collect()
    }

    fn parsing(clock: &Clock) -> Graph {
        let graph = format!(
            "{} ! h264parse ! video/x-h264,alignment=au ! appsink name=out sync=false",
            RtpInput::description(Codec::H264)
        );
        Graph::build(&graph, clock).unwrap()
    }

    #[test]
    fn two_pictures_of_a_moment_both_come_through() {
        gst::init().unwrap();
        let clock = Clock::start();
        let packets = encoded(4, 2);
        let graph = parsing(&clock);
        let input = RtpInput::of(&graph, Codec::H264, || {}).unwrap();
        graph.play().unwrap();
        let time = clock.now();
        for packet in &packets {
            input.push(packet, time);
        }
        let sink = graph.sink("out").unwrap();
        let times = (0..4).map(|_| {
            let picture = sink.try_pull_sample(gst::ClockTime::from_seconds(20));
            picture.unwrap().buffer().unwrap().pts()
        });
        let step = |n: u32| Some(clock_time(time + n * STEP));
        assert_eq!(times.collect::<Vec<_>>(), [0, 1, 2, 3].map(step));
    }
}
