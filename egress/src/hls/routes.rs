//! The HTTP routes below `/hls/{room}/`.

use axum::{
    Router,
    body::Bytes,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tower_http::cors::{Any, CorsLayer};

use super::{
    File, Refusal, Wanted,
    address::{AddressError, parameter, parse, split_token},
};
use crate::{
    etag, problem::Problem, service::Service, signed::TokenError, status::ErrorCode,
    wall_clock::unix_ms_now,
};

/// Returns the routes of playlists and media, which players on any site may read.
pub(crate) fn routes(service: Service) -> Router {
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods(Any)
        .allow_headers(Any)
        .expose_headers(Any);
    Router::new()
        .route("/hls/{room}/{*file}", get(get_file).fallback(wrong_method))
        .layer(cors)
        .with_state(service)
}

async fn get_file(
    State(service): State<Service>,
    Path((room, path)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let query = query.unwrap_or_default();
    let answer = answer(&service, &room, &path, &query, &headers).await;
    answer.unwrap_or_else(|mut refusal| {
        // Caches may share a refusal, but not for long.
        let cache = HeaderValue::from_static("max-age=1");
        refusal.headers_mut().insert(header::CACHE_CONTROL, cache);
        refusal
    })
}

async fn answer(
    service: &Service,
    room: &str,
    path: &str,
    query: &str,
    headers: &HeaderMap,
) -> Result<Response, Response> {
    let (token, path) = split_token(path);
    let wanted = parse(path, query).map_err(|e| match e {
        AddressError::Unknown => unknown(),
        AddressError::Directive => bad_directive(),
    })?;
    let origin = service.origin(room).ok_or_else(unknown)?;
    let mut longest = FOR_EVER;
    if origin.is_private() {
        let asked = parameter(query, "token");
        let expires = check(service, room, token.or(asked)).map_err(IntoResponse::into_response)?;
        if let (None, Some(asked), Wanted::Master) = (token, asked, wanted) {
            // The addresses in playlists are relative: below this one, they carry the token on.
            return Ok(below_token(room, asked));
        }
        longest = longest.min(expires.saturating_sub(unix_ms_now() / 1000));
    }
    match origin.get(wanted).await {
        Ok(file) => Ok(serve(file, path, headers, longest, origin.target_seconds())),
        Err(refusal) => Err(refuse(refusal)),
    }
}

fn check(service: &Service, room: &str, token: Option<&str>) -> Result<u64, Problem> {
    let token = token.ok_or_else(|| {
        Problem::new(
            ErrorCode::TokenMissing,
            "This broadcast is private: its address needs a token.",
        )
    })?;
    let path = format!("/hls/{room}/index.m3u8");
    let verified = service.signer().verify(&path, token, unix_ms_now() / 1000);
    verified.map_err(|e| match e {
        TokenError::Expired { .. } => Problem::new(
            ErrorCode::TokenExpired,
            "This address was valid for a time that is over. Ask whoever gave it to you for a new one.",
        ),
        TokenError::Invalid => Problem::new(
            ErrorCode::TokenInvalid,
            "The token in this address is not one for this broadcast.",
        ),
    })
}

fn below_token(room: &str, token: &str) -> Response {
    let location = format!("/hls/{room}/~{token}/index.m3u8");
    let headers = [
        (header::LOCATION, location),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    (StatusCode::TEMPORARY_REDIRECT, headers).into_response()
}

fn serve(file: File, path: &str, headers: &HeaderMap, longest: u64, target: u64) -> Response {
    let (media_type, max_age, body, tag) = match file {
        File::Playlist(text) => (PLAYLIST_TYPE, 1, text.body, text.tag),
        // Whoever waits for the same part gets the same answer: six target durations, as the draft says.
        File::Reload(text) => (PLAYLIST_TYPE, target * 6, text.body, text.tag),
        File::Init(bytes) => ("video/mp4", FOR_EVER, bytes, tag_of(path)),
        File::Media(bytes) => ("video/iso.segment", FOR_EVER, bytes, tag_of(path)),
    };
    let tag = format!("\"{tag}\"");
    let (status, body) = if etag::is_known(headers, &tag) {
        (StatusCode::NOT_MODIFIED, Bytes::new())
    } else {
        (StatusCode::OK, body)
    };
    let immutable = if max_age == FOR_EVER {
        ", immutable"
    } else {
        ""
    };
    let cache = format!("public, max-age={}{immutable}", max_age.min(longest));
    let headers: [(HeaderName, String); 3] = [
        (header::CONTENT_TYPE, media_type.to_owned()),
        (header::CACHE_CONTROL, cache),
        (header::ETAG, tag),
    ];
    (status, headers, body).into_response()
}

/// File names are never used twice.
fn tag_of(path: &str) -> String {
    path.replace('/', "-")
}

fn refuse(refusal: Refusal) -> Response {
    match refusal {
        Refusal::Unknown => unknown(),
        Refusal::TooFar => Problem::new(
            ErrorCode::BadRequest,
            "This part is too far ahead to be waited for.",
        )
        .into_response(),
        Refusal::Late => {
            let mut response = Problem::new(
                ErrorCode::HlsLate,
                "Nothing has come for a while. Ask again in a moment.",
            )
            .into_response();
            let soon = HeaderValue::from_static("1");
            response.headers_mut().insert(header::RETRY_AFTER, soon);
            response
        }
    }
}

fn unknown() -> Response {
    Problem::new(
        ErrorCode::HlsUnknown,
        "There is nothing to play here: the room has no HLS output, it has not started yet, or this part is over.",
    )
    .into_response()
}

fn bad_directive() -> Response {
    Problem::new(
        ErrorCode::BadRequest,
        "A delivery directive is a number, and “_HLS_part” needs “_HLS_msn”.",
    )
    .into_response()
}

async fn wrong_method() -> Problem {
    Problem::new(
        ErrorCode::MethodNotAllowed,
        "This address does not take this method.",
    )
}

const PLAYLIST_TYPE: &str = "application/vnd.apple.mpegurl";
/// Seconds.
const FOR_EVER: u64 = 86_400;
