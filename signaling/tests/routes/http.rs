//! The HTTP routes: each bad request gets its own answer.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, Method, Request, StatusCode},
};
use serde_json::{Value, json};
use signaling::Config;

use crate::server::{HOUR, SDP, Server, request};

#[tokio::test]
async fn offers_without_permission_are_refused() {
    let server = Server::start(Config::default()).await;
    let expired = server.token("one", "publish", Duration::ZERO).await;
    let elsewhere = server.token("two", "publish", HOUR).await;
    let viewer = server.token("one", "", HOUR).await;
    let rows = [
        ("/whip/one", "no token", None, 401, "token_missing"),
        (
            "/whip/one",
            "garbage",
            Some("garbage"),
            401,
            "token_invalid",
        ),
        (
            "/whep/one",
            "garbage",
            Some("garbage"),
            401,
            "token_invalid",
        ),
        (
            "/whip/one",
            "expired",
            Some(&*expired),
            401,
            "token_expired",
        ),
        (
            "/whip/one",
            "elsewhere",
            Some(&*elsewhere),
            403,
            "token_wrong_room",
        ),
        (
            "/whep/one",
            "elsewhere",
            Some(&*elsewhere),
            403,
            "token_wrong_room",
        ),
        ("/whip/one", "viewer", Some(&*viewer), 403, "not_allowed"),
    ];
    for (path, label, token, status, code) in rows {
        let label = format!("{label} at {path}");
        let request = request(Method::POST, path, token, SDP, "v=0");
        let (found, headers, problem) = send(&server, request).await;
        assert_problem(&label, found, &headers, &problem, status, code);
        assert_eq!(
            headers.contains_key("www-authenticate"),
            status == 401,
            "{label}"
        );
    }
}

#[tokio::test]
async fn offers_that_are_none_are_refused() {
    let server = Server::start(Config::default()).await;
    let token = server.token("one", "publish", HOUR).await;
    let huge = "x".repeat(200 * 1024);
    let json = Some("application/json");
    let rows = [
        (
            "/whip/one",
            "no type",
            None,
            "v=0",
            415,
            "unsupported_media_type",
        ),
        (
            "/whep/one",
            "JSON",
            json,
            "{}",
            415,
            "unsupported_media_type",
        ),
        ("/whip/one", "huge", SDP, &*huge, 413, "body_too_large"),
        (
            "/whep/No%20Room",
            "no name",
            SDP,
            "v=0",
            400,
            "room_name_invalid",
        ),
        (
            "/whip/one",
            "no media server",
            SDP,
            "v=0",
            503,
            "server_full",
        ),
    ];
    for (path, label, content_type, body, status, code) in rows {
        let request = request(Method::POST, path, Some(&token), content_type, body);
        let (found, headers, problem) = send(&server, request).await;
        assert_problem(label, found, &headers, &problem, status, code);
        assert_eq!(
            headers.contains_key("retry-after"),
            status == 503,
            "{label}"
        );
    }
    let request = request(Method::POST, "/whep/none", None, SDP, "v=0");
    let (found, headers, problem) = send(&server, request).await;
    assert_problem(
        "no such room",
        found,
        &headers,
        &problem,
        404,
        "room_unknown",
    );
}

#[tokio::test]
async fn what_is_no_session_cannot_be_changed() {
    let server = Server::start(Config::default()).await;
    let fragment = Some("application/trickle-ice-sdpfrag");
    let rows = [
        (
            Method::PATCH,
            "/whip/one/nobody",
            fragment,
            404,
            "session_unknown",
        ),
        (
            Method::DELETE,
            "/whip/one/nobody",
            None,
            404,
            "session_unknown",
        ),
        (
            Method::DELETE,
            "/whep/one/nobody",
            None,
            404,
            "session_unknown",
        ),
        (Method::GET, "/whip/one", None, 405, "method_not_allowed"),
        (Method::PUT, "/whep/one", None, 405, "method_not_allowed"),
        (
            Method::GET,
            "/whip/one/nobody",
            None,
            405,
            "method_not_allowed",
        ),
        (
            Method::POST,
            "/whip/one/nobody",
            None,
            405,
            "method_not_allowed",
        ),
        (Method::PATCH, "/api/rooms", None, 405, "method_not_allowed"),
        (Method::GET, "/ws/one", None, 400, "bad_message"),
    ];
    for (method, path, content_type, status, code) in rows {
        let label = format!("{method} {path}");
        let request = request(method, path, None, content_type, "a=candidate:1");
        let (found, headers, problem) = send(&server, request).await;
        assert_problem(&label, found, &headers, &problem, status, code);
        assert_eq!(headers.contains_key("allow"), status == 405, "{label}");
    }
}

