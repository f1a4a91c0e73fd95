//! `/api/rooms`: makes and shows rooms.

use std::collections::HashSet;

use axum::{
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};

use sfu::RoomId;

use super::{body::Json, images};
use crate::{
    Grant, Problem, Service,
    auth::{check_slug, is_hidden},
    clock::unix_ms,
    protocol::{ChangeRoom, CreateRoom, ErrorCode, RoomInfo, RoomList, STAGE_LIMIT, STAGE_SIZE},
    store::RoomChange,
};

/// Lists the rooms, those on air first.
pub(super) async fn list(State(service): State<Service>) -> Result<Response, Problem> {
    let newest = service
        .store()
        .newest_rooms(LISTED)
        .await
        .map_err(|e| Problem::internal(&e))?;
    let in_use = service.directory().rooms();
    let (mut rooms, idle): (Vec<_>, Vec<_>) = in_use.into_iter().partition(|room| room.live);
    rooms.sort_by_key(|room| std::cmp::Reverse(room.viewers));
    let live: HashSet<String> = rooms.iter().map(|room| room.slug.clone()).collect();
    let waiting = |slug: &str| {
        idle.iter()
            .find(|room| room.slug == slug)
            .map(|room| room.viewers)
    };
    rooms.extend(
        newest
            .into_iter()
            .filter(|record| !live.contains(&record.slug))
            .map(|record| RoomInfo {
                viewers: waiting(&record.slug).unwrap_or_default(),
                ..record.idle_info()
            }),
    );
    rooms.truncate(LISTED as usize);
    Ok(fresh(axum::Json(RoomList { rooms })))
}

/// Shows one room.
pub(super) async fn get(
    State(service): State<Service>,
    Path(slug): Path<String>,
) -> Result<Response, Problem> {
    let id = service.room(&slug, false).await?;
    let info = service.directory().room(id).map(crate::room::Room::info);
    Ok(fresh(axum::Json(info.ok_or_else(unknown)?)))
}

/// Makes a room; needs `admin` for all rooms.
pub(super) async fn create(
    State(service): State<Service>,
    headers: HeaderMap,
    Json(request): Json<CreateRoom>,
) -> Result<Response, Problem> {
    service.authorize_owner(&headers)?;
    check_slug(&request.slug)?;
    let title = match &request.title {
        Some(title) => check_title(title)?,
        None => request.slug.clone(),
    };
    let stage_size = check_stage_size(request.stage_size.unwrap_or(STAGE_SIZE))?;
    let made = service
        .store()
        .create_room(&request.slug, &title, stage_size, unix_ms())
        .await;
    let Some(record) = made.map_err(|error| Problem::internal(&error))? else {
        return Err(Problem::new(
            ErrorCode::RoomExists,
            format!("There is a room \"{}\" already.", request.slug),
        ));
    };
    let id = service.open_room(&record);
    let info = service.directory().room(id).map(crate::room::Room::info);
    let location = format!("/api/rooms/{}", record.slug);
    Ok((
        StatusCode::CREATED,
        [(header::LOCATION, location)],
        axum::Json(info),
    )
        .into_response())
}

/// Changes a room; needs `admin` there, or `publish` for its layout and look alone.
pub(super) async fn change(
    State(service): State<Service>,
    Path(slug): Path<String>,
    headers: HeaderMap,
    Json(request): Json<ChangeRoom>,
) -> Result<Response, Problem> {
    let is_of_host = request.title.is_none()
        && request.stage_size.is_none()
        && (request.layout.is_some() || request.look.is_some());
    let grant = if is_of_host {
        Grant::Publish
    } else {
        Grant::Admin
    };
    let room = service.authorize(&headers, &slug, grant).await?;
    let title = request.title.as_deref().map(check_title).transpose()?;
    let stage_size = request.stage_size.map(check_stage_size).transpose()?;
    let changing = service.changing_rooms().lock().await;
    let mut look = images::look(&service, room.id)?;
    if let Some(change) = &request.look {
        look.change(change)?;
    }
    let change = RoomChange {
        title: title.as_deref(),
        stage_size,
        layout: request.layout,
        look: request.look.is_some().then_some(&look),
    };
    let info = store(&service, room.id, &change).await?;
    drop(changing);
    Ok(fresh(axum::Json(info)))
}

/// Keeps what has changed of a room, and tells its members. For who holds [`Service::changing_rooms`].
pub(super) async fn store(
    service: &Service,
    room: RoomId,
    change: &RoomChange<'_>,
) -> Result<RoomInfo, Problem> {
    let changed = service.store().change_room(room, change).await;
    let record = changed
        .map_err(|error| Problem::internal(&error))?
        .ok_or_else(unknown)?;
    let info = service.directory().room_mut(room).map(|room| {
        room.change_record(&record);
        room.info()
    });
    service.changed().notify_one();
    info.ok_or_else(unknown)
}

pub(super) fn unknown() -> Problem {
    Problem::new(ErrorCode::RoomUnknown, "There is no such room.")
}

fn check_stage_size(size: u32) -> Result<u32, Problem> {
    if (1..=STAGE_LIMIT).contains(&size) {
        return Ok(size);
    }
    Err(Problem::new(
        ErrorCode::BadMessage,
        format!("A stage has room for 1 to {STAGE_LIMIT} participants."),
    ))
}

fn check_title(title: &str) -> Result<String, Problem> {
    let title: String = title.chars().filter(|c| !is_hidden(*c)).collect();
    let title = title.trim();
    if (1..=100).contains(&title.chars().count()) {
        return Ok(title.to_owned());
    }
    Err(Problem::new(
        ErrorCode::BadMessage,
        "A title is 1 to 100 characters.",
    ))
}

fn fresh(body: impl IntoResponse) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], body).into_response()
}

const LISTED: u32 = 200;
