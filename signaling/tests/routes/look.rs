//! How a room's composed picture looks: changed by its host, seen by everybody.

use axum::{
    body::{Body, to_bytes},
    http::{HeaderMap, Method, Request, StatusCode},
};
use image::{DynamicImage, ImageFormat, RgbImage};
use serde_json::{Value, json};
use signaling::{Config, protocol::Layout};
use tower::ServiceExt;

use crate::server::{HOUR, Server, request};

const JSON: Option<&str> = Some("application/json");
const PNG: &str = "image/png";

#[tokio::test]
async fn host_changes_layout_and_look_and_it_outlives_a_restart() {
    let mut server = Server::start(Config::default()).await;
    let host = server.token("one", "publish", HOUR).await;
    let guest = server.token("one", "stage", HOUR).await;
    let room = get_room(&server).await;
    assert_eq!(room["layout"], "grid");
    let untouched = json!({
        "names": true, "title": "", "background": "#141821", "slate": "We will be right back",
        "logo_corner": "upper_right", "logo": null, "background_image": null, "slate_image": null,
    });
    assert_eq!(room["look"], untouched);

    let long = format!(r#"{{"look":{{"slate":"{}"}}}}"#, "x".repeat(201));
    for (label, token, body, status, code) in [
        (
            "no token",
            None,
            r#"{"layout":"grid"}"#,
            401,
            "token_missing",
        ),
        (
            "guest",
            Some(&guest),
            r#"{"layout":"grid"}"#,
            403,
            "not_allowed",
        ),
        (
            "title of the room",
            Some(&host),
            r#"{"layout":"grid","title":"T"}"#,
            403,
            "not_allowed",
        ),
        (
            "no layout",
            Some(&host),
            r#"{"layout":"circle"}"#,
            400,
            "bad_message",
        ),
        (
            "no colour",
            Some(&host),
            r#"{"look":{"background":"blue"}}"#,
            422,
            "look_invalid",
        ),
        ("long", Some(&host), &long, 422, "look_invalid"),
        (
            "image by name",
            Some(&host),
            r#"{"look":{"logo":"/etc/passwd"}}"#,
            400,
            "bad_message",
        ),
    ] {
        let change = request(
            Method::PATCH,
            "/api/rooms/one",
            token.map(|t| &**t),
            JSON,
            body,
        );
        let (found, _, body) = send(&server, change).await;
        assert_eq!(
            (found.as_u16(), &body["code"]),
            (status, &json!(code)),
            "{label}"
        );
    }
    assert_eq!(
        get_room(&server).await["look"],
        untouched,
        "refused as a whole"
    );

    for body in [
        r##"{"layout":"picture_in_picture","look":{"title":"Summer","background":"#FF8000"}}"##,
        r#"{"look":{"names":false,"slate":"","logo_corner":"lower_left"}}"#,
    ] {
        let change = request(Method::PATCH, "/api/rooms/one", Some(&host), JSON, body);
        assert_eq!(send(&server, change).await.0, 200, "{body}");
    }
    let changed = get_room(&server).await;
    assert_eq!(changed["layout"], "picture_in_picture");
    let expected = json!({
        "names": false, "title": "Summer", "background": "#ff8000", "slate": "",
        "logo_corner": "lower_left", "logo": null, "background_image": null, "slate_image": null,
    });
    assert_eq!(changed["look"], expected);
    server.start_again().await;
    assert_eq!(get_room(&server).await, changed);
    let told = server.service.performances().await;
    let (_, performance) = told.first().unwrap();
    assert_eq!(performance.layout, Layout::PictureInPicture);
    assert_eq!(performance.look.background, 0x00ff_8000);
}

#[tokio::test]
async fn images_are_the_hosts_to_change() {
    let server = Server::start(Config::default()).await;
    let host = server.token("one", "publish", HOUR).await;
    let guest = server.token("one", "stage", HOUR).await;
    let png = picture(32, 32, ImageFormat::Png);
    for (room, kind, token, status, code) in [
        ("one", "logo", None, 401, "token_missing"),
        ("one", "logo", Some(&guest), 403, "not_allowed"),
        ("two", "logo", Some(&host), 403, "token_wrong_room"),
        ("one", "face", Some(&host), 404, "image_unknown"),
    ] {
        let path = format!("/api/rooms/{room}/images/{kind}");
        let (found, _, body) = send(&server, upload(&path, token, "image/png", &png)).await;
        let expected = (status, &json!(code));
        assert_eq!(
            (found.as_u16(), &body["code"]),
            expected,
            "{path} {token:?}"
        );
    }
    for (method, kind, token) in [
        (Method::GET, "logo", None),
        (Method::GET, "face", None),
        (Method::DELETE, "logo", Some(&*host)),
    ] {
        let path = format!("/api/rooms/one/images/{kind}");
        let (found, _, body) = send(&server, request(method, &path, token, None, "")).await;
        assert_eq!(
            (found.as_u16(), &body["code"]),
            (404, &json!("image_unknown"))
        );
    }
}

#[tokio::test]
async fn uploads_that_are_no_image_are_refused() {
    let server = Server::start(Config::default()).await;
    let host = server.token("one", "publish", HOUR).await;
    let png = picture(32, 32, ImageFormat::Png);
    let svg = "image/svg+xml";
    for (label, kind, bytes, status, code) in [
        ("type", svg, png.clone(), 415, "unsupported_media_type"),
        ("bytes", PNG, vec![0; (4 << 20) + 1], 413, "body_too_large"),
        ("nothing", PNG, vec![], 422, "image_invalid"),
        ("text", PNG, b"<svg/>".to_vec(), 422, "image_invalid"),
        ("cut", PNG, png[..60].to_vec(), 422, "image_invalid"),
        (
            "small",
            PNG,
            picture(8, 8, ImageFormat::Png),
            422,
            "image_invalid",
        ),
        (
            "wide",
            PNG,
            picture(4097, 16, ImageFormat::Png),
            422,
            "image_too_large",
        ),
    ] {
        let path = "/api/rooms/one/images/logo";
        let (found, headers, body) = send(&server, upload(path, Some(&host), kind, &bytes)).await;
        assert_eq!(
            (found.as_u16(), &body["code"]),
            (status, &json!(code)),
            "{label}"
        );
        assert_eq!(
            headers["content-type"], "application/problem+json",
            "{label}"
        );
    }
}

#[tokio::test]
async fn images_are_kept_shown_replaced_and_removed() {
    let mut server = Server::start(Config::default()).await;
    let host = server.token("one", "publish", HOUR).await;
    let path = "/api/rooms/one/images/slate";
    let put = |width, format: ImageFormat, kind| {
        upload(path, Some(&host), kind, &picture(width, 36, format))
    };
    // What it is counts, not what it is said to be.
    let (status, _, room) = send(&server, put(64, ImageFormat::Jpeg, "image/png")).await;
    assert_eq!(status, 200, "{room}");
    let first = room["look"]["slate_image"].clone();
    assert_eq!(
        (&first["width"], &first["height"]),
        (&json!(64), &json!(36))
    );
    let (_, _, room) = send(&server, put(80, ImageFormat::Png, "image/jpeg")).await;
    let second = room["look"]["slate_image"].clone();
    assert_ne!(first["url"], second["url"]);
    assert_eq!(room["look"]["logo"], Value::Null);

    server.start_again().await;
    assert_eq!(get_room(&server).await["look"]["slate_image"], second);
    for (url, cache) in [
        (second["url"].as_str().unwrap(), "immutable"),
        (path, "no-cache"),
        (first["url"].as_str().unwrap(), "no-cache"),
    ] {
        let answer = server
            .routes()
            .oneshot(request(Method::GET, url, None, None, ""))
            .await;
        let (head, body) = answer.unwrap().into_parts();
        assert_eq!(
            (head.status.as_u16(), &head.headers["content-type"]),
            (200, &"image/png".parse().unwrap())
        );
        assert!(
            head.headers["cache-control"]
                .to_str()
                .unwrap()
                .contains(cache),
            "{url}"
        );
        let shown = image::load_from_memory(&to_bytes(body, 1 << 20).await.unwrap()).unwrap();
        assert_eq!((shown.width(), shown.height()), (80, 36));
    }

    let told = server.service.performances().await;
    let (id, performance) = told.first().unwrap();
    let kind = signaling::protocol::ImageKind::Slate;
    let file = server
        .service
        .image_file(*id, &performance.look, kind)
        .unwrap();
    assert!(file.is_absolute() && file.exists());
    let others = file.parent().unwrap().read_dir().unwrap().count();
    assert_eq!(others, 1, "the first one is gone");

    let delete = request(Method::DELETE, path, Some(&host), None, "");
    assert_eq!(send(&server, delete).await.0, 204);
    assert_eq!(get_room(&server).await["look"]["slate_image"], Value::Null);
    assert!(!file.exists());
}

async fn get_room(server: &Server) -> Value {
    let (status, _, room) = send(
        server,
        request(Method::GET, "/api/rooms/one", None, None, ""),
    )
    .await;
    assert_eq!(status, 200);
    room
}

async fn send(server: &Server, request: Request<Body>) -> (StatusCode, HeaderMap, Value) {
    let (status, headers, body) = server.send(request).await;
    (
        status,
        headers,
        serde_json::from_str(&body).unwrap_or_default(),
    )
}

fn upload(path: &str, token: Option<&String>, kind: &str, bytes: &[u8]) -> Request<Body> {
    let token = token.map(|token| &**token);
    let mut request = request(Method::PUT, path, token, Some(kind), "");
    *request.body_mut() = Body::from(bytes.to_vec());
    request
}

fn picture(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let picture = RgbImage::from_pixel(width, height, image::Rgb([255, 128, 0]));
    let written = DynamicImage::ImageRgb8(picture).write_to(&mut bytes, format);
    written.expect("memory takes it");
    bytes.into_inner()
}
