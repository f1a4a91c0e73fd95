//! Pictures of live rooms.

use std::time::{Duration, Instant};

use reqwest::{StatusCode, header};

use crate::support::{
    http,
    peer::Peer,
    probe,
    server::{Server, Setup},
    source::Source,
    wait,
};

const PERIOD: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_room_has_a_picture_that_caches_may_keep_and_that_goes_with_it() {
    for (source, room) in [(Source::h264(), "h264"), (Source::vp8(), "vp8")] {
        let config = format!("[egress]\nthumbnail_seconds = {}", PERIOD.as_secs());
        let server = Setup::new().config(&config).start();
        let host = server.host(room);
        let none = get(&server, room, None).await;
        http::assert_problem(none, 404, "thumbnail_unknown", "a room that is not live").await;

        let mut broadcaster = Peer::publisher(&server, &source).await;
        broadcaster.whip(&server, room, &host).await;
        let first = wait::within(wait::PATIENCE, "there is a picture", async || {
            let response = get(&server, room, None).await;
            let status = response.status();
            (status == StatusCode::OK).then_some(response).ok_or(status)
        })
        .await;
        let text = |name| first.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(text(header::CONTENT_TYPE), "image/jpeg");
        assert_eq!(text(header::CACHE_CONTROL), "public, max-age=2");
        let tag = text(header::ETAG);
        let jpeg = first.bytes().await.unwrap();
        assert_picture(&jpeg).await;

        // However many look, one keyframe is decoded each period, and no more.
        let watched = Instant::now();
        let mut tags = vec![tag.clone()];
        let made_before = made(&server).await;
        while watched.elapsed() < PERIOD * 4 {
            let known = tags.last().cloned();
            let response = get(&server, room, known.as_deref()).await;
            match response.status() {
                StatusCode::NOT_MODIFIED => {}
                StatusCode::OK => {
                    tags.push(
                        response.headers()[header::ETAG]
                            .to_str()
                            .unwrap()
                            .to_owned(),
                    );
                }
                status => panic!("{status}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let made = made(&server).await - made_before;
        let most = (watched.elapsed().as_secs_f64() / PERIOD.as_secs_f64()).ceil() + 1.0;
        assert!(
            made >= 2.0 && made <= most,
            "{room}: {made} pictures of {tags:?}"
        );

        broadcaster.close().await;
        wait::within(
            wait::PATIENCE,
            "the picture goes with the broadcast",
            async || {
                let status = get(&server, room, None).await.status();
                wait::check(status == StatusCode::NOT_FOUND, status)
            },
        )
        .await;
    }
}

async fn get(server: &Server, room: &str, known: Option<&str>) -> reqwest::Response {
    let mut request = http::client().get(server.url(&format!("/api/rooms/{room}/thumbnail.jpg")));
    if let Some(tag) = known {
        request = request.header(header::IF_NONE_MATCH, tag);
    }
    request.send().await.unwrap()
}

/// Returns how many pictures the server has made.
async fn made(server: &Server) -> f64 {
    server
        .metric("fanlight_thumbnails_total", "")
        .await
        .unwrap_or(0.0)
}

/// It is the broadcast's keyframe, and small.
async fn assert_picture(jpeg: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("thumbnail.jpg");
    std::fs::write(&file, jpeg).unwrap();
    let tracks = probe::probe(&file).await;
    let info = &probe::track(&tracks, "mjpeg").info;
    assert_eq!(
        (&info["width"], &info["height"]),
        (&640.into(), &360.into())
    );
    assert!(jpeg.len() < 100_000, "{} bytes", jpeg.len());
}
