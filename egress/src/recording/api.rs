//! The HTTP routes of recordings.

use std::{path::Path as FilePath, time::Duration};

use axum::{
    Extension, Json, Router,
    body::Body,
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use object_store::GetRange;
use tower::ServiceExt as _;
use tower_http::{
    cors::{Any, CorsLayer},
    services::ServeFile,
};

use super::{
    entry::{Entry, Finished, Place},
    library::{DeleteError, Library},
    remote::Remote,
    trouble::UploadError,
    workshop::POSTER,
};
use crate::{
    api::{no_store, wrong_method},
    etag,
    problem::Problem,
    service::Room,
    signed::{Signer, TokenError},
    status::{ErrorCode, Recording, RecordingFile, RecordingList, RecordingTrack},
    wall_clock::unix_ms_now,
};

/// What the routes need.
#[derive(Clone, Debug)]
pub(crate) struct Desk {
    pub(crate) library: Library,
    /// Where finished files are, if not here.
    pub(crate) remote: Option<Remote>,
    pub(crate) signer: Signer,
    /// How long a link is valid.
    pub(crate) link_ms: u64,
}

/// Returns the routes that need a right. Each needs a [`Room`] among the request's extensions.
pub(crate) fn routes(desk: Desk) -> Router {
    Router::new()
        .route(
            "/api/rooms/{room}/recordings",
            get(list).fallback(wrong_method),
        )
        .route(
            "/api/rooms/{room}/recordings/{id}",
            get(get_one).delete(delete).fallback(wrong_method),
        )
        .with_state(desk)
}

/// Returns the routes of files, which whoever has a link may read from any page.
pub(crate) fn file_routes(desk: Desk) -> Router {
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods(Any)
        .allow_headers(Any)
        .expose_headers(Any);
    Router::new()
        .route(
            "/recordings/{id}/{token}/{file}",
            get(file).fallback(wrong_method),
        )
        .layer(cors)
        .with_state(desk)
}

async fn list(State(desk): State<Desk>, Extension(room): Extension<Room>) -> impl IntoResponse {
    let entries = desk.library.list(room.id);
    let recordings = entries.iter().map(|entry| desk.show(entry)).collect();
    ([no_store()], Json(RecordingList { recordings }))
}

async fn get_one(
    State(desk): State<Desk>,
    Extension(room): Extension<Room>,
    Path((_, id)): Path<(String, String)>,
) -> Result<impl IntoResponse, Problem> {
    let entry = desk.library.get(room.id, &id).ok_or_else(unknown)?;
    Ok(([no_store()], Json(desk.show(&entry))))
}

async fn delete(
    State(desk): State<Desk>,
    Extension(room): Extension<Room>,
    Path((_, id)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let library = desk.library.clone();
    let deleted = tokio::task::spawn_blocking(move || library.delete(room.id, &id)).await;
    match deleted {
        Ok(Ok(())) => Ok(StatusCode::NO_CONTENT),
        Ok(Err(DeleteError::Unknown)) => Err(unknown()),
        Ok(Err(DeleteError::Active)) => Err(Problem::new(
            ErrorCode::RecordingActive,
            "This recording is still being made. End its output first.",
        )),
        Ok(Err(DeleteError::Io(error))) => {
            tracing::error!(%error, "recording cannot be deleted");
            Err(Problem::new(
                ErrorCode::Internal,
                "The recording cannot be deleted. See the server's log.",
            ))
        }
        Err(_) => Err(Problem::new(ErrorCode::Stopping, "The server is stopping.")),
    }
}

async fn file(
    State(desk): State<Desk>,
    Path((id, token, name)): Path<(String, String, String)>,
    mut request: Request,
) -> Result<Response, Problem> {
    let path = format!("{}{name}", prefix(&id));
    let now = unix_ms_now() / 1000;
    desk.signer.verify(&path, &token, now).map_err(|error| {
        let detail = match error {
            TokenError::Expired { .. } => "This link has expired. Ask for the recording again.",
            TokenError::Invalid => "This link is not whole, or was not made by this server.",
        };
        Problem::new(ErrorCode::LinkInvalid, detail)
    })?;
    let entry = desk.library.find(&id).ok_or_else(unknown)?;
    if !entry.has(&name) {
        return Err(unknown());
    }
    let query = request.uri().query().unwrap_or_default();
    let downloads = query
        .split('&')
        .any(|part| part.split('=').next() == Some("download"));
    // Other units and several ranges are answered with the whole (RFC 9110 §14.2).
    let range = request.headers().get(header::RANGE);
    if range.is_some_and(|range| range.to_str().ok().and_then(parse_range).is_none()) {
        request.headers_mut().remove(header::RANGE);
    }
    let mut files = entry.files.iter();
    let far = files.find(|file| file.name == name && file.place == Place::Remote);
    let path = desk.library.folder(&id).join(&name);
    if request.headers().contains_key(header::IF_RANGE) {
        let version = match far {
            // What is passed on has nothing that a version could be told by.
            Some(_) => HeaderMap::new(),
            None => version_of(&path).await,
        };
        if !etag::has_rest(request.headers(), &version) {
            request.headers_mut().remove(header::RANGE);
        }
    }
    let mut response = match far {
        Some(file) => {
            let (method, headers) = (request.method().clone(), request.headers().clone());
            let asked = (method, headers.get(header::RANGE).cloned());
            desk.pass_on(&entry, file, asked, downloads).await?
        }
        None => match ServeFile::new(path).oneshot(request).await {
            Ok(response) => response.map(Body::new),
            Err(never) => match never {},
        },
    };
    if response.status() == StatusCode::NOT_FOUND {
        return Err(unknown());
    }
    if response.status().is_redirection() {
        return Ok(response);
    }
    let headers = response.headers_mut();
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("private, max-age=3600"),
    );
    if downloads {
        let attachment = HeaderValue::from_static("attachment");
        headers.insert(header::CONTENT_DISPOSITION, attachment);
    }
    Ok(response)
}

/// Returns the headers that a file of this folder is served with, among them what its version is told by.
async fn version_of(path: &FilePath) -> HeaderMap {
    let mut look = Request::new(Body::empty());
    *look.method_mut() = Method::HEAD;
    match ServeFile::new(path).oneshot(look).await {
        Ok(response) => response.into_parts().0.headers,
        Err(never) => match never {},
    }
}

impl Desk {
    /// Answers with a file that only the storage has.
    async fn pass_on(
        &self,
        entry: &Entry,
        file: &Finished,
        (method, asked): (Method, Option<HeaderValue>),
        downloads: bool,
    ) -> Result<Response, Problem> {
        let unavailable = |error: Option<object_store::Error>| {
            let reason = error.map(|error| UploadError::from(error).reason());
            tracing::warn!(
                recording = entry.id,
                reason,
                "recording cannot be fetched from the storage"
            );
            Problem::new(
                ErrorCode::StorageUnavailable,
                "The storage of recordings does not give this file at the moment. Try again later.",
            )
        };
        let remote = self.remote.as_ref().ok_or_else(|| unavailable(None))?;
        // The storage would not say that it is to be saved.
        if remote.redirects && !downloads {
            let link = remote.link(entry, file, REDIRECT_VALID).await;
            let link = link.map_err(|error| unavailable(Some(error)))?;
            let no_store = [(header::CACHE_CONTROL, "no-store")];
            return Ok((no_store, Redirect::temporary(&link)).into_response());
        }
        let range = asked.and_then(|range| parse_range(range.to_str().ok()?));
        let starts = match &range {
            Some(GetRange::Bounded(range)) => range.start,
            Some(GetRange::Offset(start)) => *start,
            Some(GetRange::Suffix(_)) | None => 0,
        };
        if starts >= file.bytes {
            let all = [(header::CONTENT_RANGE, format!("bytes */{}", file.bytes))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, all).into_response());
        }
        let fetched = remote.get(entry, file, range.clone()).await;
        let fetched = fetched.map_err(|error| unavailable(Some(error)))?;
        let (first, end, size) = (fetched.range.start, fetched.range.end, fetched.size);
        let headers = [
            (header::CONTENT_LENGTH, (end - first).to_string()),
            (header::ACCEPT_RANGES, "bytes".to_owned()),
            (header::CONTENT_TYPE, "video/mp4".to_owned()),
        ];
        let body = if method == Method::HEAD {
            Body::empty()
        } else {
            Body::from_stream(fetched.bytes)
        };
        if range.is_none() {
            return Ok((headers, body).into_response());
        }
        let content = format!("bytes {first}-{}/{size}", end.saturating_sub(1));
        let content = [(header::CONTENT_RANGE, content)];
        Ok((StatusCode::PARTIAL_CONTENT, headers, content, body).into_response())
    }

    /// Returns a recording as the API has it, with fresh links.
    pub(crate) fn show(&self, entry: &Entry) -> Recording {
        let expires_at_ms = unix_ms_now() + self.link_ms;
        let token = self.signer.sign(&prefix(&entry.id), expires_at_ms / 1000);
        let link = |name: &str| format!("/recordings/{}/{token}/{name}", entry.id);
        let size = entry.size();
        let show = |file: &Finished| RecordingFile {
            url: link(&file.name),
            name: file.name.clone(),
            started_at_ms: file.started_at_ms,
            duration_ms: file.duration_ms,
            bytes: file.bytes,
            width: file.size.map(|(width, _)| width),
            height: file.size.map(|(_, height)| height),
            sprite: file.sprite.then(|| link(&file.beside("vtt"))),
        };
        let roles = entry
            .files
            .iter()
            .filter_map(|file| Some((file, file.role.as_ref()?)));
        let tracks = roles.map(|(file, role)| RecordingTrack {
            identity: role.identity.clone(),
            name: role.name.clone(),
            track: role.track,
            file: show(file),
        });
        Recording {
            id: entry.id.clone(),
            room: entry.slug.clone(),
            state: entry.state(),
            code: entry.code,
            started_at_ms: entry.started_at_ms,
            duration_ms: entry.duration_ms(),
            bytes: entry.bytes(),
            width: size.map(|(width, _)| width),
            height: size.map(|(_, height)| height),
            poster: entry.poster.then(|| link(POSTER)),
            files: entry.program().map(show).collect(),
            tracks: tracks.collect(),
            storage: entry.trouble.clone(),
            links_expire_at_ms: expires_at_ms,
        }
    }
}

