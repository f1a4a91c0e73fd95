//! Which of a publisher's streams is what, and what is told to it about all of them.

use std::time::{Duration, Instant};

use crate::{
    Mid, Pt, PublicationId, Ssrc,
    clock::RemoteClock,
    transport::{CodecPt, MediaLine, Rtp},
    twcc::Recorder,
};

/// The receiving side of one publisher.
#[derive(Debug)]
pub(crate) struct Ingress {
    tracks: Vec<Track>,
    /// At most [`MAX_SOURCES`].
    sources: Vec<Source>,
    /// Arrival times for transport-wide feedback.
    pub(crate) arrivals: Recorder,
    /// The publisher's clock.
    pub(crate) remote: RemoteClock,
    /// Whether transport-wide feedback was negotiated.
    pub(crate) has_feedback: bool,
    /// When the next receiver report is due.
    pub(crate) report_at: Option<Instant>,
}

/// One m-line on which the publisher sends.
#[derive(Clone, Debug)]
pub(crate) struct Track {
    publication: PublicationId,
    mid: Mid,
    codec: CodecPt,
    rids: Vec<String>,
}

/// What a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// The publication.
    pub(crate) publication: PublicationId,
    /// The position of its layer.
    pub(crate) layer: usize,
    /// Whether it is the retransmission stream of that layer (RFC 4588).
    pub(crate) repair: bool,
}

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Routed {
    /// To a layer whose stream it belongs to.
    Known(Route),
    /// To a layer which had another stream before.
    Replaced(Route),
    /// Nowhere.
    Unknown,
}

#[derive(Clone, Copy, Debug)]
struct Source {
    ssrc: Ssrc,
    route: Route,
    heard: Option<Instant>,
}

impl Track {
    /// Describes an accepted m-line of an offer.
    pub(crate) fn new(publication: PublicationId, line: &MediaLine, codec: CodecPt) -> Self {
        Self {
            publication,
            mid: line.mid.clone(),
            codec,
            rids: line.rids.clone(),
        }
    }

    /// Returns the number of layers.
    pub(crate) fn layers(&self) -> usize {
        self.rids.len().max(1)
    }
}

impl Ingress {
    /// Creates the receiving side of a publisher without tracks.
    pub(crate) fn new(has_feedback: bool) -> Self {
        Self {
            tracks: Vec::new(),
            sources: Vec::new(),
            arrivals: Recorder::default(),
            remote: RemoteClock::default(),
            has_feedback,
            report_at: None,
        }
    }

    /// Adds a track. The SSRCs that its m-line announces are known from the start.
    pub(crate) fn add(&mut self, track: Track, line: &MediaLine) {
        if let Some(primary) = line.ssrcs.first().filter(|_| line.rids.is_empty()) {
            let route = Route {
                publication: track.publication,
                layer: 0,
                repair: false,
            };
            self.announce(*primary, route);
            if let Some((_, rtx)) = line.fid.iter().find(|(of, _)| of == primary) {
                self.announce(
                    *rtx,
                    Route {
                        repair: true,
                        ..route
                    },
                );
            }
        }
        self.tracks.push(track);
    }

    /// Returns whether an SSRC is one that was announced or learned.
    pub(crate) fn knows(&self, ssrc: Ssrc) -> bool {
        self.sources.iter().any(|source| source.ssrc == ssrc)
    }

    /// Returns whether packets of this payload type repeat audio (RED, RFC 2198).
    pub(crate) fn is_red(&self, pt: Pt) -> bool {
        self.tracks.iter().any(|track| track.codec.red == Some(pt))
    }

    /// Returns what a known SSRC carries.
    pub(crate) fn route_of(&self, ssrc: Ssrc) -> Option<Route> {
        let source = self.sources.iter().find(|source| source.ssrc == ssrc)?;
        Some(source.route)
    }

    /// Finds out where a packet goes: by SSRC, else by `mid` and `rid`, else by payload type.
    pub(crate) fn route(&mut self, packet: &Rtp<'_>, now: Instant) -> Routed {
        let by_ssrc = |source: &&mut Source| source.ssrc == packet.ssrc;
        if let Some(source) = self.sources.iter_mut().find(by_ssrc) {
            source.heard = Some(now);
            let route = source.route;
            return match self.accepts(route, packet.pt) {
                true => Routed::Known(route),
                false => Routed::Unknown,
            };
        }
        let Some(route) = self.identify(packet) else {
            return Routed::Unknown;
        };
        let before = self.sources.iter().position(|s| s.route == route);
        let source = Source {
            ssrc: packet.ssrc,
            route,
            heard: Some(now),
        };
        let full = self.sources.len() >= MAX_SOURCES;
        let Some(before) = before.and_then(|position| self.sources.get_mut(position)) else {
            if full {
                return Routed::Unknown;
            }
            self.sources.push(source);
            return Routed::Known(route);
        };
        let speaks = |at: Instant| now.saturating_duration_since(at) < SILENCE;
        if before.heard.is_some_and(speaks) {
            return Routed::Unknown;
        }
        let first = before.heard.is_none();
        *before = source;
        if first || route.repair {
            Routed::Known(route)
        } else {
            Routed::Replaced(route)
        }
    }

    fn announce(&mut self, ssrc: Ssrc, route: Route) {
        if self.sources.len() < MAX_SOURCES && !self.knows(ssrc) {
            self.sources.push(Source {
                ssrc,
                route,
                heard: None,
            });
        }
    }

