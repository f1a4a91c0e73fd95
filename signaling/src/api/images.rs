//! `/api/rooms/{room}/images/{kind}`: what a room's composed picture is dressed with.

use axum::{
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;

use super::{body, rooms};
use crate::{
    Grant, Problem, RoomRef, Service,
    gallery::{EDGE, KeepError},
    look::{Image, Look, kind_word},
    protocol::{ErrorCode, ImageKind},
    room::Room,
    store::RoomChange,
};

/// Which image is meant, so that it may be kept for good where it was fetched.
#[derive(Debug, Deserialize)]
pub(super) struct Version {
    v: Option<String>,
}

/// Shows an image; needs nothing: it is in what the room sends out.
pub(super) async fn get(
    State(service): State<Service>,
    Path((slug, kind)): Path<(String, String)>,
    Query(version): Query<Version>,
) -> Result<Response, Problem> {
    let kind = parse(&kind)?;
    let room = service.room(&slug, false).await?;
    let image = look(&service, room)?.images.remove(&kind);
    let image = image.ok_or_else(unknown)?;
    let file = service.gallery().file(room, kind, &image);
    let bytes = tokio::fs::read(file).await;
    let bytes = bytes.map_err(|error| {
        // Another one has just taken its place.
        if error.kind() == std::io::ErrorKind::NotFound {
            unknown()
        } else {
            Problem::internal(&error)
        }
    })?;
    let is_this = version.v == Some(format!("{:016x}", image.version));
    let cache = if is_this {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let headers = [
        (header::CONTENT_TYPE, "image/png"),
        (header::CACHE_CONTROL, cache),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, bytes).into_response())
}

/// Keeps an image and shows it from here on; needs `publish`.
pub(super) async fn put(
    State(service): State<Service>,
    Path((slug, kind)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let room = service.authorize(&headers, &slug, Grant::Publish).await?;
    let kind = parse(&kind)?;
    expect_image(&headers)?;
    let bytes = body::read(body, MAX_BYTES).await?;
    let kept = service.gallery().keep(room.id, kind, bytes).await;
    let image = kept.map_err(|error| match error {
        KeepError::Invalid(what) => Problem::new(ErrorCode::ImageInvalid, sentence(what)),
        KeepError::TooLarge => Problem::new(
            ErrorCode::ImageTooLarge,
            format!("The image is larger than {EDGE} x {EDGE} pixels. Make it smaller first."),
        ),
        KeepError::Write(error) => Problem::internal(&error),
    })?;
    tracing::info!(room = %room.slug, kind = kind_word(kind), "image kept");
    let info = set(&service, &room, kind, Some(image)).await?;
    let headers = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((headers, axum::Json(info)).into_response())
}

/// Removes an image; needs `publish`.
pub(super) async fn remove(
    State(service): State<Service>,
    Path((slug, kind)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let room = service.authorize(&headers, &slug, Grant::Publish).await?;
    let kind = parse(&kind)?;
    if !look(&service, room.id)?.images.contains_key(&kind) {
        return Err(unknown());
    }
    set(&service, &room, kind, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Shows this image, or none, and removes those that were there before.
async fn set(
    service: &Service,
    room: &RoomRef,
    kind: ImageKind,
    image: Option<Image>,
) -> Result<crate::protocol::RoomInfo, Problem> {
    let changing = service.changing_rooms().lock().await;
    let mut look = look(service, room.id)?;
    match image.clone() {
        Some(image) => look.images.insert(kind, image),
        None => look.images.remove(&kind),
    };
    let change = RoomChange {
        look: Some(&look),
        ..RoomChange::default()
    };
    let info = rooms::store(service, room.id, &change).await?;
    service.gallery().tidy(room.id, kind, image.as_ref()).await;
    drop(changing);
    Ok(info)
}

/// Returns how the room looks.
pub(super) fn look(service: &Service, room: sfu::RoomId) -> Result<Look, Problem> {
    let directory = service.directory();
    let look = directory.room(room).map(Room::look).cloned();
    look.ok_or_else(rooms::unknown)
}

fn expect_image(headers: &HeaderMap) -> Result<(), Problem> {
    let expected = ["image/png", "image/jpeg"];
    let is_image = |expected: &&str| body::expect_type(headers, expected).is_ok();
    if expected.iter().any(is_image) {
        return Ok(());
    }
    Err(Problem::new(
        ErrorCode::UnsupportedMediaType,
        "Send the image itself as image/png or image/jpeg.",
    ))
}

fn parse(kind: &str) -> Result<ImageKind, Problem> {
    let kinds = [ImageKind::Logo, ImageKind::Background, ImageKind::Slate];
    let found = kinds.into_iter().find(|known| kind_word(*known) == kind);
    found.ok_or_else(|| {
        Problem::new(
            ErrorCode::ImageUnknown,
            "The images of a room are logo, background and slate.",
        )
    })
}

fn unknown() -> Problem {
    Problem::new(ErrorCode::ImageUnknown, "The room has no such image.")
}

/// Writes a message as a sentence.
fn sentence(what: &str) -> String {
    let mut letters = what.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).chain(['.']).collect()
}

/// Longest upload.
const MAX_BYTES: usize = 4 << 20;
