//! Offers as a browser with H264 and Opus alone would make them, and what matters of answers.

use std::{
    fmt::Write,
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context, ensure};

use super::stun::Credentials;

/// What an offer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// The sources of video, its repair, and audio, when the client publishes; else it watches.
    pub(crate) publishes: Option<[u32; 3]>,
    /// Whether transport-wide feedback is offered.
    pub(crate) transport_cc: bool,
    /// Whether a data channel is offered.
    pub(crate) channel: bool,
}

/// What a payload type carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// H264.
    Video,
    /// Retransmitted H264.
    Repair,
    /// Opus.
    Audio,
}

impl Offer {
    /// Payload types of video, its repair, and audio.
    pub(crate) const VIDEO: u8 = 108;
    pub(crate) const REPAIR: u8 = 109;
    pub(crate) const AUDIO: u8 = 111;

    /// Writes the offer.
    pub(super) fn write(self, local: &Credentials, fingerprint: &str) -> String {
        let mut sdp =
            String::from("v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n");
        let bundle = if self.channel { "0 1 2" } else { "0 1" };
        let _ = write!(sdp, "a=group:BUNDLE {bundle}\r\na=msid-semantic: WMS\r\n");
        let transport = format!(
            "c=IN IP4 0.0.0.0\r\na=ice-ufrag:{}\r\na=ice-pwd:{}\r\na=ice-options:trickle\r\n\
             a=fingerprint:sha-256 {fingerprint}\r\na=setup:active\r\n",
            local.ufrag, local.pwd
        );
        let (video, repair, audio) = (Self::VIDEO, Self::REPAIR, Self::AUDIO);
        let _ = write!(
            sdp,
            "m=video 9 UDP/TLS/RTP/SAVPF {video} {repair}\r\n{transport}a=mid:0\r\n"
        );
        self.write_media(&mut sdp);
        let _ = write!(
            sdp,
            "a=rtpmap:{video} H264/90000\r\na=rtcp-fb:{video} ccm fir\r\na=rtcp-fb:{video} nack\r\n\
             a=rtcp-fb:{video} nack pli\r\n\
             a=fmtp:{video} level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n\
             a=rtpmap:{repair} rtx/90000\r\na=fmtp:{repair} apt={video}\r\n"
        );
        self.write_feedback(&mut sdp, video);
        if let Some([video, repair, _]) = self.publishes {
            let _ = write!(sdp, "a=ssrc-group:FID {video} {repair}\r\n");
            write_source(&mut sdp, video, "video");
            write_source(&mut sdp, repair, "video");
        }
        let _ = write!(
            sdp,
            "m=audio 9 UDP/TLS/RTP/SAVPF {audio}\r\n{transport}a=mid:1\r\n"
        );
        self.write_media(&mut sdp);
        let _ = write!(
            sdp,
            "a=rtpmap:{audio} opus/48000/2\r\na=fmtp:{audio} minptime=10;useinbandfec=1\r\n"
        );
        self.write_feedback(&mut sdp, audio);
        if let Some([_, _, audio]) = self.publishes {
            write_source(&mut sdp, audio, "audio");
        }
        if self.channel {
            let _ = write!(
                sdp,
                "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n{transport}a=mid:2\r\n\
                 a=sctp-port:5000\r\na=max-message-size:262144\r\n"
            );
        }
        sdp
    }

    fn write_media(self, sdp: &mut String) {
        let direction = if self.publishes.is_some() {
            "sendonly"
        } else {
            "recvonly"
        };
        let _ = write!(
            sdp,
            "a={direction}\r\na=rtcp-mux\r\na=rtcp-rsize\r\na=extmap:9 {MID}\r\n"
        );
        if self.transport_cc {
            let _ = write!(sdp, "a=extmap:4 {TRANSPORT_CC}\r\n");
        }
        if self.publishes.is_some() {
            sdp.push_str("a=msid:bench bench\r\n");
        }
    }

    fn write_feedback(self, sdp: &mut String, pt: u8) {
        if self.transport_cc {
            let _ = write!(sdp, "a=rtcp-fb:{pt} transport-cc\r\n");
        }
    }
}

fn write_source(sdp: &mut String, ssrc: u32, track: &str) {
    let _ = write!(
        sdp,
        "a=ssrc:{ssrc} cname:bench\r\na=ssrc:{ssrc} msid:bench {track}\r\n"
    );
}

/// What matters of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The server's ICE credentials.
    pub(super) remote: Credentials,
    /// The server's addresses, UDP only, in its order.
    pub(crate) candidates: Vec<SocketAddr>,
    /// What the accepted payload types carry.
    pub(crate) payloads: Vec<(u8, Kind)>,
    /// Header extension of transport-wide numbers, if agreed on.
    pub(crate) transport_cc: Option<u8>,
    /// Header extension of the m-line's id, if agreed on.
    pub(crate) mid: Option<u8>,
    /// Whether there is a data channel.
    pub(crate) channel: bool,
}