    fn accepts(&self, route: Route, pt: Pt) -> bool {
        let track = self
            .tracks
            .iter()
            .find(|track| track.publication == route.publication);
        track.is_some_and(|track| match route.repair {
            true => track.codec.rtx == Some(pt),
            false => track.codec.pt == pt || track.codec.red == Some(pt),
        })
    }

    fn identify(&self, packet: &Rtp<'_>) -> Option<Route> {
        let mut tracks = self.tracks.iter().filter(|track| {
            let CodecPt { pt, rtx, red, .. } = track.codec;
            let has_pt = pt == packet.pt || [rtx, red].contains(&Some(packet.pt));
            has_pt && packet.mid.is_none_or(|mid| track.mid.0 == mid)
        });
        // Without a mid, tracks of the same codec cannot be told apart.
        let track = tracks.next().filter(|_| tracks.next().is_none())?;
        let repair = track.codec.rtx == Some(packet.pt);
        let rid = if repair {
            packet.repaired_rid.or(packet.rid)
        } else {
            packet.rid
        };
        let layer = match rid {
            Some(rid) => track.rids.iter().position(|known| known == rid),
            None if track.rids.is_empty() => Some(0),
            None => None,
        };
        Some(Route {
            publication: track.publication,
            layer: layer?,
            repair,
        })
    }
}

/// Four layers with retransmission of two video tracks, and audio.
const MAX_SOURCES: usize = 32;

/// An SSRC that is silent for this long may give way to another one.
const SILENCE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Codec,
        transport::{Carried, ExtensionIds, MediaLineKind},
    };

    fn line(rids: &[&str], ssrcs: &[u32]) -> MediaLine {
        let ssrcs: Vec<_> = ssrcs.iter().map(|ssrc| Ssrc(*ssrc)).collect();
        MediaLine {
            mid: Mid("0".into()),
            kind: MediaLineKind::Video,
            sends: true,
            receives: false,
            codecs: Vec::new(),
            rids: rids.iter().map(|rid| (*rid).to_owned()).collect(),
            rid_restrictions: Vec::new(),
            fid: match ssrcs.as_slice() {
                [a, b, ..] => vec![(*a, *b)],
                _ => Vec::new(),
            },
            ssrcs,
            extensions: ExtensionIds::default(),
            head: Default::default(),
        }
    }

    fn ingress(line: &MediaLine) -> Ingress {
        let codec = CodecPt {
            codec: Codec::H264,
            pt: Pt(96),
            rtx: Some(Pt(97)),
            red: None,
        };
        let mut ingress = Ingress::new(true);
        ingress.add(Track::new(PublicationId(1), line, codec), line);
        ingress
    }

    fn packet(ssrc: u32, pt: u8) -> Rtp<'static> {
        Rtp {
            marker: false,
            pt: Pt(pt),
            seq: 0,
            timestamp: 0,
            ssrc: Ssrc(ssrc),
            mid: None,
            rid: None,
            repaired_rid: None,
            transport_seq: None,
            carried: Carried::default(),
            payload: &[],
        }
    }

    fn route(layer: usize, repair: bool) -> Route {
        Route {
            publication: PublicationId(1),
            layer,
            repair,
        }
    }

    #[test]
    fn announced_streams_are_known_and_others_found_by_payload_type() {
        let now = Instant::now();
        let cases = [
            ("primary", &[5, 6][..], packet(5, 96), Some((0, false))),
            ("rtx by FID", &[5, 6], packet(6, 97), Some((0, true))),
            ("primary by PT", &[], packet(9, 96), Some((0, false))),
            ("rtx by PT", &[], packet(9, 97), Some((0, true))),
            ("wrong PT of a known", &[5, 6], packet(5, 97), None),
            ("unknown PT", &[], packet(9, 100), None),
        ];
        for (label, ssrcs, packet, expected) in cases {
            let routed = ingress(&line(&[], ssrcs)).route(&packet, now);
            let expected = match expected {
                Some((layer, repair)) => Routed::Known(route(layer, repair)),
                None => Routed::Unknown,
            };
            assert_eq!(routed, expected, "{label}");
        }
    }

    #[test]
    fn simulcast_streams_are_found_by_rid_once() {
        let now = Instant::now();
        let mut ingress = ingress(&line(&["q", "h"], &[]));
        let anonymous = packet(1, 96);
        assert_eq!(ingress.route(&anonymous, now), Routed::Unknown);
        let named = Rtp {
            rid: Some("h"),
            mid: Some("0"),
            ..anonymous
        };
        assert_eq!(ingress.route(&named, now), Routed::Known(route(1, false)));
        let known = Routed::Known(route(1, false));
        assert_eq!(ingress.route(&anonymous, now), known);
        let repair = Rtp {
            repaired_rid: Some("h"),
            ..packet(2, 97)
        };
        assert_eq!(ingress.route(&repair, now), Routed::Known(route(1, true)));
        let other_line = Rtp {
            mid: Some("7"),
            ..Rtp {
                ssrc: Ssrc(3),
                ..named
            }
        };
        assert_eq!(ingress.route(&other_line, now), Routed::Unknown);
    }

    #[test]
    fn another_ssrc_replaces_a_silent_one_only() {
        let t0 = Instant::now();
        let mut ingress = ingress(&line(&[], &[]));
        ingress.route(&packet(1, 96), t0);
        assert_eq!(ingress.route(&packet(2, 96), t0), Routed::Unknown);
        let later = t0 + SILENCE;
        let replaced = Routed::Replaced(route(0, false));
        assert_eq!(ingress.route(&packet(2, 96), later), replaced);
        assert!(!ingress.knows(Ssrc(1)));
    }
}
