//! HLS as players get it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use reqwest::{Client, Response, StatusCode, header};
use serde_json::{Value, json};
use tokio::{process::Command, task::JoinSet};

use crate::support::{
    hls_rules::{self, Media},
    http::{self, header_text},
    output::Output,
    peer::{Peer, Resource},
    probe::{self, track},
    server::{Server, Setup},
    source::Source,
    wait,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broadcast_plays_as_hls() {
    let server = Server::start();
    let source = Source::h264();
    let none = get(&server.url("/hls/stage/index.m3u8")).await;
    http::assert_problem(none, 404, "hls_unknown", "no output yet").await;
    let broadcast = Broadcast::start(&server, &source, json!({"type": "hls"})).await;

    let master = text(&broadcast.url).await.unwrap();
    let variants = hls_rules::multivariant(&master).unwrap();
    let seen: Vec<_> = variants.iter().map(|v| (&*v.uri, &*v.codecs)).collect();
    let [("v0/index.m3u8", best), ("audio/index.m3u8", "mp4a.40.2")] = *seen else {
        panic!("{master}");
    };
    assert!(
        best.starts_with("avc1.42") && best.ends_with(",mp4a.40.2"),
        "{best}"
    );
    assert!(variants[0].bandwidth > variants[1].bandwidth, "{master}");
    let url = resolve(&broadcast.url, "v0/index.m3u8");
    let first = wait::until("three segments", async || {
        let media = media(&url).await?;
        wait::check(media.segments.len() >= 3, format!("{media:?}")).map(|()| media)
    })
    .await;
    assert!(!first.ended);
    assert_headers(&broadcast.url, &url, &first).await;

    let (mut last, mut seen) = (first, 0);
    while seen < 12 {
        let next = wait::until("a newer playlist", async || {
            let next = media(&url).await?;
            wait::check(next != last, format!("{next:?}")).map(|()| next)
        })
        .await;
        hls_rules::follows(&last, &next).unwrap();
        let sound = media(&resolve(&broadcast.url, "audio/index.m3u8")).await;
        hls_rules::in_step(&next, &sound.unwrap()).unwrap();
        (last, seen) = (next, seen + 1);
    }

    broadcast.output.end().await;
    let ended = wait::until("the playlist's end", async || {
        let media = media(&url).await?;
        wait::check(media.ended, format!("{media:?}")).map(|()| media)
    })
    .await;
    hls_rules::follows(&last, &ended).unwrap();
    assert_plays(&broadcast.url, &ended).await;
    assert_numbered(&url, &ended).await;
    let sound = probe::probe(resolve(&broadcast.url, "audio/index.m3u8")).await;
    assert_eq!(sound.len(), 1, "the audio rendition has no picture");
    track(&sound, "aac").assert_monotonic();
}

/// Holds what ffmpeg makes of it against what is listed.
async fn assert_plays(url: &str, ended: &Media) {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.mp4");
    let copied = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-i", url, "-c", "copy"])
        .arg(&copy)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&copied.stderr);
    assert!(
        copied.status.success() && !said.contains("non mono"),
        "{said}"
    );
    for input in [url.as_ref(), copy.as_os_str()] {
        let tracks = probe::probe(input).await;
        for track in [track(&tracks, "h264"), track(&tracks, "aac")] {
            track.assert_monotonic();
            let (duration, listed) = (track.duration(), ended.duration());
            assert!(
                (duration - listed).abs() < 0.5,
                "{}: {duration} of {listed} s",
                track.codec
            );
            assert!(track.longest_gap() < 0.1, "{}", track.longest_gap());
        }
    }
    let (flashes, beeps) = probe::flashes_and_beeps(url).await;
    let offset = probe::offset(&flashes, &beeps);
    assert!(
        offset.abs() < 0.1,
        "sound is off by {offset} s; flashes {flashes:?}, beeps {beeps:?}"
    );
}

