//! What a requested destination must look like, and how it is shown.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use nix::ifaddrs::getifaddrs;
use thiserror::Error;
use url::{Host, Url};

use crate::{
    config::Config,
    link::{HlsTarget, RecordTarget, RtmpTarget, SrtTarget, Target, ThumbnailTarget},
    pattern,
    status::{Destination, DestinationType, ErrorCode, RecordingOptions, StreamKey},
};

/// A destination that was found usable.
#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    pub(crate) kind: DestinationType,
    /// The URL without the key, or the path of what is made here; of thumbnails, of what their path begins with.
    pub(crate) shown_url: String,
    pub(crate) target: Target,
    /// Whether it may be at a loopback or private address.
    pub(crate) allow_private: bool,
    /// Whether only who has a token gets what is made here.
    pub(crate) needs_token: bool,
}

/// Why a destination cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum DestinationError {
    #[error(
        "“{0}” is not an RTMP URL. It starts with rtmp:// or rtmps://, then the server and the application, \
         such as rtmp://live.example.com/app"
    )]
    NotRtmp(String),
    #[error(
        "“{0}” is not an SRT URL. It is srt://host:port and nothing more: stream id, passphrase and latency \
         have fields of their own"
    )]
    NotSrt(String),
    #[error("The stream id must not have more than 512 bytes, nor control characters")]
    StreamId,
    #[error("The passphrase must be 10 to 79 characters")]
    Passphrase,
    #[error("The latency must not be above 8000 ms")]
    Latency,
    #[error(
        "The URL has no application after the server. Copy the whole server URL, such as \
         rtmp://live.example.com/app"
    )]
    NoApplication,
    #[error("Give either a url or a platform, not both")]
    TwoUrls,
    #[error("The URL must not contain a user name, a password or a fragment")]
    NotPlain,
    #[error("The URL contains spaces or control characters, or is longer than 1024 characters")]
    Unclean,
    #[error(
        "This address is in the server's own network, where only the owner may send to. The owner can start this output, or allow it for everybody with allow_private_targets = true in [egress]"
    )]
    Private,
    #[error("This server allows outputs to certain addresses only, and this is none of them")]
    NotAllowed,
    #[error(
        "The stream key must be 1 to 512 characters without spaces. Copy it again from the platform's \
         live settings"
    )]
    Key,
    #[error(
        "A recording's files are of 10 to 43200 seconds (segment_seconds) or 1 to 100000 megabytes (segment_mb)"
    )]
    Segment,
    #[error(
        "Thumbnails are taken every 1 to 3600 seconds (interval_seconds), are 160 to 1920 pixels wide (width), and \
         1 to 10000 of them are kept (keep)"
    )]
    Thumbnails,
}

impl DestinationError {
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            Self::NotRtmp(_)
            | Self::NotSrt(_)
            | Self::Latency
            | Self::NoApplication
            | Self::TwoUrls
            | Self::NotPlain
            | Self::Unclean
            | Self::Private => ErrorCode::DestinationUrlInvalid,
            Self::NotAllowed => ErrorCode::DestinationNotAllowed,
            Self::Key | Self::StreamId | Self::Passphrase => ErrorCode::DestinationKeyInvalid,
            Self::Segment => ErrorCode::RecordingOptionsInvalid,
            Self::Thumbnails => ErrorCode::ThumbnailsOptionsInvalid,
        }
    }
}

/// Where may be sent to.
struct Rules<'a> {
    /// As [`Config::allow`].
    allow: &'a [String],
    /// Whether loopback and private addresses are allowed.
    private: bool,
}

