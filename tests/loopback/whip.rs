//! WHIP (RFC 9725) and WHEP as foreign clients see them.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{EncodingKey, Header};
use reqwest::{Method, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::support::{
    http::{assert_problem, client, header_text, post_sdp},
    peer::Peer,
    server::{Server, Setup, claims},
    source::{Source, Video},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_follow_the_rfc() {
    let server = Setup::new().config(TURN).start();
    let source = Source::start(Some(Video::H264), false);
    let host = server.host("stage");

    let whip = Peer::publisher(&server, &source).await;
    let offer = whip.offer().await;
    let response = post_sdp(&server, "/whip/stage", Some(&host), offer).await;
    check_session(&server, &whip, response, Some(&host)).await;

    let whep = Peer::viewer(&server).await;
    let offer = whep.offer().await;
    let response = post_sdp(&server, "/whep/stage", None, offer).await;
    check_session(&server, &whep, response, None).await;
}

/// From the answer to the end of the session.
async fn check_session(server: &Server, peer: &Peer, response: Response, token: Option<&str>) {
    assert_eq!(response.status(), StatusCode::CREATED);
    assert_eq!(
        header_text(&response, header::CONTENT_TYPE),
        "application/sdp"
    );
    let location = header_text(&response, header::LOCATION);
    let etag = header_text(&response, header::ETAG);
    assert!(
        etag.starts_with('"') && etag.ends_with('"') && etag.len() > 2,
        "strong tag: {etag}"
    );
    let links: Vec<&str> = response
        .headers()
        .get_all(header::LINK)
        .iter()
        .map(|v| v.to_str().unwrap())
        .collect();
    let turn = links
        .iter()
        .find(|link| link.contains("<turn:turn.example.org:3478"));
    let turn = turn.unwrap_or_else(|| panic!("no TURN server in {links:?}"));
    for part in [
        "rel=\"ice-server\"",
        "username=\"",
        "credential=\"",
        "credential-type=\"password\"",
    ] {
        assert!(turn.contains(part), "{part} is missing in {turn}");
    }
    let answer = response.text().await.unwrap();
    for line in [
        "a=ice-lite",
        "a=setup:passive",
        "a=group:BUNDLE",
        "a=rtcp-mux",
    ] {
        assert!(answer.contains(line), "{line} is missing in:\n{answer}");
    }
    peer.accept(&answer).await;
    peer.connected().await;

    let url = if location.starts_with('/') {
        server.url(&location)
    } else {
        location
    };
    let send = async |method: Method, tag: Option<&str>, kind: &str, body: &str| {
        let mut request = client()
            .request(method, &url)
            .header(header::CONTENT_TYPE, kind.to_owned())
            .body(body.to_owned());
        if let Some(tag) = tag {
            request = request.header(header::IF_MATCH, tag);
        }
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        request.send().await.unwrap()
    };
    let trickled = send(Method::PATCH, Some(&etag), FRAGMENT_TYPE, FRAGMENT).await;
    assert_eq!(trickled.status(), StatusCode::NO_CONTENT);
    let stale = send(Method::PATCH, Some("\"other\""), FRAGMENT_TYPE, FRAGMENT).await;
    assert_problem(stale, 412, "ice_session_mismatch", "another entity tag").await;
    let bare = send(Method::PATCH, None, FRAGMENT_TYPE, FRAGMENT).await;
    assert_problem(bare, 428, "precondition_required", "no entity tag").await;
    let typed = send(Method::PATCH, Some(&etag), "text/plain", FRAGMENT).await;
    assert_problem(
        typed,
        415,
        "unsupported_media_type",
        "a wrong type of fragment",
    )
    .await;

    let ended = send(Method::DELETE, None, "application/sdp", "").await;
    assert_eq!(ended.status(), StatusCode::OK);
    peer.ended().await;
    let gone = send(Method::DELETE, None, "application/sdp", "").await;
    assert_problem(gone, 404, "session_unknown", "deleted twice").await;
    let gone = send(Method::PATCH, Some(&etag), FRAGMENT_TYPE, FRAGMENT).await;
    assert_problem(gone, 404, "session_unknown", "patched after its end").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_sites_may_call() {
    let server = Server::start();
    for (path, method) in [
        ("/whip/stage", "POST"),
        ("/whep/stage", "POST"),
        ("/whip/stage", "PATCH"),
    ] {
        let response = client()
            .request(Method::OPTIONS, server.url(path))
            .header(header::ORIGIN, "https://other.example")
            .header(header::ACCESS_CONTROL_REQUEST_METHOD, method)
            .header(
                header::ACCESS_CONTROL_REQUEST_HEADERS,
                "authorization,content-type,if-match",
            )
            .send()
            .await
            .unwrap();
        assert!(
            response.status().is_success(),
            "{path}: {}",
            response.status()
        );
        let origin = header_text(&response, header::ACCESS_CONTROL_ALLOW_ORIGIN);
        assert!(
            origin == "*" || origin == "https://other.example",
            "{path}: {origin}"
        );
        let methods = header_text(&response, header::ACCESS_CONTROL_ALLOW_METHODS);
        assert!(
            methods == "*" || methods.contains(method),
            "{path}: {methods}"
        );
        let headers = header_text(&response, header::ACCESS_CONTROL_ALLOW_HEADERS).to_lowercase();
        for name in ["authorization", "content-type", "if-match"] {
            // `*` does not cover Authorization (Fetch, CORS protocol).
            assert!(
                headers.contains(name),
                "{path}: {name} is not allowed by {headers}"
            );
        }
    }
    server.host("stage");
    let viewer = Peer::viewer(&server).await;
    let response = client()
        .post(server.url("/whep/stage"))
        .header(header::ORIGIN, "https://other.example")
        .header(header::CONTENT_TYPE, "application/sdp")
        .body(viewer.offer().await)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::CREATED);
    let exposed = header_text(&response, header::ACCESS_CONTROL_EXPOSE_HEADERS).to_lowercase();
    for name in ["location", "etag", "link"] {
        assert!(
            exposed == "*" || exposed.contains(name),
            "{name} is not exposed: {exposed}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_tokens_are_refused_with_their_reason() {
    let config = format!("[signaling]\ntoken_secret = \"{SECRET}\"");
    let server = Setup::new().config(&config).start();
    let source = Source::start(None, true);
    let offer = Peer::publisher(&server, &source).await.offer().await;
    let host = server.host("stage");
    let viewer = server.token("stage", &["--chat"]);
    let elsewhere = server.host("elsewhere");
    let unsigned = {
        let header = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
        let payload = host.split('.').nth(1).unwrap();
        format!("{header}.{payload}.")
    };
    let tampered = {
        let mut claims = claims(&viewer);
        // Whatever the grants are called: all that are false become true.
        grant_everything(&mut claims);
        let parts: Vec<&str> = viewer.split('.').collect();
        let payload = BASE64_URL_SAFE_NO_PAD.encode(claims.to_string());
        format!("{}.{payload}.{}", parts[0], parts[2])
    };
    let (genuine, foreign) = (
        sign(&claims(&host), SECRET),
        sign(&claims(&host), "somebody else's secret"),
    );
    let expired = {
        let mut claims = claims(&host);
        claims["exp"] = (claims["exp"].as_u64().unwrap() - 2 * 3600).into();
        sign(&claims, SECRET)
    };
    for (what, token, status, code) in [
        ("no token", None, 401, "token_missing"),
        ("not a token", Some("nonsense"), 401, "token_invalid"),
        ("unsigned", Some(&*unsigned), 401, "token_invalid"),
        ("tampered with", Some(&tampered), 401, "token_invalid"),
        (
            "signed by another secret",
            Some(&foreign),
            401,
            "token_invalid",
        ),
        ("expired", Some(&expired), 401, "token_expired"),
        (
            "for another room",
            Some(&elsewhere),
            403,
            "token_wrong_room",
        ),
        ("of a viewer", Some(&viewer), 403, "not_allowed"),
    ] {
        let response = post_sdp(&server, "/whip/stage", token, offer.clone()).await;
        let asks = header_text(&response, header::WWW_AUTHENTICATE);
        assert_eq!(
            asks.starts_with("Bearer"),
            status == 401,
            "{what}: {asks:?}"
        );
        assert_problem(response, status, code, what).await;
    }
    let response = post_sdp(&server, "/whip/stage", Some(&genuine), offer).await;
    assert_eq!(
        response.status(),
        StatusCode::CREATED,
        "the way of signing here is the server's"
    );

    let log = server.log();
    for token in [&host, &expired, &foreign] {
        assert!(!log.contains(token.as_str()), "a token is in the log");
    }
    assert!(!log.contains(SECRET), "the secret is in the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_requests_are_refused_with_their_reason() {
    let server = Server::start();
    let host = server.host("stage");
    let good = Peer::viewer(&server).await.offer().await;
    let without = |start: &str| -> String {
        good.split_inclusive('\n')
            .filter(|line| !line.starts_with(start))
            .collect()
    };
    let no_codec = good
        .replace("H264", "H263")
        .replace("VP8", "VP7")
        .replace("opus", "opium");
    for (what, sdp, status, code) in [
        ("empty", String::new(), 400, "sdp_invalid"),
        ("not SDP", "hello".into(), 400, "sdp_invalid"),
        ("cut off", good[..40].into(), 400, "sdp_invalid"),
        (
            "without fingerprint",
            without("a=fingerprint"),
            400,
            "sdp_invalid",
        ),
        (
            "without ICE credentials",
            without("a=ice-ufrag"),
            400,
            "sdp_invalid",
        ),
        ("without a known codec", no_codec, 406, "no_common_media"),
        (
            "larger than allowed",
            format!("{good}{}", "a=x\r\n".repeat(60_000)),
            413,
            "body_too_large",
        ),
    ] {
        for path in ["/whip/stage", "/whep/stage"] {
            let response = post_sdp(&server, path, Some(&host), sdp.clone()).await;
            assert_problem(response, status, code, &format!("{path}, SDP {what}")).await;
        }
    }
    let binary = post_sdp(&server, "/whep/stage", None, vec![0xff, 0xfe, 0, 1, 2]).await;
    assert_problem(binary, 400, "sdp_invalid", "SDP that is not text").await;

    let typed = client()
        .post(server.url("/whip/stage"))
        .bearer_auth(&host)
        .header(header::CONTENT_TYPE, "application/json")
        .body(good.clone())
        .send();
    assert_problem(
        typed.await.unwrap(),
        415,
        "unsupported_media_type",
        "not application/sdp",
    )
    .await;
    let nowhere = post_sdp(&server, "/whep/nowhere", None, good.clone()).await;
    assert_problem(nowhere, 404, "room_unknown", "a room that is not").await;
    let session = client()
        .delete(server.url("/whip/stage/nosuchsession"))
        .bearer_auth(&host)
        .send();
    assert_problem(
        session.await.unwrap(),
        404,
        "session_unknown",
        "an invented session",
    )
    .await;
    let method = client()
        .put(server.url("/whip/stage"))
        .bearer_auth(&host)
        .send();
    assert_problem(method.await.unwrap(), 405, "method_not_allowed", "PUT").await;
}

fn grant_everything(value: &mut Value) {
    match value {
        Value::Bool(granted) => *granted = true,
        Value::Object(fields) => fields.values_mut().for_each(grant_everything),
        Value::Array(items) => items.push("publish".into()),
        Value::Null | Value::Number(_) | Value::String(_) => {}
    }
}

fn sign(claims: &Value, secret: &str) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::default(), &json!(claims), &key).unwrap()
}

const SECRET: &str = "a secret of these tests, long enough";
const TURN: &str = "
[signaling.turn]
urls = ['turn:turn.example.org:3478?transport=udp']
secret = 'the secret of the TURN server'
";
const FRAGMENT_TYPE: &str = "application/trickle-ice-sdpfrag";
const FRAGMENT: &str = "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n\
    m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n\
    a=candidate:1 1 udp 2122260223 127.0.0.1 50000 typ host\r\na=end-of-candidates\r\n";