impl Entry {
    /// Returns whether one of its files has this name.
    fn has(&self, name: &str) -> bool {
        let poster = self.poster && name == POSTER;
        let of = |file: &Finished| {
            let sprite = name == file.beside("vtt") || name == file.beside("jpg");
            name == file.name || (file.sprite && sprite)
        };
        poster || self.files.iter().any(of)
    }
}

impl Finished {
    /// Returns the name of the file beside it with this extension.
    fn beside(&self, extension: &str) -> String {
        let stem = self.name.trim_end_matches(".mp4");
        format!("{stem}.{extension}")
    }
}

/// Reads one range (RFC 9110 §14.1.2); several, or none that can be read, are answered by the whole.
fn parse_range(text: &str) -> Option<GetRange> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    match (first, last) {
        ("", last) => Some(GetRange::Suffix(last.parse().ok()?)),
        (first, "") => Some(GetRange::Offset(first.parse().ok()?)),
        (first, last) => {
            let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
            (first <= last).then(|| GetRange::Bounded(first..last.saturating_add(1)))
        }
    }
}

/// What a token opens.
fn prefix(id: &str) -> String {
    format!("/recordings/{id}/")
}

/// A player asks for ranges while it plays; each asks here first.
const REDIRECT_VALID: Duration = Duration::from_secs(3600);

fn unknown() -> Problem {
    Problem::new(
        ErrorCode::RecordingUnknown,
        "There is no such recording in this room. It may have been deleted.",
    )
}
