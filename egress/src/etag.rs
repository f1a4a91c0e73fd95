//! What a request says of the version that its sender has (RFC 9110 §13.1): the only place where that is read.

use axum::http::{HeaderMap, HeaderValue, header};

/// Returns whether who asks has the version with this entity tag, which comes with its quotes (`If-None-Match`,
/// §13.1.2): a 304 is the answer then.
pub fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let known = headers.get_all(header::IF_NONE_MATCH).into_iter();
    let mut known = known.filter_map(|value| value.to_str().ok());
    known.any(|known| known.trim() == "*" || opaque_tags(known).contains(&opaque(tag)))
}

/// Returns whether who asks for a range has the rest of this version (`If-Range`, §13.1.5), whose headers are
/// `version`: the whole is the answer otherwise.
pub(crate) fn has_rest(headers: &HeaderMap, version: &HeaderMap) -> bool {
    let Some(rest) = headers.get(header::IF_RANGE) else {
        return true;
    };
    // A weak tag tells two versions apart that are the same to people, but not byte by byte.
    let is_strong = |value: &HeaderValue| !value.as_bytes().starts_with(b"W/");
    let mut validators = [header::ETAG, header::LAST_MODIFIED]
        .into_iter()
        .filter_map(|name| version.get(name));
    validators.any(|validator| is_strong(validator) && validator == rest)
}

/// Returns what is between the quotes of a list of entity tags, weak ones too.
fn opaque_tags(mut list: &str) -> Vec<&str> {
    let mut tags = Vec::new();
    loop {
        list = list.trim_start_matches([' ', '\t', ',']);
        let quoted = list.strip_prefix("W/").unwrap_or(list).strip_prefix('"');
        let Some((tag, rest)) = quoted.and_then(|quoted| quoted.split_once('"')) else {
            return tags;
        };
        tags.push(tag);
        list = rest;
    }
}

/// Returns what is between the quotes of an entity tag.
fn opaque(tag: &str) -> &str {
    tag.trim_start_matches("W/").trim_matches('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers<const N: usize>(lines: [(header::HeaderName, &'static str); N]) -> HeaderMap {
        let lines = lines.map(|(name, value)| (name, HeaderValue::from_static(value)));
        HeaderMap::from_iter(lines)
    }

    #[test]
    fn a_known_version_is_told_by_its_tag() {
        let table = [
            (r#""3-a""#, true),
            (r#"W/"3-a""#, true),
            (r#""1-a", W/"3-a""#, true),
            (r#""1-a",,"3-a""#, true),
            (r#""a, b" , "3-a""#, true),
            ("*", true),
            (" * ", true),
            (r#""3-b""#, false),
            (r#""x, 3-a""#, false),
            (r#"w/"3-a""#, false),
            ("3-a", false),
            (r#""3-a"#, false),
            ("", false),
        ];
        for (value, expected) in table {
            let headers = headers([(header::IF_NONE_MATCH, value)]);
            assert_eq!(is_known(&headers, r#""3-a""#), expected, "{value}");
        }
        let mut several = headers([(header::IF_NONE_MATCH, r#""1""#)]);
        several.append(header::IF_NONE_MATCH, HeaderValue::from_static(r#""2""#));
        assert!(is_known(&several, r#""2""#));
        assert!(!is_known(&HeaderMap::new(), r#""2""#));
    }

    #[test]
    fn a_range_is_for_who_has_the_rest_of_the_same_version() {
        const DATE: &str = "Sat, 21 Nov 2026 10:00:00 GMT";
        let table = [
            (r#""5""#, r#""5""#, true),
            (DATE, r#""5""#, true),
            (r#""6""#, r#""5""#, false),
            ("Sat, 21 Nov 2026 10:00:01 GMT", r#""5""#, false),
            (r#"W/"5""#, r#""5""#, false),
            (r#"W/"5""#, r#"W/"5""#, false),
            ("*", r#""5""#, false),
            ("", r#""5""#, false),
        ];
        for (value, tag, expected) in table {
            let version = headers([(header::ETAG, tag), (header::LAST_MODIFIED, DATE)]);
            let asked = headers([(header::IF_RANGE, value)]);
            assert_eq!(has_rest(&asked, &version), expected, "{value}");
            assert!(!has_rest(&asked, &HeaderMap::new()), "{value}");
        }
        assert!(has_rest(&HeaderMap::new(), &HeaderMap::new()));
    }
}
