//! Real workers record a real stream.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use axum::http::{HeaderMap, Request, StatusCode};
use egress::{
    Config, RecordingConfig,
    status::{DestinationState, FailureCode, Job, Recording, RecordingList, RecordingState},
};
use serde_json::json;
use tokio::time::sleep;

use crate::{
    delivery::assert_in_step,
    support::{Probe, broadcaster::Sends, output, stage::Stage},
};

const MB: u64 = 1 << 20;
const RECORDINGS: &str = "/api/rooms/room/recordings";

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_is_finished_listed_downloaded_and_deleted() {
    let stage = Stage::new();
    let _broadcaster = stage.broadcast(Sends::default());
    let job = stage.start(json!([{"type": "recording"}])).await;
    stage.wait_live(&job).await;
    stage.plays(&job, 0, 5).await;
    let [during] = recordings(&stage).await.try_into().unwrap();
    assert_eq!(during.state, RecordingState::Recording);
    assert!(
        during.files.is_empty() && during.duration_ms > 3000,
        "{during:?}"
    );
    let path = format!("{RECORDINGS}/{}", during.id);
    let (status, _, body) = stage.request("DELETE", &path, "").await;
    assert_eq!(
        (status, code(&body)),
        (StatusCode::CONFLICT, "recording_active".into())
    );
    stage.end(&job).await;

    let told = tokio::time::timeout(secs(20), stage.service.recordings_ready()).await;
    let told = told.expect("recording.ready is told");
    let [recording] = recordings(&stage).await.try_into().unwrap();
    assert_eq!(told[0].recording.id, recording.id);
    assert_eq!(
        (recording.state, recording.code),
        (RecordingState::Ready, None)
    );
    assert_eq!((recording.width, recording.height), (Some(640), Some(360)));
    let file = download(&stage, &recording.files[0].url).await;
    assert_fast_start(&file);
    let probe = Probe::with_offsets(&file);
    probe.assert_sound(&["aac", "h264"]);
    assert!(probe.length() > 4.5, "{}", probe.length());
    assert!(probe.longest_gap() < 0.05, "{}", probe.longest_gap());
    assert!(probe.times.iter().all(|t| t[0] < 0.05), "starts at 0");
    assert_in_step(&probe);
    let folder = folder_of(&stage, &recording.id);
    assert!(
        !names(&folder).iter().any(|name| name.starts_with("raw-")),
        "{:?}",
        names(&folder)
    );

    assert_ranges(&stage, &recording).await;
    assert_pictures(&stage, &recording).await;
    let (status, _, _) = stage.request("DELETE", &path, "").await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert!(recordings(&stage).await.is_empty());
    let (status, _, body) = stage.request("GET", &path, "").await;
    assert_eq!(
        (status, code(&body)),
        (StatusCode::NOT_FOUND, "recording_unknown".into())
    );
    let job_folder = folder.parent().unwrap();
    let gone = || !job_folder.exists() && names(job_folder.parent().unwrap()).is_empty();
    within(secs(5), "the files are gone", gone).await;
    stage.stop().await;
}

async fn assert_ranges(stage: &Stage, recording: &Recording) {
    let url = &recording.files[0].url;
    let request = Request::builder().uri(url).header("range", "bytes=4-7");
    let (status, headers, body) = stage.send(request.body("".into()).unwrap()).await;
    assert_eq!(status, StatusCode::PARTIAL_CONTENT);
    assert_eq!(&body[..], b"ftyp");
    assert_eq!(
        headers["content-range"],
        format!("bytes 4-7/{}", recording.files[0].bytes)
    );
    assert_eq!(headers["content-type"], "video/mp4");
    for whole in ["bytes=0-0,5-9", "items=0-1", "bytes=abc"] {
        let request = Request::builder().uri(url).header("range", whole);
        let (status, _, body) = stage.send(request.body("".into()).unwrap()).await;
        let length = u64::try_from(body.len()).unwrap();
        assert_eq!((status, length), (StatusCode::OK, recording.files[0].bytes));
    }
    assert_rest(stage, url, &headers).await;
    for query in ["download", "download=1"] {
        let (_, headers, _) = stage.request("GET", &format!("{url}?{query}"), "").await;
        assert_eq!(headers["content-disposition"], "attachment");
    }
    let mut forged = url.clone().into_bytes();
    let at = url.find(".mp4").unwrap() - 60;
    forged[at] = if forged[at] == b'x' { b'y' } else { b'x' };
    for wrong in [
        String::from_utf8(forged).unwrap(),
        url.replace(&recording.id, "rec_1_1"),
        url.rsplit_once('/').unwrap().0.to_owned() + "/recording.json",
    ] {
        let (status, _, _) = stage.request("GET", &wrong, "").await;
        let refused = matches!(status, StatusCode::FORBIDDEN | StatusCode::NOT_FOUND);
        assert!(refused, "{wrong}: {status}");
    }
}

