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
    etag,
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
    let mut response = if etag::is_known(&headers, &tag) {
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
    fn a_picture_has_one_name() {
        assert_eq!(number("12.jpg"), Some(12));
        for wrong in ["012.jpg", "+12.jpg", "12", ".jpg", "latest.jpg"] {
            assert_eq!(number(wrong), None, "{wrong}");
        }
    }
}
