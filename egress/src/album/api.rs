//! The HTTP routes of thumbnails.

use std::io;

use axum::{
    Extension, Json, Router,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

use super::Shot;
use crate::{
    api::{no_store, wrong_method},
    problem::Problem,
    service::{Room, Service},
    status::{ErrorCode, Thumbnail, ThumbnailList},
};

/// Returns the routes. Each needs a [`Room`] among the request's extensions.
pub(crate) fn routes() -> Router<Service> {
    Router::new()
        .route(
            "/api/rooms/{room}/egress/{id}/thumbnails/{destination}",
            get(list).fallback(wrong_method),
        )
        .route(
            "/api/rooms/{room}/egress/{id}/thumbnails/{destination}/{file}",
            get(file).fallback(wrong_method),
        )
}

async fn list(
    State(service): State<Service>,
    Extension(room): Extension<Room>,
    Path((_, id, destination)): Path<(String, String, String)>,
) -> Result<impl IntoResponse, Problem> {
    let album = service.album(room.id, &id, &destination)?;
    let folder = format!(
        "/api/rooms/{}/egress/{id}/thumbnails/{destination}",
        room.slug
    );
    let show = |shot: Shot| Thumbnail {
        number: shot.number,
        taken_at_ms: shot.taken_at_ms,
        bytes: shot.bytes,
        width: shot.width,
        height: shot.height,
        url: format!("{folder}/{}.jpg", shot.number),
    };
    let shots = album.map(|album| album.list()).unwrap_or_default();
    let thumbnails = shots.into_iter().map(show).collect();
    Ok(([no_store()], Json(ThumbnailList { thumbnails })))
}

async fn file(
    State(service): State<Service>,
    Extension(room): Extension<Room>,
    Path((_, id, destination, file)): Path<(String, String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let album = service.album(room.id, &id, &destination)?;
    let album = album.ok_or_else(unknown)?;
    let is_latest = file == LATEST;
    let shot = if is_latest {
        album.latest()
    } else {
        number(&file).and_then(|number| album.find(number))
    };
    let shot = shot.ok_or_else(unknown)?;
    let tag = shot.tag();
    let mut response = if knows(&headers, &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        match tokio::fs::read(album.path(&shot)).await {
            Ok(jpeg) => jpeg.into_response(),
            // The oldest goes at any moment.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(unknown()),
            Err(error) => {
                tracing::error!(%error, "thumbnail cannot be read");
                return Err(Problem::new(
                    ErrorCode::Internal,
                    "The picture cannot be read. See the server's log.",
                ));
            }
        }
    };
    // What needs a token is for nobody else's cache.
    let cache = if is_latest {
        "private, max-age=1"
    } else {
        "private, max-age=31536000, immutable"
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("image/jpeg"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.extend(HeaderValue::from_str(&tag).map(|tag| (header::ETAG, tag)));
    Ok(response)
}

/// Returns the number of the picture of this name.
fn number(file: &str) -> Option<u64> {
    let number = file.strip_suffix(".jpg")?.parse().ok()?;
    (format!("{number}.jpg") == file).then_some(number)
}

/// Returns whether who asks has what this tag is of (RFC 9110 §13.1.2).
fn knows(headers: &HeaderMap, tag: &str) -> bool {
    let known = headers.get(header::IF_NONE_MATCH);
    let known = known.and_then(|value| value.to_str().ok()).unwrap_or("");
    let mut known = known.split(',').map(str::trim);
    known.any(|known| known == "*" || known.trim_start_matches("W/") == tag)
}

fn unknown() -> Problem {
    Problem::new(
        ErrorCode::ThumbnailUnknown,
        "There is no such picture. None was taken yet, or it was among the oldest, which are not kept.",
    )
}

const LATEST: &str = "latest.jpg";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_picture_is_told_by_its_tag() {
        let knows = |value: &'static str| {
            let value = HeaderValue::from_static(value);
            let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, value)]);
            super::knows(&headers, "\"3-a\"")
        };
        for (value, expected) in [
            ("\"3-a\"", true),
            ("\"1-a\", W/\"3-a\"", true),
            ("*", true),
            ("\"3-b\"", false),
            ("", false),
        ] {
            assert_eq!(knows(value), expected, "{value}");
        }
        assert_eq!(number("12.jpg"), Some(12));
        for wrong in ["012.jpg", "+12.jpg", "12", ".jpg", "latest.jpg"] {
            assert_eq!(number(wrong), None, "{wrong}");
        }
    }
}
