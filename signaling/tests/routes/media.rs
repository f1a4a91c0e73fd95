//! WHIP and WHEP with a real SFU behind them, up to the answer: nobody connects.

use axum::http::{HeaderMap, Method, StatusCode};
use serde_json::Value;
use signaling::{Config, Secret, TurnConfig};

use crate::server::{HOUR, SDP, Server, request};

#[tokio::test]
async fn accepted_offer_is_a_resource_with_all_that_rfc_9725_asks_for() {
    let server = Server::start_with_media(with_turn()).await;
    let token = server.token("one", "publish", HOUR).await;
    let offer = offer("sendonly");
    let (status, headers, answer) = server
        .send(request(
            Method::POST,
            "/whip/one",
            Some(&token),
            SDP,
            &offer,
        ))
        .await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    assert_eq!(headers["content-type"], "application/sdp");
    assert_eq!(headers["accept-patch"], "application/trickle-ice-sdpfrag");
    assert!(
        answer.contains("a=setup:passive") && answer.contains("a=recvonly"),
        "{answer}"
    );
    let ufrag = answer
        .lines()
        .find_map(|line| line.strip_prefix("a=ice-ufrag:"))
        .unwrap();
    assert_eq!(headers["etag"], format!("\"{ufrag}\""));
    let links: Vec<_> = headers
        .get_all("link")
        .iter()
        .map(|l| l.to_str().unwrap())
        .collect();
    assert_eq!(links.len(), 2, "{links:?}");
    assert_eq!(links[0], "<stun:stun.example.org>; rel=\"ice-server\"");
    for part in [
        "<turn:turn.example.org>; rel=\"ice-server\"; username=\"",
        "credential-type=\"password\"",
    ] {
        assert!(links[1].contains(part), "{links:?}");
    }
    assert!(location(&headers).starts_with("/whip/one/"));
}

#[tokio::test]
async fn trickled_candidates_are_taken() {
    let server = Server::start_with_media(Config::default()).await;
    let token = server.token("one", "publish", HOUR).await;
    let (session, etag) = open(&server, "/whip/one", Some(&token), "sendonly").await;
    let candidate = "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\nm=audio 9 RTP/AVP 0\r\n\
                     a=mid:0\r\na=candidate:1 1 UDP 1 192.0.2.1 9 typ host\r\na=end-of-candidates\r\n";
    let fragment = Some("application/trickle-ice-sdpfrag");
    for (label, tag, content_type, body, status, code) in [
        ("candidates", Some(&*etag), fragment, candidate, 204, ""),
        (
            "one of several tags",
            Some(&*format!("\"x\", {etag}")),
            fragment,
            candidate,
            204,
            "",
        ),
        (
            "no tag",
            None,
            fragment,
            candidate,
            428,
            "precondition_required",
        ),
        (
            "old tag",
            Some("\"old\""),
            fragment,
            candidate,
            412,
            "ice_session_mismatch",
        ),
        (
            "an offer",
            Some(&*etag),
            SDP,
            candidate,
            415,
            "unsupported_media_type",
        ),
        (
            "no fragment",
            Some(&*etag),
            fragment,
            "hello\r\n",
            400,
            "sdp_invalid",
        ),
    ] {
        let mut request = request(Method::PATCH, &session, Some(&token), content_type, body);
        if let Some(tag) = tag {
            request
                .headers_mut()
                .insert("if-match", tag.parse().unwrap());
        }
        let (found, _, body) = server.send(request).await;
        assert_eq!(
            (found.as_u16(), &*code_of(&body)),
            (status, code),
            "{label}"
        );
    }
}