impl Answer {
    /// Reads an answer. The server is the server of DTLS, whatever it calls itself: the offer leaves no choice, and
    /// some say `active` and are passive.
    ///
    /// # Errors
    /// When it has no credentials or no address.
    pub(crate) fn parse(sdp: &str) -> anyhow::Result<Self> {
        let mut answer = Self::default();
        let mut section = "";
        for line in sdp.lines().map(str::trim) {
            if let Some(media) = line.strip_prefix("m=") {
                let mut words = media.split(' ');
                section = words.next().unwrap_or_default();
                let accepted = words.next() != Some("0");
                answer.channel |= section == "application" && accepted;
            }
            let Some((name, value)) = line.strip_prefix("a=").and_then(|a| a.split_once(':'))
            else {
                continue;
            };
            answer.attribute(section, name, value)?;
        }
        ensure!(
            !answer.remote.pwd.is_empty(),
            "the answer has no ICE credentials"
        );
        ensure!(
            !answer.candidates.is_empty(),
            "the answer has no UDP candidate"
        );
        Ok(answer)
    }

    fn attribute(&mut self, section: &str, name: &str, value: &str) -> anyhow::Result<()> {
        match name {
            "ice-ufrag" => value.clone_into(&mut self.remote.ufrag),
            "ice-pwd" => value.clone_into(&mut self.remote.pwd),
            "candidate" => {
                if let Some(address) = candidate(value)
                    && !self.candidates.contains(&address)
                {
                    self.candidates.push(address);
                }
            }
            "extmap" => {
                let (id, uri) = value.split_once(' ').context("read a header extension")?;
                let id = id.split('/').next().and_then(|id| id.parse().ok());
                match uri.split(' ').next() {
                    Some(TRANSPORT_CC) => self.transport_cc = id,
                    Some(MID) => self.mid = id,
                    _ => {}
                }
            }
            "rtpmap" => {
                let (pt, codec) = value.split_once(' ').context("read a payload type")?;
                let codec = codec
                    .split('/')
                    .next()
                    .unwrap_or_default()
                    .to_ascii_lowercase();
                let kind = match (section, codec.as_str()) {
                    ("video", "h264") => Kind::Video,
                    ("video", "rtx") => Kind::Repair,
                    ("audio", "opus") => Kind::Audio,
                    _ => return Ok(()),
                };
                self.payloads
                    .push((pt.parse().context("read a payload type")?, kind));
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns what a payload type carries.
    pub(crate) fn kind(&self, pt: u8) -> Option<Kind> {
        let found = self.payloads.iter().find(|(known, _)| *known == pt);
        found.map(|(_, kind)| *kind)
    }
}

/// Parses the address of a UDP candidate (RFC 8839 §5.1).
fn candidate(value: &str) -> Option<SocketAddr> {
    let mut words = value.split(' ').skip(2);
    let is_udp = words.next()?.eq_ignore_ascii_case("udp");
    let ip: IpAddr = words.nth(1)?.parse().ok()?;
    let port = words.next()?.parse().ok()?;
    is_udp.then_some(SocketAddr::new(ip, port))
}

const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
const TRANSPORT_CC: &str =
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_understood() {
        let sdp = "v=0\r\na=ice-lite\r\nm=video 9 UDP/TLS/RTP/SAVPF 108 109\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\n\
            a=setup:passive\r\na=extmap:4 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n\
            a=extmap:9/sendonly urn:ietf:params:rtp-hdrext:sdes:mid\r\na=rtpmap:108 H264/90000\r\n\
            a=rtpmap:109 rtx/90000\r\na=candidate:1 1 udp 21 192.0.2.1 7000 typ host\r\n\
            a=candidate:2 1 tcp 21 192.0.2.1 7000 typ host tcptype passive\r\n\
            m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=rtpmap:111 opus/48000/2\r\n\
            a=candidate:1 1 UDP 21 192.0.2.1 7000 typ host\r\nm=application 0 UDP/DTLS/SCTP x\r\n";
        let answer = Answer::parse(sdp).unwrap();
        let expected = SocketAddr::from(([192, 0, 2, 1], 7000));
        assert_eq!(answer.candidates, [expected]);
        assert_eq!((answer.transport_cc, answer.mid), (Some(4), Some(9)));
        assert_eq!(answer.kind(108), Some(Kind::Video));
        assert_eq!(answer.kind(109), Some(Kind::Repair));
        assert_eq!(answer.kind(111), Some(Kind::Audio));
        assert_eq!(answer.kind(0), None);
        assert!(!answer.channel);
    }

    #[test]
    fn unusable_answers_are_refused() {
        for sdp in [
            "",
            "a=ice-pwd:p\r\n",
            "a=ice-pwd:p\r\na=candidate:1 1 tcp 21 192.0.2.1 7000 typ host\r\n",
        ] {
            assert!(Answer::parse(sdp).is_err(), "{sdp}");
        }
    }
}
