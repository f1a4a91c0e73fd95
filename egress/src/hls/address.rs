//! The URL scheme: from a path and a query below `/hls/{room}/` to what is meant.

use super::{From, Place, Reload, Rendition, Wanted};

/// Why an address means nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AddressError {
    Unknown,
    /// A delivery directive that is no number, or a part without its segment.
    Directive,
}

/// What of an address opens a private room: `~TOKEN/` before the path, which the addresses in playlists inherit.
pub(super) fn split_token(path: &str) -> (Option<&str>, &str) {
    let split = path.strip_prefix('~').and_then(|rest| rest.split_once('/'));
    match split {
        Some((token, rest)) => (Some(token), rest),
        None => (None, path),
    }
}

/// Returns a parameter of a query. Nothing here needs escaping.
pub(super) fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// Returns what is meant by a path without token, and a query.
pub(super) fn parse(path: &str, query: &str) -> Result<Wanted, AddressError> {
    if path == "index.m3u8" {
        return Ok(Wanted::Master);
    }
    let (folder, name) = path.split_once('/').ok_or(AddressError::Unknown)?;
    let rendition = Rendition::from_folder(folder).ok_or(AddressError::Unknown)?;
    if name == "index.m3u8" {
        return Ok(Wanted::Playlist(rendition, reload(query)?));
    }
    media(rendition, name).ok_or(AddressError::Unknown)
}

fn media(rendition: Rendition, name: &str) -> Option<Wanted> {
    if let Some(number) = between(name, "init-", ".mp4") {
        return Some(Wanted::Init(number.parse().ok()?));
    }
    if let Some(place) = between(name, "part-", ".m4s") {
        let (segment, part) = place.split_once('.')?;
        let place = Place {
            segment: segment.parse().ok()?,
            part: part.parse().ok()?,
        };
        return Some(Wanted::Part(rendition, place));
    }
    let number = between(name, "seg-", ".m4s")?;
    Some(Wanted::Segment(rendition, number.parse().ok()?))
}

fn reload(query: &str) -> Result<Reload, AddressError> {
    let segment = number(parameter(query, "_HLS_msn"))?;
    let part = number(parameter(query, "_HLS_part"))?;
    let part = part.map(usize::try_from).transpose();
    let part = part.map_err(|_| AddressError::Directive)?;
    let from = match (segment, part) {
        (None, Some(_)) => return Err(AddressError::Directive),
        (None, None) => None,
        (Some(segment), part) => Some(From { segment, part }),
    };
    // "v2" also skips date ranges, of which there are none.
    let skip = matches!(parameter(query, "_HLS_skip"), Some("YES" | "v2"));
    Ok(Reload { from, skip })
}

fn number(text: Option<&str>) -> Result<Option<u64>, AddressError> {
    let number = text.map(str::parse).transpose();
    number.map_err(|_| AddressError::Directive)
}

fn between<'a>(name: &'a str, before: &str, after: &str) -> Option<&'a str> {
    name.strip_prefix(before)?.strip_suffix(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_mean_what_is_documented() {
        let v1 = Rendition::Video(1);
        let from = |segment, part, skip| Reload {
            from: Some(From { segment, part }),
            skip,
        };
        for (path, query, wanted) in [
            ("index.m3u8", "_HLS_msn=x", Ok(Wanted::Master)),
            (
                "v1/index.m3u8",
                "",
                Ok(Wanted::Playlist(v1, Reload::default())),
            ),
            (
                "audio/index.m3u8",
                "_HLS_msn=7",
                Ok(Wanted::Playlist(Rendition::Audio, from(7, None, false))),
            ),
            (
                "v1/index.m3u8",
                "a=b&_HLS_part=3&_HLS_msn=7&_HLS_skip=v2",
                Ok(Wanted::Playlist(v1, from(7, Some(3), true))),
            ),
            ("v1/index.m3u8", "_HLS_part=3", Err(AddressError::Directive)),
            ("v1/index.m3u8", "_HLS_msn=-1", Err(AddressError::Directive)),
            ("v1/index.m3u8", "_HLS_msn=", Err(AddressError::Directive)),
            ("v1/init-5.mp4", "", Ok(Wanted::Init(5))),
            ("v1/seg-5.m4s", "", Ok(Wanted::Segment(v1, 5))),
            (
                "v1/part-5.2.m4s",
                "",
                Ok(Wanted::Part(
                    v1,
                    Place {
                        segment: 5,
                        part: 2,
                    },
                )),
            ),
            ("v1/part-5.m4s", "", Err(AddressError::Unknown)),
            ("v01/index.m3u8", "", Err(AddressError::Unknown)),
            ("v256/index.m3u8", "", Err(AddressError::Unknown)),
            ("v1/../index.m3u8", "", Err(AddressError::Unknown)),
            ("v1/seg-.m4s", "", Err(AddressError::Unknown)),
            ("v1", "", Err(AddressError::Unknown)),
            ("", "", Err(AddressError::Unknown)),
        ] {
            assert_eq!(parse(path, query), wanted, "{path}?{query}");
        }
        assert_eq!(split_token("~a.b.c/v0/x"), (Some("a.b.c"), "v0/x"));
        assert_eq!(split_token("index.m3u8"), (None, "index.m3u8"));
        assert_eq!(split_token("~a"), (None, "~a"));
    }
}
