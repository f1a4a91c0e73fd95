//! Which URLs an operator allows.

use url::Url;

/// Returns whether `url` matches one of the patterns; always, if there is none.
///
/// A pattern is `scheme://host[:port]/path`. `*` stands for anything within the host or within the path, so that
/// `rtmp://*.example.com/*` does not match another host with that name in its path. The usual port of a scheme may be
/// named or not.
pub(crate) fn is_allowed(patterns: &[String], url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
    let usual = usual_port(url.scheme());
    let port = url.port().or(usual);
    let with_port = port.map(|port| format!("{host}:{port}"));
    let authorities = [(port == usual).then_some(host), with_port];
    let path = url.path().trim_matches('/');
    patterns.is_empty()
        || patterns.iter().any(|pattern| {
            parts(pattern).is_some_and(|(scheme, wanted_authority, wanted_path)| {
                let wanted_authority = wanted_authority.to_ascii_lowercase();
                let mut authorities = authorities.iter().flatten();
                scheme == url.scheme()
                    && authorities.any(|authority| matches(&wanted_authority, authority))
                    && matches(wanted_path.trim_matches('/'), path)
            })
        })
}

/// Returns the port that is meant where a URL names none.
pub(crate) fn usual_port(scheme: &str) -> Option<u16> {
    match scheme {
        "rtmp" => Some(1935),
        "rtmps" => Some(443),
        _ => None,
    }
}

/// Returns whether a pattern can be used.
pub(crate) fn is_valid(pattern: &str) -> bool {
    parts(pattern).is_some_and(|(scheme, authority, _)| {
        matches!(scheme, "rtmp" | "rtmps" | "srt") && !authority.is_empty()
    })
}

fn parts(pattern: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = pattern.split_once("://")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    Some((scheme, authority, path))
}

fn matches(pattern: &str, text: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(rest) = text.strip_prefix(before) else {
        return false;
    };
    let mut ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
    ends.any(|at| matches(after, rest.get(at..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_host_and_path_apart() {
        let table = [
            (
                "rtmp://live.example.com/app",
                "rtmp://live.example.com/app",
                true,
            ),
            (
                "rtmp://live.example.com/app",
                "rtmp://LIVE.example.com/app/",
                true,
            ),
            (
                "rtmp://live.example.com/app",
                "rtmps://live.example.com/app",
                false,
            ),
            (
                "rtmp://live.example.com/app",
                "rtmp://live.example.com:99/app",
                false,
            ),
            (
                "rtmp://live.example.com/app",
                "rtmp://live.example.com:1935/app",
                true,
            ),
            (
                "rtmp://live.example.com:1935/app",
                "rtmp://live.example.com/app",
                true,
            ),
            ("rtmps://h:443/app", "rtmps://h/app", true),
            ("rtmps://h/app", "rtmps://h:1935/app", false),
            ("srt://h:99", "srt://h:99", true),
            ("srt://h", "srt://h:99", false),
            (
                "rtmp://live.example.com:*/*",
                "rtmp://live.example.com:99/app",
                true,
            ),
            (
                "rtmp://*.example.com/*",
                "rtmp://a.b.example.com/app/x",
                true,
            ),
            (
                "rtmp://*.example.com/*",
                "rtmp://evil.net/a.example.com/x",
                false,
            ),
            (
                "rtmp://*.example.com/*",
                "rtmp://example.com.evil.net/x",
                false,
            ),
            ("rtmps://*/rtmp", "rtmps://h/rtmp", true),
            ("rtmps://*/rtmp", "rtmps://h/rtmp2", false),
        ];
        for (pattern, url, expected) in table {
            assert!(is_valid(pattern), "{pattern}");
            let url = Url::parse(url).unwrap();
            assert_eq!(
                is_allowed(&[pattern.to_owned()], &url),
                expected,
                "{pattern} {url}"
            );
            assert!(is_allowed(&[], &url));
        }
        for pattern in ["", "example.com", "http://host/", "rtmp:///app"] {
            assert!(!is_valid(pattern), "{pattern}");
        }
    }
}
