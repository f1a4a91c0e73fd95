//! What of a room waits to be forwarded, so that each viewer gets it in runs.

use std::time::{Duration, Instant};

use crate::{MediaKind, ingress::Route};

/// The packets of a room that arrived and were not forwarded yet, as far as their time matters.
///
/// A video frame is of no use before its last packet is there, so waiting for that one delays no frame. Audio is of
/// use at once, and waits nevertheless: in the middle of a burst it would take the packets of the frame along, and
/// at other times be a message of its own to every viewer. The lower spatial layers of a picture wait for the upper
/// ones, as each would make another run, unless there may be a viewer who gets no more.
#[derive(Debug, Default)]
pub(crate) struct Held {
    oldest: Option<Instant>,
    hurried: bool,
    frames: Vec<Frame>,
}

/// A video frame of which packets wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    route: Route,
    timestamp: u32,
}

/// What matters of a packet that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// Where it belongs.
    pub(crate) route: Route,
    /// Audio or video.
    pub(crate) kind: MediaKind,
    /// Its RTP timestamp, the same for all packets of a frame.
    pub(crate) timestamp: u32,
    /// Whether it is the last of its picture, or of what a viewer gets of it.
    pub(crate) ends: bool,
    /// Whether a packet behind it was there before it.
    pub(crate) is_late: bool,
}

impl Held {
    /// Lets nothing wait: there is more to do than to forward packets, or a frame is complete.
    pub(crate) fn hurry(&mut self) {
        self.hurried = true;
    }

    /// Notes a packet.
    pub(crate) fn arrived(&mut self, packet: &Waiting, now: Instant) {
        self.oldest.get_or_insert(now);
        if packet.kind == MediaKind::Audio {
            return;
        }
        // What is sent again completes a frame that is late already.
        if packet.ends || packet.route.repair {
            self.hurried = true;
        }
        let mut frames = self.frames.iter();
        match frames.find(|frame| frame.route == packet.route) {
            // The end of the frame before was lost, or is on its way behind this one.
            Some(frame) if frame.timestamp != packet.timestamp => self.hurried = true,
            Some(_) => {}
            None => {
                // The rest of its frame was forwarded and waits for nothing but this.
                self.hurried |= packet.is_late;
                self.frames.push(Frame {
                    route: packet.route,
                    timestamp: packet.timestamp,
                });
            }
        }
    }

    /// Returns when everything is to be forwarded if packets wait for `hold` at most; `None` for at once.
    pub(crate) fn until(&self, hold: Duration) -> Option<Instant> {
        let oldest = self.oldest.filter(|_| !self.hurried)?;
        Some(oldest + hold)
    }

    /// Everything was forwarded.
    pub(crate) fn clear(&mut self) {
        self.oldest = None;
        self.hurried = false;
        self.frames.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PublicationId;

    const HOLD: Duration = Duration::from_millis(4);

    #[test]
    fn a_complete_frame_waits_for_nothing() {
        let video = |publication, layer, timestamp, ends, repair| Waiting {
            route: Route {
                publication: PublicationId(publication),
                layer,
                repair,
            },
            kind: MediaKind::Video,
            timestamp,
            ends,
            is_late: false,
        };
        let late = |packet| Waiting {
            is_late: true,
            ..packet
        };
        let part = video(1, 0, 7, false, false);
        let audio = Waiting {
            kind: MediaKind::Audio,
            ends: true,
            ..video(2, 0, 960, true, false)
        };
        #[rustfmt::skip]
        let cases = [
            ("nothing", vec![], true),
            ("the beginning of a frame", vec![part, part], false),
            ("audio", vec![audio, audio], false),
            ("the end of a frame", vec![part, video(1, 0, 7, true, false)], true),
            ("the beginning of the next one", vec![part, video(1, 0, 8, false, false)], true),
            ("a frame of another layer", vec![part, video(1, 1, 8, false, false)], false),
            ("a frame of another publication", vec![part, video(3, 0, 8, false, false)], false),
            ("a packet sent again", vec![part, video(1, 0, 7, false, true)], true),
            ("a late packet of what was forwarded", vec![late(part)], true),
            ("another layer waits", vec![part, late(video(1, 1, 8, false, false))], true),
            ("a late packet of what waits", vec![part, late(part)], false),
            ("a late packet of the frame before", vec![part, late(video(1, 0, 6, false, false))], true),
            ("late audio", vec![late(audio)], false),
        ];
        let now = Instant::now();
        for (label, packets, at_once) in cases {
            let mut held = Held::default();
            for packet in &packets {
                held.arrived(packet, now);
            }
            assert_eq!(held.until(HOLD).is_none(), at_once, "{label}");
        }
    }

    #[test]
    fn the_oldest_packet_sets_the_time() {
        let t0 = Instant::now();
        let mut held = Held::default();
        let packet = Waiting {
            route: Route {
                publication: PublicationId(1),
                layer: 0,
                repair: false,
            },
            kind: MediaKind::Audio,
            timestamp: 1,
            ends: false,
            is_late: false,
        };
        held.arrived(&packet, t0);
        held.arrived(&packet, t0 + Duration::from_millis(3));
        assert_eq!(held.until(HOLD), Some(t0 + HOLD));
        held.hurry();
        assert_eq!(held.until(HOLD), None);
        held.clear();
        held.arrived(&packet, t0 + HOLD);
        assert_eq!(held.until(HOLD), Some(t0 + HOLD + HOLD));
    }
}