/// Fragments are numbered without a gap over all segments (ISO/IEC 14496-12, 8.8.5).
async fn assert_numbered(url: &str, listed: &Media) {
    let mut numbers = Vec::new();
    for segment in &listed.segments {
        let bytes = get(&resolve(url, &segment.uri)).await.bytes().await;
        let (bytes, mut at) = (bytes.unwrap(), 0);
        let number = |at| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        while at < bytes.len() {
            if &bytes[at + 4..at + 8] == b"moof" {
                // The number follows the header and version of the box `mfhd`, which comes first.
                numbers.push(number(at + 20));
            }
            at += number(at) as usize;
        }
    }
    let gapless = numbers.windows(2).all(|pair| pair[1] == pair[0] + 1);
    assert!(numbers.len() > 3 && gapless, "{numbers:?}");
}

async fn assert_headers(master: &str, url: &str, listed: &Media) {
    let part = &listed.segments.last().unwrap().parts[0];
    for (what, url, kind, begins) in [
        ("master", master.to_owned(), PLAYLIST, b"#EXT"),
        ("playlist", url.to_owned(), PLAYLIST, b"#EXT"),
        (
            "map",
            resolve(url, &listed.segments[1].map),
            "video/mp4",
            b"ftyp",
        ),
        (
            "segment",
            resolve(url, &listed.segments[1].uri),
            MEDIA,
            b"styp",
        ),
        ("part", resolve(url, &part.uri), MEDIA, b"styp"),
    ] {
        let response = get(&url).await;
        assert_eq!(response.status(), StatusCode::OK, "{what}");
        assert_eq!(header_text(&response, header::CONTENT_TYPE), kind, "{what}");
        let origin = header_text(&response, header::ACCESS_CONTROL_ALLOW_ORIGIN);
        assert_eq!(origin, "*", "{what}");
        let cache = header_text(&response, header::CACHE_CONTROL);
        let lasts = cache.split("max-age=").nth(1).unwrap();
        let lasts: u32 = lasts.split(',').next().unwrap().parse().unwrap();
        assert_eq!(lasts <= 6, kind == PLAYLIST, "{what}: {cache}");
        let tag = header_text(&response, header::ETAG);
        let bytes = response.bytes().await.unwrap();
        assert!(bytes.windows(4).take(9).any(|w| w == begins), "{what}");
        if kind != PLAYLIST {
            let again = client().get(&url).header(header::IF_NONE_MATCH, tag);
            let again = again.send().await.unwrap();
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{what}");
        }
    }
    for (what, uri) in [
        ("an invented segment", "seg-1.m4s"),
        ("nonsense", "nosuch.m4s"),
    ] {
        let none = get(&resolve(url, uri)).await;
        http::assert_problem(none, 404, "hls_unknown", what).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn players_are_told_of_each_part_at_once() {
    let server = Server::start();
    let source = Source::h264();
    let broadcast = Broadcast::start(&server, &source, json!({"type": "hls"})).await;
    let url = resolve(&broadcast.url, "v0/index.m3u8");
    let now = media(&url).await.unwrap();
    let next = now.next_sequence();
    for (query, code) in [
        (format!("_HLS_msn={}", next + 2), "bad_request"),
        (format!("_HLS_msn={next}&_HLS_part=30"), "bad_request"),
        ("_HLS_part=1".to_owned(), "bad_request"),
        ("_HLS_msn=soon".to_owned(), "bad_request"),
    ] {
        let refused = get(&format!("{url}?{query}")).await;
        http::assert_problem(refused, 400, code, &query).await;
    }
    let hint = resolve(&url, now.hint.as_ref().unwrap());
    let hinted = get(&hint).await;
    assert_eq!(
        hinted.status(),
        StatusCode::OK,
        "a hinted part is waited for"
    );

    let mut player = Player::start(url).await;
    let mut late = Vec::new();
    for _ in 0..20 {
        late.push(player.next().await);
    }
    late.sort_by(f64::total_cmp);
    println!("a part is there {:.0} ms after its end", late[10] * 1000.0);
    assert!(late[10] < 0.6, "parts come late: {late:?}");
    assert!(
        player
            .media
            .reports
            .iter()
            .any(|(uri, ..)| uri == "../audio/index.m3u8")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_players_wait_for_each_part_of_a_room() {
    let server = Server::start();
    let source = Source::h264();
    let broadcast = Broadcast::start(&server, &source, json!({"type": "hls"})).await;
    let url = resolve(&broadcast.url, "v0/index.m3u8");
    let client = client();
    let (before, start) = (cpu_seconds(server.pid()), Instant::now());
    let mut running = JoinSet::new();
    for _ in 0..PLAYERS {
        running.spawn(play(client.clone(), url.clone(), 20));
    }
    let mut late: Vec<f64> = running.join_all().await.into_iter().flatten().collect();
    let used = cpu_seconds(server.pid()) - before;
    let share = used / start.elapsed().as_secs_f64() * 100.0;
    late.sort_by(f64::total_cmp);
    let at = |percent: usize| late[late.len() * percent / 100] * 1000.0;
    println!(
        "{PLAYERS} players: parts {:.0} ms after their end at the median, {:.0} ms at 99 %; server {share:.0} % of \
         a core, {:.0} us a part and player",
        at(50),
        at(99),
        used * 1e6 / late.len() as f64
    );
    // The players are as many as the machine bears that plays all of them.
    assert!(at(50) < 2000.0, "{} ms", at(50));
}

/// Follows a playlist for some parts, with as little work as possible, and returns how late each was.
async fn play(client: Client, url: String, parts: usize) -> Vec<f64> {
    let mut late = Vec::new();
    let mut query = String::new();
    for _ in 0..parts {
        let response = client.get(format!("{url}{query}")).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{query}");
        let text = response.text().await.unwrap();
        let (mut ends_at, mut newest, mut next) = (0.0, "", None);
        for line in text.lines() {
            if let Some(date) = line.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:") {
                ends_at = unix_seconds(date);
            } else if let Some(part) = line.strip_prefix("#EXT-X-PART:DURATION=") {
                let (lasts, rest) = part.split_once(',').unwrap();
                ends_at += lasts.parse::<f64>().unwrap();
                newest = rest.split('"').nth(1).unwrap();
            } else if let Some(hint) = line
                .split_once("URI=\"part-")
                .filter(|_| line.contains("HINT"))
            {
                next = hint
                    .1
                    .split_once(".m4s")
                    .and_then(|(place, _)| place.split_once('.'));
            }
        }
        let (segment, part) = next.unwrap();
        let media = client.get(resolve(&url, newest)).send().await.unwrap();
        assert!(!media.bytes().await.unwrap().is_empty());
        if !query.is_empty() {
            late.push(unix_now() - ends_at);
        }
        query = format!("?_HLS_msn={segment}&_HLS_part={part}");
    }
    late
}

fn unix_now() -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_broadcast_needs_a_token_until_it_expires() {
    let server = Server::start();
    let source = Source::h264();
    let private = json!({"type": "hls", "private": true});
    let broadcast = Broadcast::start(&server, &source, private).await;
    let path = server.url("/hls/stage/");
    let long = broadcast.token(3600).await;
    let short = broadcast.token(3).await;
    let url = server.url(long["path"].as_str().unwrap());
    wait::until("it plays with a token", async || text(&url).await).await;

    let name = |token: &Value| token["token"].as_str().unwrap().to_owned();
    let other = long["token"].as_str().unwrap().replace('.', "a");
    for (what, url, status, code) in [
        (
            "no token",
            format!("{path}index.m3u8"),
            401,
            "token_missing",
        ),
        (
            "a child",
            format!("{path}v0/index.m3u8"),
            401,
            "token_missing",
        ),
        (
            "another",
            format!("{path}~{other}/index.m3u8"),
            403,
            "token_invalid",
        ),
    ] {
        http::assert_problem(get(&url).await, status, code, what).await;
    }
    // Playlists lead to what the token opens, also when it came in the query.
    let asked = format!("{path}index.m3u8?token={}", name(&long));
    let tracks = probe::probe(ended_early(&asked, &broadcast).await).await;
    track(&tracks, "h264").assert_monotonic();
    let gone = wait::until("the token expires", async || {
        let gone = get(&server.url(short["path"].as_str().unwrap())).await;
        let status = gone.status();
        wait::check(status == StatusCode::FORBIDDEN, status).map(|()| gone)
    })
    .await;
    http::assert_problem(gone, 403, "token_expired", "an expired token").await;
    let media = text(&resolve(&url, "v0/index.m3u8")).await.unwrap();
    let segment = media.lines().find(|line| line.starts_with("seg-")).unwrap();
    let there = get(&resolve(&url, &format!("v0/{segment}"))).await;
    let cache = header_text(&there, header::CACHE_CONTROL);
    let lasts: u32 = cache.split(['=', ',']).nth(2).unwrap().parse().unwrap();
    assert!(
        lasts <= 3600,
        "no cache keeps it longer than the token: {cache}"
    );

    let body = json!({"valid_for_s": 60});
    let request = client()
        .post(server.url("/api/rooms/stage/hls/tokens"))
        .json(&body);
    assert_eq!(
        request.send().await.unwrap().status(),
        StatusCode::UNAUTHORIZED
    );
}

/// Ends the output, so that a probe of the playlist comes to an end, and returns the playlist.
async fn ended_early<'a>(url: &'a str, broadcast: &Broadcast<'_>) -> &'a str {
    broadcast.output.end().await;
    url
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn players_may_rewind_also_past_a_worker_that_died() {
    let config = "[egress]\nkeyframe_interval_ms = 1000\n[egress.hls]\nsegment_ms = 1000\n\
                  window_segments = 4\ndvr_seconds = 60";
    let server = Setup::new().config(config).start();
    let source = Source::h264();
    let broadcast = Broadcast::start(&server, &source, json!({"type": "hls"})).await;
    let url = resolve(&broadcast.url, "v0/index.m3u8");
    let mut all: BTreeMap<u64, String> = BTreeMap::new();
    let mut watch = async |most: usize| {
        wait::within(Duration::from_secs(40), "the window grows", async || {
            let media = media(&url).await?;
            for (segment, sequence) in media.segments.iter().zip(media.sequence..) {
                all.insert(sequence, segment.uri.clone());
            }
            let count = media.segments.len();
            wait::check(count >= most, format!("{count} segments")).map(|()| media)
        })
        .await
    };
    let before = watch(10).await;
    let pid = broadcast.output.job().await["worker_pid"].as_u64().unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    let after = watch(before.segments.len() + 6).await;
    assert_eq!(
        after.sequence, before.sequence,
        "nothing has left the window"
    );
    let breaks = after.segments.iter().filter(|s| s.discontinuity).count();
    assert_eq!(breaks, 1, "{after:?}");
    for segment in &after.segments {
        let response = get(&resolve(&url, &segment.uri)).await;
        assert_eq!(response.status(), StatusCode::OK, "{}", segment.uri);
    }
    let folder = server.data_dir().join("egress/rewind");
    let kept = files(&folder);
    assert!(kept > 0, "old segments are on disk");
    let update = text(&format!("{url}?_HLS_skip=YES")).await.unwrap();
    let update = hls_rules::parse(&update).unwrap();
    if after.duration() > update.skip_until + 2.0 {
        assert!(update.skipped > 0, "{update:?}");
    }
    assert_eq!(update.sequence, after.sequence);
    let (host, path) = (broadcast.host.clone(), broadcast.output.path());
    drop(broadcast);
    let setup = server.kill();
    let server = setup.start();
    wait::until("nothing is left of the last run", async || {
        let left = files(&server.data_dir().join("egress/rewind"));
        wait::check(left < kept, left)
    })
    .await;

    let broadcaster = Peer::publisher(&server, &source).await;
    broadcaster.whip(&server, "stage", &host).await;
    let output = Output::known(&server, &host, &path);
    output.destination(0, "live").await;
    let url = server.url("/hls/stage/v0/index.m3u8");
    let again = wait::until("a segment", async || {
        let media = media(&url).await?;
        let is_there = !media.segments.is_empty();
        wait::check(is_there, "none".to_owned()).map(|()| media)
    })
    .await;
    assert!(again.sequence >= after.next_sequence(), "{again:?}");
}

fn files(folder: &std::path::Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    entries
        .map(|entry| entry.unwrap().path())
        .map(|path| if path.is_dir() { files(&path) } else { 1 })
        .sum()
}

/// A broadcast with an HLS output that is live.
struct Broadcast<'a> {
    server: &'a Server,
    host: String,
    url: String,
    output: Output<'a>,
    _broadcaster: (Peer, Resource),
}

impl<'a> Broadcast<'a> {
    async fn start(server: &'a Server, source: &Source, destination: Value) -> Self {
        let host = server.host("stage");
        let broadcaster = Peer::publisher(server, source).await;
        let resource = broadcaster.whip(server, "stage", &host).await;
        let output = Output::start(server, "stage", &host, &json!([destination])).await;
        output.destination(0, "live").await;
        Self {
            server,
            host,
            url: server.url("/hls/stage/index.m3u8"),
            output,
            _broadcaster: (broadcaster, resource),
        }
    }

    async fn token(&self, valid_for_s: u64) -> Value {
        let request = client()
            .post(self.server.url("/api/rooms/stage/hls/tokens"))
            .bearer_auth(&self.host)
            .json(&json!({"valid_for_s": valid_for_s}));
        http::json(request.send().await.unwrap(), StatusCode::CREATED).await
    }
}

/// Reloads a playlist as low-latency players do: waits for the next part, and gets it.
struct Player {
    client: Client,
    url: String,
    media: Media,
}

impl Player {
    async fn start(url: String) -> Self {
        let client = client();
        let media = media(&url).await.unwrap();
        Self { client, url, media }
    }

    /// Returns how long after the end of the newest part it is there, in seconds.
    async fn next(&mut self) -> f64 {
        let (sequence, part) = (self.media.next_sequence(), self.media.trailing.len());
        let url = format!("{}?_HLS_msn={sequence}&_HLS_part={part}", self.url);
        let response = self.client.get(&url).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{url}");
        let text = response.text().await.unwrap();
        let media = hls_rules::parse(&text).unwrap_or_else(|e| panic!("{e} in\n{text}"));
        hls_rules::follows(&self.media, &media).unwrap();
        let newer = (media.next_sequence(), media.trailing.len()) > (sequence, part);
        assert!(newer, "{url} did not wait:\n{text}");
        self.media = media;
        let (part, ends_at) = self.newest();
        let part = self.client.get(resolve(&self.url, &part)).send().await;
        let part = part.unwrap();
        assert_eq!(part.status(), StatusCode::OK);
        assert!(!part.bytes().await.unwrap().is_empty());
        unix_now() - ends_at
    }

    /// Returns the newest part, and when it ended by the dates in the playlist.
    fn newest(&self) -> (String, f64) {
        let last = self.media.segments.last().unwrap();
        let end = unix_seconds(&last.date) + last.duration;
        let trailing = &self.media.trailing;
        match trailing.last() {
            Some(part) => {
                let lasts: f64 = trailing.iter().map(|part| part.duration).sum();
                (part.uri.clone(), end + lasts)
            }
            None => (last.parts.last().unwrap().uri.clone(), end),
        }
    }
}

/// Reads `2026-11-21T09:37:09.123Z`.
fn unix_seconds(date: &str) -> f64 {
    let number = |from: usize, to: usize| date[from..to].parse::<i64>().unwrap();
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    let shifted = if month > 2 { year } else { year - 1 };
    let month = (month + 9) % 12;
    let days = 365 * shifted + shifted / 4 - shifted / 100
        + shifted / 400
        + (month * 306 + 5) / 10
        + (day - 1)
        - 719_468;
    let seconds = days * 86_400 + number(11, 13) * 3600 + number(14, 16) * 60;
    seconds as f64 + date[17..23].parse::<f64>().unwrap()
}

/// Returns the processor time that a process has used.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

fn client() -> Client {
    http::client()
}

async fn get(url: &str) -> Response {
    let request = client()
        .get(url)
        .header(header::ORIGIN, "https://player.example");
    let request = request.timeout(Duration::from_secs(15));
    request.send().await.unwrap()
}

async fn text(url: &str) -> Result<String, String> {
    let response = get(url).await;
    let status = response.status();
    let text = response.text().await.unwrap();
    if status == StatusCode::OK {
        Ok(text)
    } else {
        Err(format!("{status}: {text}"))
    }
}

async fn media(url: &str) -> Result<Media, String> {
    let text = text(url).await?;
    hls_rules::parse(&text).map_err(|rule| format!("{rule} in:\n{text}"))
}

fn resolve(playlist: &str, uri: &str) -> String {
    let url = reqwest::Url::parse(playlist).unwrap();
    url.join(uri).unwrap().to_string()
}

const PLAYLIST: &str = "application/vnd.apple.mpegurl";
const MEDIA: &str = "video/iso.segment";
const PLAYERS: usize = 200;

#[test]
fn dates_are_read() {
    assert!((unix_seconds("2023-11-14T22:13:20.123Z") - 1_700_000_000.123).abs() < 1e-6);
    assert!((unix_seconds("2000-02-29T00:00:00.000Z") - 951_782_400.0).abs() < 1e-6);
}

#[test]
fn the_rules_are_strict() {
    let good = "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:2\n\
        #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=0.9,CAN-SKIP-UNTIL=12.0\n\
        #EXT-X-PART-INF:PART-TARGET=0.3\n#EXT-X-MEDIA-SEQUENCE:3\n#EXT-X-DISCONTINUITY-SEQUENCE:0\n\
        #EXT-X-MAP:URI=\"i.mp4\"\n#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:20.123Z\n\
        #EXT-X-PART:DURATION=0.29,URI=\"p0\",INDEPENDENT=YES\n#EXT-X-PART:DURATION=0.2,URI=\"p1\"\n\
        #EXTINF:0.49,\n3.m4s\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"p2\"\n";
    let media = hls_rules::parse(good).unwrap();
    assert_eq!(
        (media.sequence, media.segments.len(), media.ended),
        (3, 1, false)
    );
    for (from, to) in [
        ("#EXTM3U\n", ""),
        (":9\n", ":3\n"),
        ("#EXT-X-MAP:URI=\"i.mp4\"\n", ""),
        ("#EXTINF:0.49,\n", ""),
        ("0.49", "2.6"),
        ("3.m4s\n", ""),
        ("#EXTINF", "#EXT-NEW"),
        ("0.29", "0.31"),
        ("0.29", "0.25"),
        (",INDEPENDENT=YES", ""),
        ("PART-HOLD-BACK=0.9", "PART-HOLD-BACK=0.8"),
        ("CAN-SKIP-UNTIL=12", "CAN-SKIP-UNTIL=11"),
        ("CAN-BLOCK-RELOAD=YES,", ""),
        ("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"p2\"\n", ""),
    ] {
        assert!(
            hls_rules::parse(&good.replace(from, to)).is_err(),
            "{from} -> {to}"
        );
    }
}

#[test]
fn the_rules_of_variants_are_strict() {
    let good = "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-INDEPENDENT-SEGMENTS\n\
        #EXT-X-STREAM-INF:BANDWIDTH=9,AVERAGE-BANDWIDTH=8,CODECS=\"avc1.42c01f,mp4a.40.2\",\
        RESOLUTION=1280x720,FRAME-RATE=30.044\nv0/i\n\
        #EXT-X-STREAM-INF:BANDWIDTH=2,AVERAGE-BANDWIDTH=1,CODECS=\"mp4a.40.2\"\na/i\n";
    let variants = hls_rules::multivariant(good).unwrap();
    assert_eq!(variants.len(), 2);
    for (from, to) in [
        ("#EXTM3U\n", ""),
        ("BANDWIDTH=9", "BANDWIDTH=7"),
        (",AVERAGE-BANDWIDTH=8", ""),
        ("avc1.42c01f,", ""),
        (",RESOLUTION=1280x720", ""),
        (",FRAME-RATE=30.044", ""),
        ("30.044", "30.0441"),
        ("v0/i\n", ""),
        ("v0/i", "a/i"),
        ("#EXT-X-VERSION:9", "#EXT-X-TARGETDURATION:2"),
    ] {
        let bad = good.replace(from, to);
        assert!(hls_rules::multivariant(&bad).is_err(), "{from} -> {to}");
    }
}