#[tokio::test]
async fn pages_of_any_origin_may_use_it() {
    let server = Server::start(Config::default()).await;
    let preflight = Request::builder()
        .method(Method::OPTIONS)
        .uri("/whip/one")
        .header("origin", "https://example.org")
        .header("access-control-request-method", "POST")
        .header(
            "access-control-request-headers",
            "authorization,content-type",
        )
        .body(Body::empty())
        .unwrap();
    let (status, headers, _) = send(&server, preflight).await;
    assert!(status.is_success());
    assert_eq!(headers["access-control-allow-origin"], "*");
    assert_eq!(
        headers["access-control-allow-headers"],
        "authorization,content-type"
    );
    assert!(
        headers["access-control-allow-methods"]
            .to_str()
            .unwrap()
            .contains("PATCH")
    );
    assert_eq!(headers["accept-post"], "application/sdp");
    let resource = request(Method::OPTIONS, "/whip/one/session", None, None, "");
    let (_, headers, _) = send(&server, resource).await;
    assert_eq!(headers["accept-patch"], "application/trickle-ice-sdpfrag");
    assert!(!headers.contains_key("accept-post"));

    let (_, headers, _) = send(&server, request(Method::POST, "/whep/one", None, None, "")).await;
    let exposed = headers["access-control-expose-headers"]
        .to_str()
        .unwrap()
        .to_lowercase();
    for name in ["location", "etag", "link"] {
        assert!(exposed.contains(name), "{exposed}");
    }
}