/// Checks one destination of the room with this slug, asked for by somebody who may reach this network or not.
pub(crate) fn accept(
    destination: &Destination,
    room: &str,
    config: &Config,
    trusted: bool,
) -> Result<Accepted, DestinationError> {
    let rules = Rules {
        allow: &config.allow,
        private: trusted || config.allow_private_targets,
    };
    match destination {
        Destination::Rtmp { url, platform, key } => match platform {
            Some(platform) if url.is_empty() => accept_rtmp(platform.url(), key, &rules),
            Some(_) => Err(DestinationError::TwoUrls),
            None => accept_rtmp(url, key, &rules),
        },
        Destination::Srt {
            url,
            stream_id,
            passphrase,
            latency_ms,
        } => {
            let secret = |key: &Option<StreamKey>| {
                let key = key.as_ref().map(|key| key.expose().trim().to_owned());
                key.filter(|key| !key.is_empty())
            };
            let (host, port) = accept_srt_url(url, &rules)?;
            let target = SrtTarget {
                host,
                port,
                latency_ms: latency_ms.unwrap_or(SRT_LATENCY_MS),
                stream_id: secret(stream_id).unwrap_or_default(),
                passphrase: secret(passphrase),
            };
            check_srt(&target)?;
            Ok(Accepted {
                kind: DestinationType::Srt,
                shown_url: url.trim().to_owned(),
                target: Target::Srt(target),
                allow_private: rules.private,
                needs_token: false,
            })
        }
        Destination::Hls { private } => Ok(Accepted {
            kind: DestinationType::Hls,
            shown_url: format!("/hls/{room}/index.m3u8"),
            target: Target::Hls(HlsTarget {
                segment_ms: config.hls.segment_ms,
                part_ms: config.hls.part_ms,
            }),
            allow_private: false,
            needs_token: *private,
        }),
        Destination::Recording(options) => accept_recording(options, room, config),
        Destination::Thumbnails(options) => Ok(Accepted {
            kind: DestinationType::Thumbnails,
            shown_url: format!("/api/rooms/{room}/egress"),
            target: Target::Thumbnails(
                ThumbnailTarget::of(options).ok_or(DestinationError::Thumbnails)?,
            ),
            allow_private: false,
            needs_token: false,
        }),
    }
}

/// The folder is known once the job is.
fn accept_recording(
    options: &RecordingOptions,
    room: &str,
    config: &Config,
) -> Result<Accepted, DestinationError> {
    let seconds = options.segment_seconds;
    let megabytes = options.segment_mb;
    let usable = seconds.is_none_or(|s| (10..=43_200).contains(&s))
        && megabytes.is_none_or(|mb| (1..=100_000).contains(&mb));
    if !usable {
        return Err(DestinationError::Segment);
    }
    Ok(Accepted {
        kind: DestinationType::Recording,
        shown_url: format!("/api/rooms/{room}/recordings"),
        target: Target::Record(RecordTarget {
            folder: PathBuf::new(),
            segment_ms: seconds.map(|s| u64::from(s) * 1000),
            segment_bytes: megabytes.map(|mb| u64::from(mb) * 1_000_000),
            min_free_bytes: config.recording.min_free_mb << 20,
            // Named when it begins.
            tracks: options.tracks.then(String::new),
        }),
        allow_private: false,
        needs_token: false,
    })
}

fn accept_rtmp(
    given: &str,
    key: &StreamKey,
    rules: &Rules<'_>,
) -> Result<Accepted, DestinationError> {
    let given = given.trim();
    if given.len() > 1024 || !is_clean(given) {
        return Err(DestinationError::Unclean);
    }
    let not_rtmp = || DestinationError::NotRtmp(given.chars().take(80).collect());
    let url = Url::parse(given).map_err(|_| not_rtmp())?;
    let tls = match url.scheme() {
        "rtmp" => false,
        "rtmps" => true,
        _ => return Err(not_rtmp()),
    };
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(DestinationError::NotPlain);
    }
    let host = parse_host(&url).ok_or_else(not_rtmp)?;
    if url.port() == Some(0) {
        return Err(not_rtmp());
    }
    if !rules.private && is_private(&host) {
        return Err(DestinationError::Private);
    }
    if !pattern::is_allowed(rules.allow, &url) {
        return Err(DestinationError::NotAllowed);
    }
    let path = url.path().trim_matches('/');
    if path.is_empty() {
        return Err(DestinationError::NoApplication);
    }
    let key = key.expose().trim();
    if key.is_empty() || key.len() > 512 || !is_clean(key) {
        return Err(DestinationError::Key);
    }
    let application = match url.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let port = url.port().or(pattern::usual_port(url.scheme()));
    let (host, port) = (bare_host(host), port.ok_or_else(not_rtmp)?);
    Ok(Accepted {
        kind: DestinationType::Rtmp,
        shown_url: without_query(given),
        target: Target::Rtmp(RtmpTarget {
            tls,
            host,
            port,
            application,
            key: key.to_owned(),
        }),
        allow_private: rules.private,
        needs_token: false,
    })
}

