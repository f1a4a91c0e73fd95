//! The pages, embedded in the binary.

use axum::{
    extract::Request,
    http::{Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use egress::etag;

/// The built pages. Empty when the server was compiled before they were built.
#[derive(rust_embed::RustEmbed)]
#[folder = "$CARGO_MANIFEST_DIR/web/dist"]
#[allow_missing = true]
struct Files;

/// Serves a file, or the page itself for every other path: which page it is, is decided in the browser.
pub(crate) async fn serve(request: Request) -> Response {
    let path = request.uri().path().trim_start_matches('/');
    // A program that mistypes an address must not take a page for an answer.
    if ["api/", "whip/", "whep/", "hls/", "ws/"]
        .iter()
        .any(|prefix| path.starts_with(prefix))
    {
        return no_such_address(request.uri().path());
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    // A missing asset must not be answered by a page: the browser would run HTML as a script.
    let name = if path.starts_with("assets/") || Files::get(path).is_some() {
        path
    } else {
        "index.html"
    };
    let Some(file) = Files::get(name) else {
        return missing(name);
    };
    let hash = file.metadata.sha256_hash();
    let tag = format!(
        "\"{}\"",
        hash.iter()
            .take(12)
            .map(|b| format!("{b:02x}"))
            .collect::<String>()
    );
    if etag::is_known(request.headers(), &tag) {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response();
    }
    let cache = if name.starts_with("assets/") {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    (
        [
            (header::CONTENT_TYPE, content_type(name)),
            (header::CACHE_CONTROL, cache),
            (header::ETAG, &tag),
            (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "same-origin"),
        ],
        file.data,
    )
        .into_response()
}

fn no_such_address(path: &str) -> Response {
    let problem = serde_json::json!({
        "type": "urn:fanlight:problem:not_found",
        "title": "Not Found",
        "status": 404,
        "detail": format!("There is nothing at {path}. docs/api.md lists the addresses of the API."),
        "code": "not_found",
    });
    let headers = [(header::CONTENT_TYPE, "application/problem+json")];
    (StatusCode::NOT_FOUND, headers, problem.to_string()).into_response()
}

fn missing(name: &str) -> Response {
    if name == "index.html" {
        let text = "This server was built without its pages. Build it with `make run`.\n";
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    }
    (StatusCode::NOT_FOUND, "There is no such file.\n").into_response()
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        Some("json" | "map") => "application/json",
        Some("webmanifest") => "application/manifest+json",
        _ => "application/octet-stream",
    }
}

/// Scripts only of our own; media, sockets and workers also as blobs, as players need them, and media from a storage
/// that recordings are redirected to. Pages may be embedded anywhere except where they hold a login: the browser
/// keeps storage apart per embedding site.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; script-src 'self'; \
    style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' https: blob: data:; \
    connect-src 'self' ws: wss:; worker-src 'self' blob:; object-src 'none'; base-uri 'none'";