#[tokio::test]
async fn room_is_changed_by_its_administrator() {
    let server = Server::start(Config::default()).await;
    let owner = server.token("new", "admin", HOUR).await;
    let host = server.token("new", "publish", HOUR).await;
    let json = Some("application/json");
    let change = request(Method::PATCH, "/api/rooms/new", Some(&host), json, "{}");
    assert_eq!(send(&server, change).await.0, 403);
    for (body, status, size) in [
        (r#"{"stage_size":4}"#, 200, 4),
        (r#"{"stage_size":17}"#, 400, 4),
        (r#"{"title":"Newer"}"#, 200, 4),
    ] {
        let change = request(Method::PATCH, "/api/rooms/new", Some(&owner), json, body);
        let (found, _, _) = send(&server, change).await;
        assert_eq!(found, status, "{body}");
        let get = request(Method::GET, "/api/rooms/new", None, None, "");
        assert_eq!(send(&server, get).await.2["stage_size"], size, "{body}");
    }
}

#[tokio::test]
async fn rooms_are_made_once_and_listed() {
    let server = Server::start(Config::default()).await;
    let owner = server.token("*", "admin", HOUR).await;
    let host = server.token("one", "admin", HOUR).await;
    let make = |token: Option<&str>, body: &str| {
        send(
            &server,
            request(
                Method::POST,
                "/api/rooms",
                token,
                Some("application/json"),
                body,
            ),
        )
    };
    let rows = [
        ("no token", None, r#"{"slug":"new"}"#, 401, "token_missing"),
        (
            "one room's admin",
            Some(&*host),
            r#"{"slug":"new"}"#,
            403,
            "token_wrong_room",
        ),
        ("no JSON", Some(&*owner), "{", 400, "bad_message"),
        (
            "more than asked",
            Some(&*owner),
            r#"{"slug":"new","owner":"me"}"#,
            400,
            "bad_message",
        ),
        (
            "bad name",
            Some(&*owner),
            r#"{"slug":"New Room"}"#,
            400,
            "room_name_invalid",
        ),
        (
            "empty name",
            Some(&*owner),
            r#"{"slug":""}"#,
            400,
            "room_name_invalid",
        ),
        (
            "empty title",
            Some(&*owner),
            r#"{"slug":"new","title":" "}"#,
            400,
            "bad_message",
        ),
        (
            "taken",
            Some(&*owner),
            r#"{"slug":"one"}"#,
            409,
            "room_exists",
        ),
    ];
    for (label, token, body, status, code) in rows {
        let (found, headers, problem) = make(token, body).await;
        assert_problem(label, found, &headers, &problem, status, code);
    }

    let (status, headers, room) = make(Some(&owner), r#"{"slug":"new","title":"New"}"#).await;
    assert_eq!(
        (status, &headers["location"]),
        (StatusCode::CREATED, &"/api/rooms/new".parse().unwrap())
    );
    let expected = json!({
        "slug": "new", "title": "New", "live": false, "paused": false,
        "live_since_ms": null, "viewers": 0, "hls": false,
        "stage_size": 9, "stage": [], "featured": null, "layout": "grid",
        "look": room["look"],
    });
    assert_eq!(room, expected);
    let (_, _, found) = send(
        &server,
        request(Method::GET, "/api/rooms/new", None, None, ""),
    )
    .await;
    assert_eq!(found, expected);
    let (_, _, list) = send(&server, request(Method::GET, "/api/rooms", None, None, "")).await;
    let slugs: Vec<_> = list["rooms"]
        .as_array()
        .unwrap()
        .iter()
        .map(|room| &room["slug"])
        .collect();
    assert_eq!(slugs, ["new", "one"]);
    let (status, _, _) = send(
        &server,
        request(Method::GET, "/api/rooms/none", None, None, ""),
    )
    .await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn tokens_are_made_by_administrators_and_allow_what_was_asked() {
    let server = Server::start(Config::default()).await;
    let admin = server.token("one", "admin", HOUR).await;
    let host = server.token("one", "publish", HOUR).await;
    let make = |token: Option<&str>, body: &str| {
        let json = Some("application/json");
        send(
            &server,
            request(Method::POST, "/api/rooms/one/tokens", token, json, body),
        )
    };
    for (label, token, body, status, code) in [
        ("no token", None, "{}", 401, "token_missing"),
        ("host", Some(&*host), "{}", 403, "not_allowed"),
        (
            "no time",
            Some(&*admin),
            r#"{"ttl_seconds":1}"#,
            400,
            "bad_message",
        ),
        (
            "two years",
            Some(&*admin),
            r#"{"ttl_seconds":63072000}"#,
            400,
            "bad_message",
        ),
        (
            "bad identity",
            Some(&*admin),
            r#"{"identity":"a\nb"}"#,
            400,
            "bad_message",
        ),
        (
            "other room",
            Some(&*admin),
            r#"{"room":"*"}"#,
            400,
            "bad_message",
        ),
    ] {
        let (found, headers, problem) = make(token, body).await;
        assert_problem(label, found, &headers, &problem, status, code);
    }

    let (status, headers, made) = make(Some(&admin), r#"{"identity":"obs","publish":true}"#).await;
    assert_eq!(
        (status, &headers["cache-control"]),
        (StatusCode::CREATED, &"no-store".parse().unwrap())
    );
    assert_eq!(made["identity"], "obs");
    let token = made["token"].as_str().unwrap();
    let (status, ..) = send(
        &server,
        request(Method::POST, "/whip/one", Some(token), SDP, "v=0"),
    )
    .await;
    assert_eq!(status, 503, "allowed, and there is no media server behind");
    let (status, ..) = make(Some(token), "{}").await;
    assert_eq!(status, 403, "nobody hands on more than they have");
}

#[tokio::test]
async fn other_crates_ask_by_grant_and_room() {
    let server = Server::start(Config::default()).await;
    let egress = server.token("one", "egress", HOUR).await;
    let owner = server.token("*", "admin", HOUR).await;
    let bearer = |token: &str| {
        let value = format!("Bearer {token}").parse().unwrap();
        HeaderMap::from_iter([(axum::http::header::AUTHORIZATION, value)])
    };
    let ask = async |token: &str, room: &str, grant| {
        let answer = server.service.authorize(&bearer(token), room, grant).await;
        answer
            .map(|room| room.slug)
            .map_err(|problem| problem.status().as_u16())
    };
    use signaling::Grant::{Admin, Egress};
    assert_eq!(ask(&egress, "one", Egress).await, Ok("one".into()));
    assert_eq!(ask(&egress, "one", Admin).await, Err(403));
    assert_eq!(ask(&egress, "two", Egress).await, Err(403));
    assert_eq!(ask(&owner, "one", Egress).await, Ok("one".into()));
    assert_eq!(ask(&owner, "two", Egress).await, Err(404));
    assert_eq!(ask(&owner, "*", Egress).await, Err(400), "it is no room");
    let is_owner = |token: &str| {
        let answer = server.service.authorize_owner(&bearer(token));
        answer.map_err(|problem| problem.status().as_u16())
    };
    assert_eq!(is_owner(&owner), Ok(()));
    assert_eq!(is_owner(&egress), Err(403));
    assert_eq!(is_owner("garbage"), Err(401));
    assert!(server.service.find_room("one").await.is_some());
    assert!(server.service.find_room("two").await.is_none());
}

#[tokio::test]
async fn publishing_makes_the_room_and_watching_does_not() {
    let server = Server::start(Config::default()).await;
    let owner = server.token("*", "publish", HOUR).await;
    for (path, token) in [("/whep/fresh", None), ("/whip/fresh", Some(&*owner))] {
        let (status, ..) = send(
            &server,
            request(Method::GET, "/api/rooms/fresh", None, None, ""),
        )
        .await;
        assert_eq!(status, 404, "before {path}");
        send(&server, request(Method::POST, path, token, SDP, "v=0")).await;
    }
    let (status, ..) = send(
        &server,
        request(Method::GET, "/api/rooms/fresh", None, None, ""),
    )
    .await;
    assert_eq!(status, 200);
}

/// Sends a request and returns status, headers and the JSON body (or null).
async fn send(server: &Server, request: Request<Body>) -> (StatusCode, HeaderMap, Value) {
    let (status, headers, body) = server.send(request).await;
    (
        status,
        headers,
        serde_json::from_str(&body).unwrap_or_default(),
    )
}

fn assert_problem(
    label: &str,
    found: StatusCode,
    headers: &HeaderMap,
    problem: &Value,
    status: u16,
    code: &str,
) {
    assert_eq!(
        (found.as_u16(), problem["code"].as_str()),
        (status, Some(code)),
        "{label}: {problem}"
    );
    assert_eq!(
        headers["content-type"], "application/problem+json",
        "{label}"
    );
    assert_eq!(problem["status"], status, "{label}");
    assert!(
        problem["detail"]
            .as_str()
            .is_some_and(|detail| !detail.is_empty()),
        "{label}"
    );
}