fn accept_srt_url(given: &str, rules: &Rules<'_>) -> Result<(String, u16), DestinationError> {
    let given = given.trim();
    if given.len() > 1024 || !is_clean(given) {
        return Err(DestinationError::Unclean);
    }
    let not_srt = || DestinationError::NotSrt(given.chars().take(80).collect());
    let url = Url::parse(given).map_err(|_| not_srt())?;
    let port = url.port().filter(|port| *port > 0).ok_or_else(not_srt)?;
    // Secrets have fields of their own, which are not shown again.
    let bare = url.path().trim_matches('/').is_empty() && url.query().is_none();
    if url.scheme() != "srt" || !bare {
        return Err(not_srt());
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(DestinationError::NotPlain);
    }
    let host = parse_host(&url).ok_or_else(not_srt)?;
    if !rules.private && is_private(&host) {
        return Err(DestinationError::Private);
    }
    if !pattern::is_allowed(rules.allow, &url) {
        return Err(DestinationError::NotAllowed);
    }
    Ok((bare_host(host), port))
}

fn check_srt(target: &SrtTarget) -> Result<(), DestinationError> {
    if target.stream_id.len() > 512 || target.stream_id.chars().any(char::is_control) {
        return Err(DestinationError::StreamId);
    }
    let passphrase = target.passphrase.as_deref();
    if passphrase.is_some_and(|text| !(10..=79).contains(&text.len()) || text.contains('\0')) {
        return Err(DestinationError::Passphrase);
    }
    if target.latency_ms > 8000 {
        return Err(DestinationError::Latency);
    }
    Ok(())
}

/// Returns a URL as it may be shown: some platforms want their secrets in the query.
fn without_query(url: &str) -> String {
    match url.split_once('?') {
        Some((shown, _)) => format!("{shown}?…"),
        None => url.to_owned(),
    }
}

/// Returns the host as the resolver takes it: IPv6 addresses without brackets.
fn bare_host(host: Host<String>) -> String {
    match host {
        Host::Domain(name) => name,
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
    }
}

fn is_clean(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// `url` leaves the host of a scheme that it does not know unparsed.
fn parse_host(url: &Url) -> Option<Host<String>> {
    Host::parse(url.host_str()?).ok()
}

fn is_private(host: &Host<String>) -> bool {
    match host {
        Host::Domain(name) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
        Host::Ipv4(address) => is_off_limits(IpAddr::V4(*address)),
        Host::Ipv6(address) => is_off_limits(IpAddr::V6(*address)),
    }
}

/// Returns whether an address is not one of other machines of the Internet. A worker asks it again of what a name
/// resolves to.
pub(crate) fn is_off_limits(ip: IpAddr) -> bool {
    is_private_address(ip) || is_of_this_machine(ip)
}

/// Returns whether an address is one of this machine's, behind whose firewall everything is reached by it.
fn is_of_this_machine(ip: IpAddr) -> bool {
    let addresses = getifaddrs().into_iter().flatten();
    let mut addresses = addresses.filter_map(|interface| interface.address);
    addresses.any(|address| {
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        let v6 = || address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()));
        v4.or_else(v6) == Some(ip.to_canonical())
    })
}

fn is_private_address(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_broadcast()
                || ip.is_multicast()
                || is_carrier_grade_nat(ip)
                || matches!(
                    ip.octets(),
                    [0, ..] | [192, 0, 0, _] | [198, 18..=19, ..] | [240..=255, ..]
                )
        }
        IpAddr::V6(ip) => {
            ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_unique_local()
                || ip.is_unicast_link_local()
                || is_of_a_site(ip)
                || embeds_private(ip)
        }
    }
}

/// `fec0::/10`, which sites had of their own before (RFC 3879), and `64:ff9b:1::/48`, which a network translates into
/// IPv4 as it likes (RFC 8215).
fn is_of_a_site(ip: Ipv6Addr) -> bool {
    matches!(ip.segments(), [0xfec0..=0xfeff, ..] | [0x64, 0xff9b, 1, ..])
}

