//! HLS as players get it.

use std::time::Duration;

use reqwest::{Response, StatusCode, header};
use serde_json::json;

use crate::support::{
    http::{self, header_text},
    output::Output,
    peer::Peer,
    probe::{self, track},
    server::Server,
    source::Source,
    wait,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broadcast_plays_as_hls() {
    let server = Server::start();
    let source = Source::h264();
    let host = server.host("stage");
    let url = server.url("/hls/stage/index.m3u8");
    let none = get(&url).await;
    http::assert_problem(none, 404, "hls_unknown", "no output yet").await;

    let broadcaster = Peer::publisher(&server, &source).await;
    broadcaster.whip(&server, "stage", &host).await;
    let output = Output::start(&server, "stage", &host, &json!([{"type": "hls"}])).await;
    output.destination(0, "live").await;
    let first = wait::until("three segments", async || {
        let playlist = playlist(&url).await?;
        wait::check(playlist.segments.len() >= 3, format!("{playlist:?}")).map(|()| playlist)
    })
    .await;
    assert!(!first.ended);

    let response = get(&url).await;
    assert_eq!(
        header_text(&response, header::CONTENT_TYPE),
        "application/vnd.apple.mpegurl"
    );
    assert_eq!(
        header_text(&response, header::ACCESS_CONTROL_ALLOW_ORIGIN),
        "*"
    );
    let cache = header_text(&response, header::CACHE_CONTROL);
    assert!(short_lived(&cache), "a live playlist changes: {cache}");
    let segment = resolve(&url, &first.segments[1].uri);
    for (what, url) in [
        ("map", resolve(&url, &first.map)),
        ("segment", segment.clone()),
    ] {
        let response = get(&url).await;
        assert_eq!(response.status(), StatusCode::OK, "{what}");
        let kind = header_text(&response, header::CONTENT_TYPE);
        assert!(
            kind == "video/mp4" || kind == "video/iso.segment",
            "{what}: {kind}"
        );
        assert_eq!(
            header_text(&response, header::ACCESS_CONTROL_ALLOW_ORIGIN),
            "*",
            "{what}"
        );
        let cache = header_text(&response, header::CACHE_CONTROL);
        assert!(
            cache.contains("max-age") && !short_lived(&cache),
            "{what} never changes: {cache}"
        );
        let bytes = response.bytes().await.unwrap();
        let kind: &[u8] = if what == "map" { b"ftyp" } else { b"moof" };
        assert!(
            bytes.windows(4).any(|w| w == kind),
            "{what} has no {}",
            kind.escape_ascii()
        );
    }
    http::assert_problem(
        get(&resolve(&url, "nosuch.m4s")).await,
        404,
        "hls_unknown",
        "an invented segment",
    )
    .await;

    let (mut last, mut seen) = (first, 0);
    while seen < 2 {
        let next = wait::until("a newer playlist", async || {
            let next = playlist(&url).await?;
            wait::check(next != last, format!("{next:?}")).map(|()| next)
        })
        .await;
        assert_follows(&last, &next);
        (last, seen) = (next, seen + 1);
    }

    output.end().await;
    let ended = wait::until("the playlist's end", async || {
        let playlist = playlist(&url).await?;
        wait::check(playlist.ended, format!("{playlist:?}")).map(|()| playlist)
    })
    .await;
    assert_follows(&last, &ended);
    let tracks = probe::probe(&url).await;
    let (video, audio) = (track(&tracks, "h264"), track(&tracks, "aac"));
    let listed: f64 = ended.segments.iter().map(|s| s.duration).sum();
    for track in [video, audio] {
        track.assert_monotonic();
        let duration = track.duration();
        assert!(
            (duration - listed).abs() < 0.5,
            "{}: {duration} of {listed} s",
            track.codec
        );
    }
    let (flashes, beeps) = probe::flashes_and_beeps(&url).await;
    let offset = probe::offset(&flashes, &beeps);
    assert!(
        offset.abs() < 0.1,
        "sound is off by {offset} s; flashes {flashes:?}, beeps {beeps:?}"
    );
}

/// A parsed media playlist.
#[derive(Clone, Debug, PartialEq)]
struct Playlist {
    target: f64,
    sequence: u64,
    map: String,
    segments: Vec<Segment>,
    ended: bool,
}

#[derive(Clone, Debug, PartialEq)]
struct Segment {
    uri: String,
    duration: f64,
}

/// A later playlist of the same broadcast: nothing listed changes, nothing is skipped.
fn assert_follows(before: &Playlist, after: &Playlist) {
    assert!(
        after.sequence >= before.sequence,
        "{} after {}",
        after.sequence,
        before.sequence
    );
    assert!(
        (after.target - before.target).abs() < f64::EPSILON,
        "the target duration is constant"
    );
    let left = usize::try_from(after.sequence - before.sequence).unwrap();
    assert!(left <= before.segments.len(), "segments were skipped");
    for (kept, again) in before.segments[left..].iter().zip(&after.segments) {
        assert_eq!(kept, again, "a listed segment changed");
    }
}

async fn get(url: &str) -> Response {
    let request = http::client()
        .get(url)
        .header(header::ORIGIN, "https://player.example");
    request
        .timeout(Duration::from_secs(10))
        .send()
        .await
        .unwrap()
}

async fn playlist(url: &str) -> Result<Playlist, String> {
    let response = get(url).await;
    let status = response.status();
    let text = response.text().await.unwrap();
    if status != StatusCode::OK {
        return Err(format!("{status}: {text}"));
    }
    parse(&text).map_err(|rule| format!("{rule} in:\n{text}"))
}

/// Strict: an unknown tag, a tag out of place or a broken rule of RFC 8216 is an error.
fn parse(text: &str) -> Result<Playlist, String> {
    let mut lines = text.lines();
    if lines.next() != Some("#EXTM3U") {
        return Err("the first line is #EXTM3U".into());
    }
    let mut playlist = Playlist {
        target: 0.0,
        sequence: 0,
        map: String::new(),
        segments: Vec::new(),
        ended: false,
    };
    let (mut version, mut duration) = (None, None);
    for line in lines {
        let (tag, value) = line.split_once(':').unwrap_or((line, ""));
        let number = || {
            value
                .parse::<f64>()
                .map_err(|_| format!("{line}: a number is due"))
        };
        match tag {
            _ if playlist.ended => return Err(format!("{line} after the end")),
            "#EXT-X-VERSION" if version.is_none() => version = Some(number()?),
            "#EXT-X-TARGETDURATION" if playlist.target == 0.0 && number()?.fract() == 0.0 => {
                playlist.target = number()?;
            }
            "#EXT-X-MEDIA-SEQUENCE" if playlist.segments.is_empty() => {
                playlist.sequence = value.parse().map_err(|_| line.to_owned())?;
            }
            "#EXT-X-MAP" if playlist.map.is_empty() => {
                let uri = value
                    .split_once("URI=\"")
                    .and_then(|(_, rest)| rest.split_once('"'));
                uri.ok_or(line)?.0.clone_into(&mut playlist.map);
            }
            "#EXTINF" if duration.is_none() => {
                let seconds = value.split(',').next().unwrap_or_default();
                duration = Some(seconds.parse::<f64>().map_err(|_| line.to_owned())?);
            }
            "#EXT-X-ENDLIST" => playlist.ended = true,
            "#EXT-X-INDEPENDENT-SEGMENTS"
            | "#EXT-X-PROGRAM-DATE-TIME"
            | "#EXT-X-START"
            | "#EXT-X-DISCONTINUITY"
            | "#EXT-X-DISCONTINUITY-SEQUENCE" => {}
            _ if !line.is_empty() && !line.starts_with('#') => {
                let duration = duration.take().ok_or("a segment without EXTINF")?;
                playlist.segments.push(Segment {
                    uri: line.to_owned(),
                    duration,
                });
            }
            _ => return Err(format!("{line} is unknown or out of place")),
        }
    }
    let too_long = playlist
        .segments
        .iter()
        .find(|s| s.duration.round() > playlist.target);
    match version {
        _ if playlist.target == 0.0 => Err("no EXT-X-TARGETDURATION".into()),
        _ if duration.is_some() => Err("EXTINF without a segment".into()),
        _ if too_long.is_some() => Err(format!("{too_long:?} is longer than the target duration")),
        _ if playlist.map.is_empty() => Err("fMP4 without EXT-X-MAP".into()),
        Some(6.0..) => Ok(playlist),
        version => Err(format!("version {version:?}: fMP4 needs 6")),
    }
}

fn resolve(playlist: &str, uri: &str) -> String {
    match uri.split_once("://") {
        Some(_) => uri.to_owned(),
        None if uri.starts_with('/') => {
            let host = playlist
                .splitn(4, '/')
                .take(3)
                .collect::<Vec<_>>()
                .join("/");
            host + uri
        }
        None => format!("{}/{uri}", playlist.rsplit_once('/').unwrap().0),
    }
}

/// No longer than a few seconds.
fn short_lived(cache_control: &str) -> bool {
    let max_age = cache_control
        .split(',')
        .filter_map(|part| part.trim().strip_prefix("max-age=")?.parse::<u32>().ok())
        .max();
    cache_control.contains("no-cache")
        || cache_control.contains("no-store")
        || max_age.is_some_and(|seconds| seconds <= 6)
}

#[test]
fn the_parser_is_strict() {
    let good = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:3\n\
        #EXT-X-MAP:URI=\"i.mp4\"\n#EXTINF:2.000,\n3.m4s\n";
    let playlist = parse(good).unwrap();
    assert_eq!(
        (playlist.sequence, playlist.segments.len(), playlist.ended),
        (3, 1, false)
    );
    for (from, to) in [
        ("#EXTM3U\n", ""),
        (":7", ":3"),
        ("#EXT-X-MAP:URI=\"i.mp4\"\n", ""),
        ("#EXTINF:2.000,\n", ""),
        ("2.000", "2.600"),
        ("3.m4s\n", ""),
        ("#EXTINF", "#EXT-NEW"),
    ] {
        assert!(parse(&good.replace(from, to)).is_err(), "{from} -> {to}");
    }
}