/// A download that was broken off goes on only with the file that it began with.
async fn assert_rest(stage: &Stage, url: &str, version: &HeaderMap) {
    let tag = version["etag"].to_str().unwrap();
    let weak = format!("W/{tag}");
    let table = [
        (tag, StatusCode::PARTIAL_CONTENT),
        (
            version["last-modified"].to_str().unwrap(),
            StatusCode::PARTIAL_CONTENT,
        ),
        ("\"another\"", StatusCode::OK),
        (&weak, StatusCode::OK),
        ("Mon, 01 Jan 2024 00:00:00 GMT", StatusCode::OK),
    ];
    for (validator, expected) in table {
        let request = Request::builder().uri(url).header("range", "bytes=4-7");
        let request = request.header("if-range", validator);
        let (status, headers, body) = stage.send(request.body("".into()).unwrap()).await;
        assert_eq!(status, expected, "{validator}");
        let length = headers["content-length"].to_str().unwrap();
        assert_eq!(length, body.len().to_string(), "{validator}");
        assert_eq!(body.len() == 4, expected == StatusCode::PARTIAL_CONTENT);
    }
}

/// The poster shows the broadcast, and the list of small pictures points into a sheet of that size.
async fn assert_pictures(stage: &Stage, recording: &Recording) {
    let poster = download(stage, recording.poster.as_ref().unwrap()).await;
    assert_eq!(dimensions(&poster), "1280,720");
    let url = recording.files[0].sprite.as_ref().unwrap();
    let (_, headers, list) = stage.request("GET", url, "").await;
    assert_eq!(headers["content-type"], "text/vtt");
    let list = String::from_utf8(list.to_vec()).unwrap();
    assert!(list.contains("#xywh=0,0,160,90\n"), "{list}");
    let sheet = list
        .lines()
        .find_map(|line| line.split_once('#'))
        .unwrap()
        .0;
    let sheet = format!("{}/{sheet}", url.rsplit_once('/').unwrap().0);
    let sheet = download(stage, &sheet).await;
    let cues = list.matches("-->").count();
    assert_eq!(dimensions(&sheet), format!("{},90", 160 * cues));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_length_join_without_a_gap() {
    let stage = Stage::new();
    let _broadcaster = stage.broadcast(Sends::default());
    let options = json!([{"type": "recording", "segment_seconds": 10}]);
    let job = stage.start(options).await;
    stage.wait_live(&job).await;
    stage.plays(&job, 0, 14).await;
    stage.end(&job).await;
    let recording = ready(&stage).await;
    assert_eq!(recording.files.len(), 2, "{recording:?}");
    for pair in recording.files.windows(2) {
        let end = pair[0].started_at_ms + pair[0].duration_ms;
        // Sound is cut at whole frames of 21 ms.
        assert!(end.abs_diff(pair[1].started_at_ms) <= 22, "{pair:?}");
    }
    let mut list = String::new();
    for file in &recording.files {
        let file = download(&stage, &file.url).await;
        assert_fast_start(&file);
        let probe = Probe::with_offsets(&file);
        probe.assert_sound(&["aac", "h264"]);
        assert!(probe.longest_gap() < 0.05, "{}", probe.longest_gap());
        list += &format!("file '{}'\n", file.display());
    }
    // The pictures of all files together are those of the broadcast: none is missing, none comes twice.
    let whole = stage.path("joined").join("whole.mkv");
    let files = whole.with_extension("txt");
    fs::write(&files, list).unwrap();
    let (files, whole_name) = (files.to_str().unwrap(), whole.to_str().unwrap());
    output(
        "ffmpeg",
        &[
            "-v", "error", "-f", "concat", "-safe", "0", "-i", files, "-c", "copy", whole_name,
        ],
    );
    let joined = Probe::with_offsets(&whole);
    assert!(joined.longest_gap() < 0.07, "{}", joined.longest_gap());
    assert!(joined.length() > 13.0, "{}", joined.length());
    assert_in_step(&joined);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_size_join_without_a_gap() {
    let stage = Stage::new();
    let _broadcaster = stage.broadcast(Sends {
        heavy: true,
        ..Sends::default()
    });
    let options = json!([{"type": "recording", "segment_mb": 4}]);
    let job = stage.start(options).await;
    let enough = |job: &Job| job.destinations[0].bytes > 18 * MB;
    stage.wait_for(&job, secs(60), enough).await;
    stage.end(&job).await;
    let recording = ready(&stage).await;
    let (_, whole) = recording.files.split_last().unwrap();
    assert!(whole.len() >= 2, "{recording:?}");
    for file in whole {
        // What is between two keyframes stays together: two seconds of 14 Mbit/s.
        let range = 4 * MB - MB / 4..9 * MB;
        assert!(range.contains(&file.bytes), "{file:?}");
        let file = download(&stage, &file.url).await;
        assert_fast_start(&file);
        Probe::of(&file).assert_sound(&["aac", "h264"]);
    }
    for pair in recording.files.windows(2) {
        let end = pair[0].started_at_ms + pair[0].duration_ms;
        // Sound is cut at whole frames of 21 ms; on a busy machine some of it is written before the pictures.
        let start = pair[1].started_at_ms;
        assert!(start <= end + 22 && end <= start + 500, "{pair:?}");
    }
    stage.stop().await;
}

/// `FANLIGHT_TEST_KILLS=50 cargo test -p egress --test outputs recordings::a_killed -- --nocapture` for a long run.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_loses_little_and_the_recording_goes_on() {
    let kills = std::env::var("FANLIGHT_TEST_KILLS").map_or(3, |kills| kills.parse().unwrap());
    let mut random = seed();
    let stage = Stage::new();
    let _broadcaster = stage.broadcast(Sends::default());
    let job = stage.start(json!([{"type": "recording"}])).await;
    stage.wait_live(&job).await;
    let started = Instant::now();
    let mut lost = Vec::new();
    for _ in 0..kills {
        stage.wait_live(&job).await;
        sleep(Duration::from_millis(1500 + random.next() % 2500)).await;
        let killed = stage.job(&job).await.worker_pid.unwrap();
        output("kill", &["-9", &killed.to_string()]);
        let killed_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let folder = folder_of(&stage, &id_of(&job));
        let end = end_of_newest(&folder, &stage.path("copies"));
        lost.push((killed_at.as_secs_f64() - end).max(0.0));
        let gone = |job: &Job| job.worker_pid.is_some_and(|pid| pid != killed);
        stage.wait_for(&job, secs(20), gone).await;
    }
    stage.wait_live(&job).await;
    stage.plays(&job, 0, 2).await;
    let recorded_for = started.elapsed().as_secs_f64();
    stage.end(&job).await;
    let recording = ready(&stage).await;
    println!("{kills} kills; lost, s: {lost:.2?}");
    assert!(lost.iter().all(|lost| *lost <= 2.0), "{lost:?}");
    assert_eq!(recording.files.len(), 1, "one movie: {recording:?}");
    let file = download(&stage, &recording.files[0].url).await;
    assert_fast_start(&file);
    let probe = Probe::with_offsets(&file);
    probe.assert_sound(&["aac", "h264"]);
    println!(
        "{recorded_for:.1} s, file {:.1} s, longest gap {:.2} s",
        probe.length(),
        probe.longest_gap()
    );
    assert!(probe.longest_gap() < 6.0, "{}", probe.longest_gap());
    // The gaps are in it: nothing else is missing.
    assert!(probe.length() > recorded_for - 1.0, "{}", probe.length());
    assert_in_step(&probe);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_a_recording_and_ends_one_cleanly() {
    // A disk that nobody else fills or empties meanwhile.
    let place = tempfile::tempdir_in("/dev/shm").unwrap();
    let recording = |min_free_mb| RecordingConfig {
        folder: Some(place.path().to_owned()),
        min_free_mb,
        ..RecordingConfig::default()
    };
    let config = |min_free_mb| Config {
        recording: recording(min_free_mb),
        ..Config::default()
    };
    let stage = Stage::with_config(config(1 << 30));
    let body = json!({"destinations": [{"type": "recording"}]}).to_string();
    let (status, _, body) = stage.request("POST", "/api/rooms/room/egress", body).await;
    assert_eq!(
        (status, code(&body)),
        (StatusCode::SERVICE_UNAVAILABLE, "disk_full".into())
    );
    stage.stop().await;

    let stage = Stage::with_config(config(free_mb(place.path()) - 30));
    let _broadcaster = stage.broadcast(Sends::default());
    let job = stage
        .start(json!([{"type": "recording", "tracks": true}, {"type": "hls"}]))
        .await;
    stage.wait_live(&job).await;
    stage.plays(&job, 0, 3).await;
    let ballast = place.path().join("ballast");
    output("fallocate", &["-l", "40M", ballast.to_str().unwrap()]);
    let failed = |job: &Job| job.destinations[0].state == DestinationState::Failed;
    let (ended, _) = stage.wait_for(&job, secs(10), failed).await;
    assert_eq!(ended.destinations[0].code, Some(FailureCode::DiskFull));
    // The other output does not notice.
    assert_eq!(ended.destinations[1].state, DestinationState::Live);
    fs::remove_file(ballast).unwrap();
    let recording = ready(&stage).await;
    assert_eq!(recording.code, Some(FailureCode::DiskFull));
    let tracks = recording.tracks.len();
    assert!(tracks > 0, "{recording:?}");
    // Where nothing is recorded, nobody is recorded apart.
    let folder = folder_of(&stage, &recording.id);
    let kept = names(&folder);
    sleep(secs(4)).await;
    assert_eq!(names(&folder), kept);
    let file = download(&stage, &recording.files[0].url).await;
    let probe = Probe::of(&file);
    probe.assert_sound(&["aac", "h264"]);
    assert!(probe.length() > 2.5, "{}", probe.length());

    // What is tried again goes on behind what there is.
    let again = json!({"retry": ["d1"]}).to_string();
    let (status, _, body) = stage.request("PATCH", &job, again).await;
    assert_eq!(status, StatusCode::OK, "{body:?}");
    stage.wait_live(&job).await;
    stage.plays(&job, 0, 4).await;
    stage.end(&job).await;
    let recording = ready(&stage).await;
    assert_eq!(recording.code, None);
    assert_eq!(recording.files.len(), 2, "{recording:?}");
    assert!(recording.tracks.len() > tracks, "{recording:?}");
    let file = download(&stage, &recording.files[1].url).await;
    let probe = Probe::of(&file);
    probe.assert_sound(&["aac", "h264"]);
    assert!(probe.length() > 3.5, "{}", probe.length());
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_server_goes_on_with_its_recordings_and_finishes_those_of_nobody() {
    let stage = Stage::new();
    let broadcaster = stage.broadcast(Sends::default());
    let job = stage.start(json!([{"type": "recording"}])).await;
    stage.wait_live(&job).await;
    sleep(secs(3)).await;
    let stage = stage.restart().await;
    stage.wait_live(&job).await;
    sleep(secs(3)).await;
    drop(broadcaster);
    // A recording whose job is lost is finished all the same.
    let jobs = stage.path("data/egress/jobs");
    for name in names(&jobs) {
        fs::remove_file(jobs.join(name)).unwrap();
    }
    let stage = stage.restart().await;
    let recording = ready(&stage).await;
    assert_eq!(recording.files.len(), 1, "{recording:?}");
    let file = download(&stage, &recording.files[0].url).await;
    let probe = Probe::of(&file);
    probe.assert_sound(&["aac", "h264"]);
    assert!(probe.length() > 6.0, "{}", probe.length());
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recordings_whose_files_somebody_has_removed_are_forgotten() {
    let stage = Stage::new();
    let _broadcaster = stage.broadcast(Sends::default());
    let job = stage.start(json!([{"type": "recording"}])).await;
    stage.wait_live(&job).await;
    stage.end(&job).await;
    let id = ready(&stage).await.id;
    fs::remove_dir_all(folder_of(&stage, &id)).unwrap();
    let (status, _, _) = stage
        .request("DELETE", &format!("{RECORDINGS}/{id}"), "")
        .await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert!(recordings(&stage).await.is_empty());

    // While it is being made, too.
    let job = stage.start(json!([{"type": "recording"}])).await;
    stage.wait_live(&job).await;
    let [during] = recordings(&stage).await.try_into().unwrap();
    fs::remove_dir_all(folder_of(&stage, &during.id)).unwrap();
    stage.end(&job).await;
    tokio::time::timeout(secs(20), async {
        while !recordings(&stage).await.is_empty() {
            sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .expect("it is still listed");
    stage.stop().await;
}

pub(crate) async fn recordings(stage: &Stage) -> Vec<Recording> {
    let (status, _, body) = stage.request("GET", RECORDINGS, "").await;
    assert_eq!(status, StatusCode::OK, "{body:?}");
    let list: RecordingList = serde_json::from_slice(&body).unwrap();
    list.recordings
}

/// Waits until the only recording is ready.
pub(crate) async fn ready(stage: &Stage) -> Recording {
    let started = Instant::now();
    loop {
        let [recording] = recordings(stage).await.try_into().unwrap();
        if recording.state == RecordingState::Ready {
            return recording;
        }
        assert!(started.elapsed() < secs(40), "still {recording:#?}");
        sleep(Duration::from_millis(100)).await;
    }
}

pub(crate) async fn download(stage: &Stage, url: &str) -> PathBuf {
    let (status, _, body) = stage.request("GET", url, "").await;
    assert_eq!(status, StatusCode::OK, "{url}");
    let path = stage
        .path("downloads")
        .join(url.rsplit('/').next().unwrap());
    fs::write(&path, body).unwrap();
    path
}

/// Asserts that the index comes before the media.
pub(crate) fn assert_fast_start(file: &Path) {
    let bytes = fs::read(file).unwrap();
    let mut kinds = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let size = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        kinds.push(String::from_utf8_lossy(&bytes[at + 4..at + 8]).into_owned());
        at += size as usize;
    }
    assert_eq!(kinds, ["ftyp", "moov", "mdat"]);
}

/// Returns until when (Unix seconds) the newest file can be played as it is.
fn end_of_newest(folder: &Path, copies: &Path) -> f64 {
    let raws = names(folder)
        .into_iter()
        .filter(|name| name.starts_with("raw-"));
    let newest = raws.max().unwrap();
    let copy = copies.join(&newest);
    fs::copy(folder.join(&newest), &copy).unwrap();
    let start: f64 = newest.split('-').nth(2).unwrap().parse().unwrap();
    let probe = Probe::of(&copy);
    assert_eq!(probe.decode_errors, "", "{newest}");
    let ends = probe.times.iter().filter_map(|times| times.last().copied());
    start / 1e6 + ends.fold(f64::INFINITY, f64::min)
}

pub(crate) fn folder_of(stage: &Stage, id: &str) -> PathBuf {
    let job = id.trim_start_matches("rec_").split('_').next().unwrap();
    stage.path(&format!("data/recordings/{job}")).join(id)
}

pub(crate) fn id_of(job: &str) -> String {
    let job = job.rsplit_once("eg_").unwrap().1;
    format!("rec_{job}_1")
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn dimensions(picture: &Path) -> String {
    let picture = picture.to_str().unwrap();
    let arguments = [
        "-v",
        "error",
        "-show_entries",
        "stream=width,height",
        "-of",
        "csv=p=0",
        picture,
    ];
    output("ffprobe", &arguments).trim().to_owned()
}

fn free_mb(folder: &Path) -> u64 {
    let free = output("df", &["--output=avail", "-m", folder.to_str().unwrap()]);
    free.lines().nth(1).unwrap().trim().parse().unwrap()
}

fn code(body: &[u8]) -> String {
    let problem: serde_json::Value = serde_json::from_slice(body).unwrap();
    problem["code"].as_str().unwrap().to_owned()
}

pub(crate) async fn within(limit: Duration, what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < limit, "{what}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// xorshift64 with a printed seed.
struct Random(u64);

fn seed() -> Random {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let given = std::env::var("FANLIGHT_TEST_SEED").ok();
    let seed = given.map_or(now.as_secs() | 1, |seed| seed.parse().unwrap());
    println!("FANLIGHT_TEST_SEED={seed}");
    Random(seed)
}

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