/// Addresses that a translator turns into IPv4 ones: `64:ff9b::/96` (RFC 6052), `2002::/16` (RFC 3056) and
/// `::/96` (RFC 4291 §2.5.5.1).
fn embeds_private(ip: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let (high, low) = match (a, b, [c, d, e, f]) {
        (0x64, 0xff9b, [0, 0, 0, 0]) | (0, 0, [0, 0, 0, 0]) => (g, h),
        (0x2002, high, [low, ..]) => (high, low),
        _ => return false,
    };
    let embedded = Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    is_private_address(IpAddr::V4(embedded))
}

/// 100.64.0.0/10 (RFC 6598).
fn is_carrier_grade_nat(ip: Ipv4Addr) -> bool {
    let [a, b, _, _] = ip.octets();
    a == 100 && b & 0xc0 == 64
}

/// What SRT itself takes by default.
const SRT_LATENCY_MS: u32 = 120;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Platform;

    fn srt(
        url: &str,
        passphrase: Option<&str>,
        latency_ms: u32,
    ) -> Result<SrtTarget, DestinationError> {
        let destination = Destination::Srt {
            url: url.into(),
            stream_id: Some(StreamKey::from("publish:x".to_owned())),
            passphrase: passphrase.map(|text| StreamKey::from(text.to_owned())),
            latency_ms: Some(latency_ms),
        };
        let accepted = accept(&destination, "room", &Config::default(), true)?;
        assert!(!accepted.shown_url.contains("publish"));
        let Target::Srt(target) = accepted.target else {
            panic!("not SRT");
        };
        Ok(target)
    }

    #[test]
    fn srt_urls_are_taken_apart_and_secrets_stay_out_of_them() {
        let target = srt("srt://host:9000", Some("0123456789"), 300).unwrap();
        assert_eq!((target.port, target.latency_ms), (9000, 300));
        assert_eq!(target.scrub("bad 0123456789"), "bad …");
        assert_eq!(srt("srt://[::1]:9000", None, 0).unwrap().host, "::1");
        for url in [
            "srt://host",
            "srt://host:0",
            "srt://:9000",
            "srt://host:9000/x",
            "srt://host:9000?passphrase=0123456789",
            "srt://u:p@host:9000",
            "udp://host:9000",
        ] {
            let code = srt(url, None, 0).err().map(|error| error.code());
            assert_eq!(code, Some(ErrorCode::DestinationUrlInvalid), "{url}");
        }
        for short in ["short", "012345678"] {
            let error = srt("srt://host:9000", Some(short), 0).err();
            assert_eq!(error, Some(DestinationError::Passphrase));
        }
        let slow = srt("srt://host:9000", None, 9000).err();
        assert_eq!(slow, Some(DestinationError::Latency));
        let public_only = Rules {
            allow: &[],
            private: false,
        };
        let local = accept_srt_url("srt://127.0.0.1:9000", &public_only).err();
        assert_eq!(local, Some(DestinationError::Private));
    }

    fn rtmp(url: &str, key: &str, allow_private: bool) -> Result<RtmpTarget, DestinationError> {
        let destination = Destination::Rtmp {
            url: url.into(),
            platform: None,
            key: StreamKey::from(key.to_owned()),
        };
        accept(&destination, "room", &Config::default(), allow_private).map(|accepted| {
            let Target::Rtmp(target) = accepted.target else {
                panic!("not RTMP");
            };
            target
        })
    }

    #[test]
    fn urls_of_the_platforms_are_taken_apart() {
        let table = [
            (
                "rtmp://a.rtmp.youtube.com/live2",
                "a.rtmp.youtube.com",
                1935,
                "live2",
            ),
            (
                "rtmp://a.rtmp.youtube.com/live2/",
                "a.rtmp.youtube.com",
                1935,
                "live2",
            ),
            (
                "rtmps://live-api-s.facebook.com:443/rtmp/",
                "live-api-s.facebook.com",
                443,
                "rtmp",
            ),
            (
                "rtmps://a.rtmps.youtube.com/live2",
                "a.rtmps.youtube.com",
                443,
                "live2",
            ),
            (
                "rtmp://host:1936/app/instance",
                "host",
                1936,
                "app/instance",
            ),
            (
                "rtmp://b.rtmp.youtube.com/live2?backup=1",
                "b.rtmp.youtube.com",
                1935,
                "live2?backup=1",
            ),
            ("rtmp://[::1]:1935/live", "::1", 1935, "live"),
        ];
        for (url, host, port, application) in table {
            let target = rtmp(url, " key ", true).unwrap_or_else(|e| panic!("{url}: {e}"));
            assert_eq!(
                (
                    target.host.as_str(),
                    target.port,
                    target.application.as_str(),
                    target.key.as_str()
                ),
                (host, port, application, "key"),
                "{url}"
            );
        }
    }

    #[test]
    fn a_platform_stands_for_its_url() {
        let request = |body: &str| {
            let destination = serde_json::from_str::<Destination>(body).unwrap();
            accept(&destination, "room", &Config::default(), true)
                .map(|accepted| accepted.shown_url)
        };
        for platform in Platform::ALL {
            let name = serde_json::to_string(&platform).unwrap();
            let shown = request(&format!(r#"{{"type":"rtmp","platform":{name},"key":"k"}}"#));
            assert_eq!(shown.as_deref(), Ok(platform.url()));
        }
        let both = r#"{"type":"rtmp","platform":"twitch","url":"rtmp://h/a","key":"k"}"#;
        assert_eq!(request(both), Err(DestinationError::TwoUrls));
        assert!(request(r#"{"type":"rtmp","key":"k"}"#).is_err());
    }

    #[test]
    fn unusable_urls_are_refused() {
        for url in [
            "",
            "http://host/app",
            "host/app",
            "rtmp://",
            "rtmp:///app",
            "rtmp://host",
            "rtmp://host/",
            "rtmp://user:pw@host/app",
            "rtmp://host/app#x",
            "rtmp://host/a b",
            "rtmp://host/a\nb",
            "rtmp://host:99999/app",
            "rtmp://host:0/app",
            "rtmp://ho st/app",
            "file:///etc/passwd",
        ] {
            let error = rtmp(url, "key", true).err();
            let code = error.as_ref().map(DestinationError::code);
            assert_eq!(
                code,
                Some(ErrorCode::DestinationUrlInvalid),
                "{url}: {error:?}"
            );
        }
    }

    #[test]
    fn unusable_keys_are_refused() {
        for key in ["", "  ", "a b", "a\nb", &"x".repeat(513)] {
            assert_eq!(
                rtmp("rtmp://host/app", key, true).err(),
                Some(DestinationError::Key)
            );
        }
    }

    #[test]
    fn the_server_s_own_machine_is_no_target() {
        for (address, expected) in [
            ("127.0.0.1", true),
            ("::ffff:127.0.0.1", true),
            ("203.0.113.9", false),
            ("2001:db8::9", false),
        ] {
            let ip = address.parse().unwrap();
            assert_eq!(is_of_this_machine(ip), expected, "{address}");
        }
        let ours = getifaddrs().unwrap().filter_map(|interface| {
            let address = interface.address?;
            Some(address.as_sockaddr_in()?.ip())
        });
        for ip in ours {
            let refused = rtmp(&format!("rtmp://{ip}/app"), "k", false);
            assert!(refused.is_err(), "{ip}");
        }
    }

    #[test]
    fn private_targets_are_refused_unless_allowed() {
        for host in [
            "127.0.0.1",
            "10.1.2.3",
            "192.168.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "localhost",
            "LOCALHOST.",
            "[::1]",
            "[fd00::1]",
            "[fe80::1]",
            "[::ffff:10.0.0.1]",
            "[64:ff9b::a00:1]",
            "[64:ff9b:1::7f00:1]",
            "[2002:7f00:1::]",
            "[::127.0.0.1]",
            "[fec0::1]",
            "0x7f.1",
        ] {
            let url = format!("rtmp://{host}/app");
            assert_eq!(
                rtmp(&url, "key", false).err(),
                Some(DestinationError::Private),
                "{host}"
            );
            assert!(rtmp(&url, "key", true).is_ok(), "{host}");
        }
        assert!(rtmp("rtmp://203.0.113.7/app", "key", false).is_ok());
    }
}