#[tokio::test]
async fn new_credentials_begin_a_new_ice_session() {
    let server = Server::start_with_media(Config::default()).await;
    let token = server.token("one", "publish", HOUR).await;
    let (session, etag) = open(&server, "/whip/one", Some(&token), "sendonly").await;
    let patch = |tag: &str, body: &str| {
        let fragment = Some("application/trickle-ice-sdpfrag");
        let mut request = request(Method::PATCH, &session, Some(&token), fragment, body);
        let tag = tag.parse().unwrap();
        request.headers_mut().insert("if-match", tag);
        request
    };
    let none = server.send(patch("*", "a=end-of-candidates\r\n")).await;
    assert_eq!((none.0.as_u16(), &*code_of(&none.2)), (400, "sdp_invalid"));
    let mut tags = vec![etag];
    for (tag, ufrag) in [("*", "efgh"), ("\"*\"", "ijkl")] {
        let fragment = format!("a=ice-ufrag:{ufrag}\r\na=ice-pwd:0123456789012345678901\r\n");
        let (status, headers, body) = server.send(patch(tag, &fragment)).await;
        assert_eq!(status, 200, "{tag}: {body}");
        assert_eq!(headers["content-type"], "application/trickle-ice-sdpfrag");
        let etag = headers["etag"].to_str().unwrap().to_owned();
        let answered = format!("a=ice-ufrag:{}", etag.trim_matches('"'));
        assert!(body.contains(&answered), "{body}");
        let (status, ..) = server.send(patch(tag, &fragment)).await;
        assert_eq!(status, 204, "{tag}: the same again");
        tags.push(etag);
    }
    let candidate = "a=candidate:1 1 UDP 1 192.0.2.1 9 typ host\r\n";
    for (tag, status) in tags.iter().zip([412, 412, 204]) {
        let (found, ..) = server.send(patch(tag, candidate)).await;
        assert_eq!(found, status, "{tag}");
    }
}

#[tokio::test]
async fn session_is_ended_by_its_maker_or_an_administrator() {
    let server = Server::start_with_media(Config::default()).await;
    let maker = server.token("one", "publish", HOUR).await;
    let other = server.token("one", "publish", HOUR).await;
    let admin = server.token("one", "admin", HOUR).await;
    for ending in [&maker, &admin] {
        let (session, _) = open(&server, "/whip/one", Some(&maker), "sendonly").await;
        let elsewhere = session.replace("/whip/one/", "/whip/two/");
        for (label, path, token, status) in [
            ("no token", &session, None, 401),
            ("another's token", &session, Some(&*other), 403),
            ("another room", &elsewhere, Some(&*maker), 404),
            (
                "another protocol",
                &session.replace("whip", "whep"),
                Some(&*maker),
                404,
            ),
            ("allowed", &session, Some(&**ending), 200),
            ("again", &session, Some(&**ending), 404),
        ] {
            let delete = request(Method::DELETE, path, token, None, "");
            let (found, _, body) = server.send(delete).await;
            assert_eq!(found, status, "{label}: {body}");
        }
    }
    let (session, _) = open(&server, "/whep/one", None, "recvonly").await;
    let (status, ..) = server
        .send(request(Method::DELETE, &session, None, None, ""))
        .await;
    assert_eq!(status, 200, "a viewer without a token needs none to leave");
}

