//! ICE restarts without a whole SDP: `application/trickle-ice-sdpfrag` (RFC 8840, RFC 9725 §4.3.3).

use std::fmt::Write;

use super::{IceCredentials, Shared, answer::candidate_lines};

/// What is read of a client's fragment, or of its whole offer: they agree in these lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IceFragment<'a> {
    /// The client's username fragment: another one than before means a new ICE session (RFC 8839 §4.4.1.1.1).
    pub ufrag: &'a str,
    media: &'a str,
    mid: &'a str,
}

impl<'a> IceFragment<'a> {
    /// Reads a fragment; `None` without credentials, or when it is longer than any fragment or offer.
    pub fn parse(text: &'a str) -> Option<Self> {
        if text.len() > MAX_LEN {
            return None;
        }
        let lines = || text.lines().map(|line| line.trim_end_matches('\r'));
        let value = |name: &str| lines().find_map(|line| line.strip_prefix(name));
        value("a=ice-pwd:").filter(|pwd| is_ice_token(pwd, 22))?;
        Some(Self {
            ufrag: value("a=ice-ufrag:").filter(|ufrag| is_ice_token(ufrag, 4))?,
            media: value("m=")
                .filter(|media| media.chars().all(|c| c.is_ascii_graphic() || c == ' '))
                .unwrap_or(NO_MEDIA),
            mid: value("a=mid:").filter(|mid| is_token(mid)).unwrap_or("0"),
        })
    }

    /// Writes the server's fragment of a new session: its credentials and candidates.
    pub fn answer(&self, shared: &Shared, credentials: &IceCredentials) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "a=ice-lite\r\na=ice-options:trickle\r\nm={}\r\na=mid:{}\r\na=ice-ufrag:{}\r\na=ice-pwd:{}\r\n",
            self.media, self.mid, credentials.ufrag, credentials.pwd,
        );
        text.push_str(&candidate_lines(shared));
        text
    }
}

/// Tells whether it is made of ICE characters (RFC 8839 §5.4) and long enough.
fn is_ice_token(text: &str, least: usize) -> bool {
    let is_ice = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '-' | '_' | '=');
    (least..=256).contains(&text.len()) && text.chars().all(is_ice)
}

fn is_token(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic())
}

/// The m-line of a fragment that has none.
const NO_MEDIA: &str = "audio 9 UDP/TLS/RTP/SAVPF 0";

/// Offers of browsers with many codecs are 20 kB long.
const MAX_LEN: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const PWD: &str = "a=ice-pwd:0123456789abcdefghijklmn\r\n";

    #[test]
    fn credentials_are_found_or_nothing() {
        let ufrag = "a=ice-ufrag:abcd\r\n";
        let head = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:v\r\n";
        let cases = [
            ("whole", format!("{head}{ufrag}{PWD}"), true),
            ("credentials alone", format!("{ufrag}{PWD}"), true),
            ("no password", ufrag.to_owned(), false),
            ("no fragment", PWD.to_owned(), false),
            ("short", format!("a=ice-ufrag:abc\r\n{PWD}"), false),
            ("not ICE", format!("a=ice-ufrag:ab cd\r\n{PWD}"), false),
            (
                "too long",
                format!("{ufrag}{PWD}{}", " ".repeat(MAX_LEN)),
                false,
            ),
        ];
        for (label, text, expected) in cases {
            let found = IceFragment::parse(&text).map(|fragment| fragment.ufrag);
            assert_eq!(found, expected.then_some("abcd"), "{label}");
        }
    }

    #[test]
    fn the_answer_repeats_the_section_and_names_all_candidates() {
        let text =
            format!("m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:v\r\na=ice-ufrag:abcd\r\n{PWD}");
        let address = ([192, 0, 2, 1], 7000).into();
        let shared = Shared::new(&[address]).with_tcp(&[address]);
        let credentials = IceCredentials {
            ufrag: "server".to_owned(),
            pwd: "secret".to_owned(),
        };
        let answer = IceFragment::parse(&text)
            .unwrap()
            .answer(&shared, &credentials);
        for line in [
            "m=video 9 UDP/TLS/RTP/SAVPF 96",
            "a=mid:v",
            "a=ice-ufrag:server",
            "a=ice-pwd:secret",
            "a=candidate:1 1 udp 2130706431 192.0.2.1 7000 typ host",
            "a=candidate:2 1 tcp 1518403327 192.0.2.1 7000 typ host tcptype passive",
            "a=end-of-candidates",
        ] {
            assert!(answer.lines().any(|l| l == line), "{line} in {answer}");
        }
    }
}
