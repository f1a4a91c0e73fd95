//! A composed output is as the room's host wants it, also while nobody is there and after a restart.

use std::{io::Cursor, process::Stdio, time::Duration};

use image::{ImageFormat, Rgb, RgbImage};
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::{
    hls_rules::{self, Media},
    http,
    output::{self, Output},
    server::Server,
    wait,
};

const BLUE: Rgb<u8> = Rgb([30, 60, 200]);
/// `#dc821e`.
const ORANGE: Rgb<u8> = Rgb([220, 130, 30]);
const GREEN: Rgb<u8> = Rgb([40, 150, 60]);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_stage_shows_the_slate_of_its_host_also_after_a_restart() {
    let server = Server::start();
    let owner = server.owner().to_owned();
    let created = call(&server, Method::POST, "", &owner, &json!({"slug": "stage"})).await;
    http::json(created, StatusCode::CREATED).await;
    let host = server.host("stage");
    let look = json!({"look": {"background": "#dc821e", "slate": ""}});
    let changed = call(&server, Method::PATCH, "/stage", &host, &look).await;
    http::json(changed, StatusCode::OK).await;

    let request = json!({
        "source": {"type": "stage"},
        "preset": {"width": 160, "height": 90, "frame_rate": 10, "bitrate_bps": 200_000},
        "destinations": [{"type": "hls"}],
    });
    let job = output::request(&server, "stage", Some(&host), &request).await;
    let job = http::json(job, StatusCode::CREATED).await;
    let path = format!("/api/rooms/stage/egress/{}", job["id"].as_str().unwrap());
    shows(&server, ORANGE).await;
    upload(&server, &host, BLUE).await;
    shows(&server, BLUE).await;

    // Nobody comes into the room: the job alone has to bring back how it looks. Its playlist is a new one.
    let server = server.kill().start();
    shows(&server, BLUE).await;
    upload(&server, &host, GREEN).await;
    shows(&server, GREEN).await;
    Output::known(&server, &host, &path).end().await;
}

async fn call(
    server: &Server,
    method: Method,
    room: &str,
    token: &str,
    body: &Value,
) -> reqwest::Response {
    let url = server.url(&format!("/api/rooms{room}"));
    let request = http::client().request(method, url).bearer_auth(token);
    request.json(body).send().await.unwrap()
}

/// Uploads a slate of one colour.
async fn upload(server: &Server, token: &str, colour: Rgb<u8>) {
    let mut png = Cursor::new(Vec::new());
    let picture = RgbImage::from_pixel(320, 180, colour);
    picture.write_to(&mut png, ImageFormat::Png).unwrap();
    let url = server.url("/api/rooms/stage/images/slate");
    let request = http::client().put(url).bearer_auth(token);
    let request = request.header(header::CONTENT_TYPE, "image/png");
    let response = request.body(png.into_inner()).send().await.unwrap();
    let room = http::json(response, StatusCode::OK).await;
    assert_eq!(room["look"]["slate_image"]["width"], 320, "{room}");
}

/// Waits until the newest segment ends with a picture of that colour.
async fn shows(server: &Server, colour: Rgb<u8>) {
    wait::within(PATIENCE, &format!("{colour:?} is shown"), async || {
        let seen = last_colour(server).await;
        let near = |seen: [u8; 3]| {
            let mut parts = seen.into_iter().zip(colour.0);
            parts.all(|(a, b)| a.abs_diff(b) < 25)
        };
        wait::check(seen.is_some_and(near), seen)
    })
    .await;
}

/// Returns the mean colour of the last picture of the newest segment.
async fn last_colour(server: &Server) -> Option<[u8; 3]> {
    let media = newest(server).await?;
    let segment = media.segments.last()?;
    let mut film = file(server, &segment.map).await?;
    film.extend(file(server, &segment.uri).await?);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("segment.mp4");
    std::fs::write(&path, film).unwrap();
    let decoder = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(&path)
        .args([
            "-vf",
            "scale=1:1:flags=area",
            "-f",
            "rawvideo",
            "-pix_fmt",
            "rgb24",
            "-",
        ])
        .stdin(Stdio::null())
        .output();
    let pixels = decoder.await.unwrap().stdout;
    pixels.last_chunk().copied()
}

async fn newest(server: &Server) -> Option<Media> {
    let text = String::from_utf8(file(server, "index.m3u8").await?).unwrap();
    Some(hls_rules::parse(&text).unwrap())
}

async fn file(server: &Server, name: &str) -> Option<Vec<u8>> {
    let url = server.url(&format!("/hls/stage/v0/{name}"));
    let response = http::client().get(url).send().await.unwrap();
    (response.status() == StatusCode::OK)
        .then_some(response)?
        .bytes()
        .await
        .ok()
        .map(Into::into)
}

/// Segments are two seconds long.
const PATIENCE: Duration = Duration::from_secs(25);
