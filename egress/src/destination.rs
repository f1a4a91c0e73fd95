//! What a requested destination must look like, and how it is shown.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use thiserror::Error;
use url::{Host, Url};

use crate::{
    config::Config,
    link::{HlsTarget, RecordTarget, RtmpTarget, Target},
    pattern,
    status::{Destination, DestinationType, ErrorCode, RecordingOptions, StreamKey},
};

/// A destination that was found usable.
#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    pub(crate) kind: DestinationType,
    /// The URL without the key, or the playlist's path.
    pub(crate) shown_url: String,
    pub(crate) target: Target,
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
        "The URL has no application after the server. Copy the whole server URL, such as \
         rtmp://live.example.com/app"
    )]
    NoApplication,
    #[error("The URL must not contain a user name, a password or a fragment")]
    NotPlain,
    #[error("The URL contains spaces or control characters, or is longer than 1024 characters")]
    Unclean,
    #[error("Private and local addresses are not allowed as targets on this server")]
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
}

impl DestinationError {
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            Self::NotRtmp(_)
            | Self::NoApplication
            | Self::NotPlain
            | Self::Unclean
            | Self::Private => ErrorCode::DestinationUrlInvalid,
            Self::NotAllowed => ErrorCode::DestinationNotAllowed,
            Self::Key => ErrorCode::DestinationKeyInvalid,
            Self::Segment => ErrorCode::RecordingOptionsInvalid,
        }
    }
}

/// Checks one destination of the room with this slug.
pub(crate) fn accept(
    destination: &Destination,
    room: &str,
    config: &Config,
) -> Result<Accepted, DestinationError> {
    match destination {
        Destination::Rtmp { url, key } => accept_rtmp(url, key, config),
        Destination::Hls {} => Ok(Accepted {
            kind: DestinationType::Hls,
            shown_url: format!("/hls/{room}/index.m3u8"),
            target: Target::Hls(HlsTarget::default()),
        }),
        Destination::Recording(options) => accept_recording(options, room, config),
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
        }),
    })
}

fn accept_rtmp(
    given: &str,
    key: &StreamKey,
    config: &Config,
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
    if !config.allow_private_targets && is_private(&host) {
        return Err(DestinationError::Private);
    }
    if !pattern::is_allowed(&config.allow, &url) {
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
    let host = match host {
        Host::Domain(name) => name,
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
    };
    Ok(Accepted {
        kind: DestinationType::Rtmp,
        shown_url: given.to_owned(),
        target: Target::Rtmp(RtmpTarget {
            tls,
            host,
            port: url.port().unwrap_or(if tls { 443 } else { 1935 }),
            application,
            key: key.to_owned(),
        }),
    })
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
        Host::Ipv4(address) => is_private_address(IpAddr::V4(*address)),
        Host::Ipv6(address) => is_private_address(IpAddr::V6(*address)),
    }
}

/// Returns whether an address is not one of the Internet. A worker asks it again of what a name resolves to.
pub(crate) fn is_private_address(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_broadcast()
                || ip.is_multicast()
                || is_carrier_grade_nat(ip)
                || ip.octets()[0] == 0
        }
        IpAddr::V6(ip) => {
            ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_unique_local()
                || ip.is_unicast_link_local()
                || embeds_private(ip)
        }
    }
}

/// Addresses that a translator turns into IPv4 ones: `64:ff9b::/96` (RFC 6052) and `2002::/16` (RFC 3056).
fn embeds_private(ip: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let (high, low) = match (a, b, [c, d, e, f]) {
        (0x64, 0xff9b, [0, 0, 0, 0]) => (g, h),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn rtmp(url: &str, key: &str, allow_private: bool) -> Result<RtmpTarget, DestinationError> {
        let destination = Destination::Rtmp {
            url: url.into(),
            key: StreamKey::from(key.to_owned()),
        };
        let config = Config {
            allow_private_targets: allow_private,
            ..Config::default()
        };
        accept(&destination, "room", &config).map(|accepted| match accepted.target {
            Target::Rtmp(target) => target,
            Target::Hls(_) | Target::Record(_) => panic!("not RTMP"),
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
            "[2002:7f00:1::]",
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