#[tokio::test]
async fn guest_publishes_beside_the_host_by_whip_and_leaves_with_them() {
    let server = Server::start_with_media(Config::default()).await;
    let host = server.token("one", "publish", HOUR).await;
    let guest = server.token("one", "stage", HOUR).await;
    let offer = offer("sendonly");
    let publish = |token| request(Method::POST, "/whip/one", Some(token), SDP, &offer);
    let (status, _, body) = server.send(publish(&guest)).await;
    assert_eq!((status.as_u16(), &*code_of(&body)), (409, "stage_closed"));
    let (stage, _) = open(&server, "/whip/one", Some(&host), "sendonly").await;
    let (session, _) = open(&server, "/whip/one", Some(&guest), "sendonly").await;
    let admin = server.token("one", "admin", HOUR).await;
    let (json, size) = (Some("application/json"), r#"{"stage_size":2}"#);
    let change = request(Method::PATCH, "/api/rooms/one", Some(&admin), json, size);
    assert_eq!(server.send(change).await.0, 200);
    let second = server.token("one", "stage", HOUR).await;
    let (status, _, body) = server.send(publish(&second)).await;
    assert_eq!((status.as_u16(), &*code_of(&body)), (409, "stage_full"));

    let end = request(Method::DELETE, &stage, Some(&host), None, "");
    assert_eq!(server.send(end).await.0, 200);
    let gone = || request(Method::DELETE, &session, Some(&guest), None, "");
    let closed = async {
        loop {
            let fragment = Some("application/trickle-ice-sdpfrag");
            let asked = request(Method::PATCH, &session, Some(&guest), fragment, "");
            if server.send(asked).await.0 == 404 {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(std::time::Duration::from_secs(10), closed).await;
    assert!(waited.is_ok(), "the guest's session ends with the host's");
    assert_eq!(server.send(gone()).await.0, 404);
}

#[tokio::test]
async fn stage_is_its_first_ones_until_they_are_gone() {
    let server = Server::start_with_media(Config::default()).await;
    let ann = server.token("one", "publish", HOUR).await;
    let bob = server.token("one", "publish", HOUR).await;
    let (session, _) = open(&server, "/whip/one", Some(&ann), "sendonly").await;
    let offer = offer("sendonly");
    let publish = |token| request(Method::POST, "/whip/one", Some(token), SDP, &offer);
    let (status, _, body) = server.send(publish(&bob)).await;
    assert_eq!(
        (status.as_u16(), &*code_of(&body)),
        (409, "room_has_publisher")
    );
    open(&server, "/whep/one", None, "recvonly").await;
    let (again, _) = open(&server, "/whip/one", Some(&ann), "sendonly").await;

    for session in [session, again] {
        server
            .send(request(Method::DELETE, &session, Some(&ann), None, ""))
            .await;
    }
    // The stage is free when the SFU says so, which is not when it was asked to.
    let mut status = StatusCode::CONFLICT;
    for _ in 0..500 {
        (status, ..) = server.send(publish(&bob)).await;
        if status != StatusCode::CONFLICT {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(status, StatusCode::CREATED);
}

#[tokio::test]
async fn offers_that_cannot_be_used_are_refused_and_leave_nothing() {
    let server = Server::start_with_media(Config::default()).await;
    let ann = server.token("one", "publish", HOUR).await;
    let bob = server.token("one", "publish", HOUR).await;
    let good = offer("sendonly");
    let no_codec = good.replace("VP8", "VP7").replace("opus", "speex");
    for (label, sdp, status, code) in [
        ("empty", String::new(), 400, "sdp_invalid"),
        ("no SDP", "hello".to_owned(), 400, "sdp_invalid"),
        (
            "cut off",
            good[..good.len() / 3].to_owned(),
            400,
            "sdp_invalid",
        ),
        (
            "no fingerprint",
            without(&good, "a=fingerprint"),
            400,
            "sdp_invalid",
        ),
        ("no codec in common", no_codec, 406, "no_common_media"),
    ] {
        let (found, _, body) = server
            .send(request(Method::POST, "/whip/one", Some(&ann), SDP, &sdp))
            .await;
        assert_eq!(
            (found.as_u16(), &*code_of(&body)),
            (status, code),
            "{label}: {body}"
        );
    }
    open(&server, "/whip/one", Some(&bob), "sendonly").await;
}

/// Makes a session and returns its path and entity tag.
async fn open(
    server: &Server,
    path: &str,
    token: Option<&str>,
    direction: &str,
) -> (String, String) {
    let post = request(Method::POST, path, token, SDP, &offer(direction));
    let (status, headers, body) = server.send(post).await;
    assert_eq!(status, StatusCode::CREATED, "{path}: {body}");
    (
        location(&headers).to_owned(),
        headers["etag"].to_str().expect("ASCII").to_owned(),
    )
}

fn location(headers: &HeaderMap) -> &str {
    headers["location"].to_str().expect("ASCII")
}

fn code_of(body: &str) -> String {
    let problem: Value = serde_json::from_str(body).unwrap_or_default();
    problem["code"].as_str().unwrap_or_default().to_owned()
}

fn without(offer: &str, start: &str) -> String {
    offer
        .split_inclusive("\r\n")
        .filter(|line| !line.starts_with(start))
        .collect()
}

fn with_turn() -> Config {
    Config {
        stun_urls: vec!["stun:stun.example.org".into()],
        turn: TurnConfig {
            urls: vec!["turn:turn.example.org".into()],
            secret: Some(Secret::new("north")),
            ..TurnConfig::default()
        },
        ..Config::default()
    }
}

/// An offer of one audio and one video track, as a browser makes it.
fn offer(direction: &str) -> String {
    let fingerprint = ["AB"; 32].join(":");
    let transport = format!(
        "c=IN IP4 0.0.0.0\r\na=rtcp-mux\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdef01234567\r\n\
         a=ice-options:trickle\r\na=fingerprint:sha-256 {fingerprint}\r\na=setup:actpass\r\na={direction}\r\n"
    );
    let source = |ssrc: u32| match direction {
        "sendonly" => format!("a=msid:s t{ssrc}\r\na=ssrc:{ssrc} cname:c\r\n"),
        _ => String::new(),
    };
    format!(
        "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n{transport}a=rtpmap:111 opus/48000/2\r\n{}\
         m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\n{transport}a=rtpmap:96 VP8/90000\r\n\
         a=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\n{}",
        source(1111),
        source(2222),
    )
}
