//! HTTP as the tests use it.

use std::sync::LazyLock;

use reqwest::{Client, Response, StatusCode, header};
use serde_json::Value;

use super::server::Server;

/// Returns the client that all tests share. It trusts any certificate: some servers make their own.
pub(crate) fn client() -> Client {
    static CLIENT: LazyLock<()> = LazyLock::new(|| {
        // Several crates bring rustls providers along. Err: another test was first.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    });
    LazyLock::force(&CLIENT);
    // One per call: a pooled connection belongs to the runtime of the test that opened it.
    Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .no_proxy()
        .build()
        .unwrap()
}

/// Posts an SDP offer to a WHIP or WHEP endpoint.
pub(crate) async fn post_sdp(
    server: &Server,
    path: &str,
    token: Option<&str>,
    sdp: impl Into<reqwest::Body>,
) -> Response {
    let mut request = client()
        .post(server.url(path))
        .header(header::CONTENT_TYPE, "application/sdp")
        .body(sdp);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    request.send().await.unwrap()
}

/// Asserts that a response is the refusal that is documented, and returns it.
pub(crate) async fn assert_problem(
    response: Response,
    status: u16,
    code: &str,
    what: &str,
) -> Value {
    let seen = response.status();
    let kind = header_text(&response, header::CONTENT_TYPE);
    let body = response.text().await.unwrap();
    assert_eq!(seen.as_u16(), status, "{what}: {body}");
    assert!(
        kind.starts_with("application/problem+json"),
        "{what}: {kind}: {body}"
    );
    let problem: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(problem["code"], code, "{what}: {problem}");
    assert_eq!(problem["status"], status, "{what}: {problem}");
    assert_eq!(
        problem["type"],
        format!("urn:fanlight:problem:{code}"),
        "{what}"
    );
    assert!(
        problem["detail"].as_str().is_some_and(|d| !d.is_empty()),
        "{what}: {problem}"
    );
    problem
}

/// Asserts a success and returns its JSON.
pub(crate) async fn json(response: Response, status: StatusCode) -> Value {
    let seen = response.status();
    let body = response.text().await.unwrap();
    assert_eq!(seen, status, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// Returns a header's text, empty when absent.
pub(crate) fn header_text(response: &Response, name: impl header::AsHeaderName) -> String {
    response
        .headers()
        .get(name)
        .map(|v| v.to_str().unwrap().to_owned())
        .unwrap_or_default()
}
