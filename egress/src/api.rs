//! The HTTP routes.

use std::time::Duration;

use aws_lc_rs::digest;
use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State, rejection::BytesRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
    routing::{get, patch, post},
};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::{
    sync::{
        broadcast::{self, error::RecvError},
        watch,
    },
    time::{Instant, sleep_until},
};

use crate::{
    album,
    problem::Problem,
    recording::Entry,
    service::{Caller, Room, Service},
    status::{
        Change, Destination, DestinationChange, ErrorCode, HlsToken, HlsTokenRequest, Job, JobList,
        Request,
    },
    wall_clock::unix_ms_now,
};

/// Returns the routes of jobs.
pub(crate) fn job_routes(service: Service) -> Router {
    Router::new()
        .route(
            "/api/rooms/{room}/egress",
            get(list_jobs).post(start_job).fallback(wrong_method),
        )
        .route(
            "/api/rooms/{room}/egress/events",
            get(follow_jobs).fallback(wrong_method),
        )
        .route(
            "/api/rooms/{room}/egress/{id}",
            get(get_job)
                .patch(change_job)
                .delete(end_job)
                .fallback(wrong_method),
        )
        .route(
            "/api/rooms/{room}/egress/{id}/destinations",
            post(add_destination).fallback(wrong_method),
        )
        .route(
            "/api/rooms/{room}/egress/{id}/destinations/{destination}",
            patch(change_destination)
                .delete(remove_destination)
                .fallback(wrong_method),
        )
        .route(
            "/api/rooms/{room}/hls/tokens",
            post(sign_hls).fallback(wrong_method),
        )
        .merge(album::routes())
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::from_fn_with_state(
            service.clone(),
            after_resume,
        ))
        .with_state(service)
}

async fn after_resume(
    State(service): State<Service>,
    request: axum::extract::Request,
    next: middleware::Next,
) -> Response {
    service.resumed().await;
    next.run(request).await
}

async fn start_job(
    State(service): State<Service>,
    Extension(room): Extension<Room>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let (request, body) = read::<Request>(&headers, body)?;
    let idempotency = match headers.get(IDEMPOTENCY_KEY) {
        Some(key) => Some((idempotency_key(key)?, fingerprint(&body))),
        None => None,
    };
    let started = service
        .start(room, &request, caller.trusted, idempotency)
        .await?;
    let job = started.job;
    let location = format!("/api/rooms/{}/egress/{}", job.room, job.id);
    let mut response = (
        StatusCode::CREATED,
        [(header::LOCATION, location), no_store()],
        Json(job),
    )
        .into_response();
    if started.replayed {
        let replayed = HeaderValue::from_static("true");
        response.headers_mut().insert(REPLAYED, replayed);
    }
    Ok(response)
}

async fn change_job(
    State(service): State<Service>,
    Extension(room): Extension<Room>,
    Extension(caller): Extension<Caller>,
    Path((_, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<impl IntoResponse, Problem> {
    let (change, _) = read::<Change>(&headers, body)?;
    let job = service.change(&room, &id, &change, caller.trusted).await?;
    Ok(([no_store()], Json(job)))
}

async fn add_destination(
    State(service): State<Service>,
    Extension(room): Extension<Room>,
    Extension(caller): Extension<Caller>,
    Path((_, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<impl IntoResponse, Problem> {
    let (destination, _) = read::<Destination>(&headers, body)?;
    let change = Change {
        add: vec![destination],
        ..Change::default()
    };
    let job = service.change(&room, &id, &change, caller.trusted).await?;
    Ok((StatusCode::CREATED, [no_store()], Json(job)))
}

async fn change_destination(
    State(service): State<Service>,
    Extension(room): Extension<Room>,
    Extension(caller): Extension<Caller>,
    Path((_, id, destination)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<impl IntoResponse, Problem> {
    let (change, _) = read::<DestinationChange>(&headers, body)?;
    let job = service
        .readdress(&room, &id, &destination, change, caller.trusted)
        .await?;
    Ok(([no_store()], Json(job)))
}

async fn remove_destination(
    State(service): State<Service>,
    Extension(room): Extension<Room>,
    Extension(caller): Extension<Caller>,
    Path((_, id, destination)): Path<(String, String, String)>,
) -> Result<impl IntoResponse, Problem> {
    let change = Change {
        remove: vec![destination],
        ..Change::default()
    };
    let job = service.change(&room, &id, &change, caller.trusted).await?;
    Ok(([no_store()], Json(job)))
}

async fn list_jobs(
    State(service): State<Service>,
    Extension(room): Extension<Room>,
) -> impl IntoResponse {
    let jobs = service.list(room.id);
    ([no_store()], Json(JobList { jobs }))
}

/// Server-sent events: the list of jobs as it is, and then whenever it changes, and recordings that become ready; for
/// as long as the caller may.
async fn follow_jobs(
    State(service): State<Service>,
    Extension(room): Extension<Room>,
    Extension(caller): Extension<Caller>,
) -> impl IntoResponse {
    let left_ms = |until: u64| until.saturating_mul(1000).saturating_sub(unix_ms_now());
    let end = caller
        .until_unix_s
        .and_then(|until| Instant::now().checked_add(Duration::from_millis(left_ms(until))));
    let follower = Follower {
        jobs: service.follow_room(&room),
        recordings: service.follow_recordings(),
        room,
        service,
        end,
    };
    let events = futures_util::stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((event, follower))
    });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    ([no_store()], Sse::new(events).keep_alive(keep_alive))
}

/// One who is sent a room's events.
struct Follower {
    service: Service,
    room: Room,
    jobs: watch::Receiver<JobList>,
    recordings: broadcast::Receiver<Entry>,
    /// When the right to see them ends.
    end: Option<Instant>,
}

impl Follower {
    /// Returns the next event; `None` at the end.
    async fn next(&mut self) -> Option<Result<Event, axum::Error>> {
        loop {
            tokio::select! {
                changed = self.jobs.changed() => {
                    changed.ok()?;
                    let list = self.jobs.borrow_and_update().clone();
                    return Some(Event::default().event("jobs").json_data(list));
                }
                ready = self.recordings.recv() => match ready {
                    Ok(entry) if entry.room == self.room.id.0 => {
                        let recording = self.service.show_recording(&entry);
                        let event = Event::default().event("recording_ready");
                        return Some(event.json_data(json!({ "recording": recording })));
                    }
                    Ok(_) => {}
                    // Who has missed some begins anew, and reads the list.
                    Err(RecvError::Lagged(_) | RecvError::Closed) => return None,
                },
                () = self.service.stopping() => return None,
                () = sleep_until_some(self.end) => return None,
            }
        }
    }
}

async fn sleep_until_some(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn get_job(
    State(service): State<Service>,
    Extension(room): Extension<Room>,
    Path((_, id)): Path<(String, String)>,
) -> Result<impl IntoResponse, Problem> {
    let job = service.get(room.id, &id).ok_or_else(unknown_job)?;
    Ok(([no_store()], Json(job)))
}

async fn end_job(
    State(service): State<Service>,
    Extension(room): Extension<Room>,
    Path((_, id)): Path<(String, String)>,
) -> Result<Json<Job>, Problem> {
    let job = service.end(room.id, &id).await;
    job.map(Json).ok_or_else(unknown_job)
}

async fn sign_hls(
    State(service): State<Service>,
    Extension(room): Extension<Room>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<impl IntoResponse, Problem> {
    let (wanted, _) = read::<HlsTokenRequest>(&headers, body)?;
    if !(1..=MONTH_S).contains(&wanted.valid_for_s) {
        return Err(Problem::new(
            ErrorCode::BadRequest,
            format!("A token is valid for 1 to {MONTH_S} seconds (“valid_for_s”)."),
        ));
    }
    let expires = unix_ms_now() / 1000 + wanted.valid_for_s;
    let slug = room.slug;
    let token = service.signer().sign(&format!("/hls/{slug}/"), expires);
    let token = HlsToken {
        path: format!("/hls/{slug}/~{token}/index.m3u8"),
        token,
        expires_at_ms: expires * 1000,
    };
    Ok((StatusCode::CREATED, [no_store()], Json(token)))
}

/// Returns what a body says, and the body.
fn read<T: Body>(
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(T, Bytes), Problem> {
    let media_type = headers.get(header::CONTENT_TYPE);
    let media_type = media_type.and_then(|value| value.to_str().ok());
    let essence = media_type.and_then(|value| value.split(';').next());
    if !essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json")) {
        return Err(Problem::new(
            ErrorCode::UnsupportedMediaType,
            "Send JSON, with the header “Content-Type: application/json”.",
        ));
    }
    let body = body.map_err(|e| {
        if e.status() == StatusCode::PAYLOAD_TOO_LARGE {
            let limit = format!("The body must not be larger than {} KiB.", BODY_LIMIT >> 10);
            return Problem::new(ErrorCode::BodyTooLarge, limit);
        }
        Problem::new(ErrorCode::BadRequest, e.body_text())
    })?;
    let value = serde_json::from_slice(&body).map_err(|e| bad_json(&e, T::EXAMPLE))?;
    Ok((value, body))
}

fn idempotency_key(value: &HeaderValue) -> Result<String, Problem> {
    let key = value.to_str().unwrap_or_default().trim();
    if key.is_empty() || key.len() > 255 {
        return Err(Problem::new(
            ErrorCode::BadRequest,
            "The idempotency key must be 1 to 255 characters.",
        ));
    }
    Ok(key.to_owned())
}

/// Tells requests apart. Kept sealed, because it depends on stream keys.
fn fingerprint(body: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, body).as_ref().to_vec()
}

pub(crate) async fn wrong_method() -> Problem {
    Problem::new(
        ErrorCode::MethodNotAllowed,
        "This address does not take this method.",
    )
}

/// What a request brings.
trait Body: DeserializeOwned {
    /// What one is like.
    const EXAMPLE: &str;
}

impl Body for Request {
    const EXAMPLE: &str =
        r#"{"destinations":[{"type":"rtmp","url":"rtmp://host/app","key":"…"},{"type":"hls"}]}"#;
}

impl Body for Change {
    const EXAMPLE: &str = r#"{"add":[{"type":"hls"}],"remove":["an id"],"layout":"grid"}"#;
}

impl Body for Destination {
    const EXAMPLE: &str = r#"{"type":"rtmp","url":"rtmp://host/app","key":"…"}"#;
}

impl Body for DestinationChange {
    const EXAMPLE: &str = r#"{"url":"rtmp://host/app","key":"…"}, or {} to try again"#;
}

impl Body for HlsTokenRequest {
    const EXAMPLE: &str = r#"{"valid_for_s":3600}"#;
}

/// Says where the mistake is, but does not repeat what was sent: it may be a stream key.
fn bad_json(error: &serde_json::Error, example: &str) -> Problem {
    let text = error.to_string();
    let text = text
        .split_once(" at line ")
        .map_or(text.as_str(), |(text, _)| text);
    // From here on it speaks of what is taken, not of what was sent.
    let expected = text.find(", expected ").and_then(|at| text.get(at..));
    let expected = expected.unwrap_or_default();
    let kind = match error.classify() {
        serde_json::error::Category::Data if text.starts_with("unknown") => {
            format!("an unknown field or type{expected}")
        }
        serde_json::error::Category::Data if text.starts_with("missing field") => {
            format!("a {text}")
        }
        serde_json::error::Category::Data if text.starts_with(PRESET) => format!("no {text}"),
        serde_json::error::Category::Data => format!("a value of the wrong type{expected}"),
        serde_json::error::Category::Syntax
        | serde_json::error::Category::Eof
        | serde_json::error::Category::Io => "something that is not JSON".to_owned(),
    };
    Problem::new(
        ErrorCode::BadRequest,
        format!(
            "The body of such a request is like {example}; this one has {kind} at line {}, column {}.",
            error.line(),
            error.column()
        ),
    )
}

fn unknown_job() -> Problem {
    Problem::new(
        ErrorCode::EgressUnknown,
        "The room has no such output, or it ended long ago.",
    )
}

pub(crate) fn no_store() -> (header::HeaderName, String) {
    (header::CACHE_CONTROL, "no-store".to_owned())
}

/// How the expectation of a preset begins.
const PRESET: &str = "preset:";
/// draft-ietf-httpapi-idempotency-key-header.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
const REPLAYED: &str = "idempotent-replayed";
/// Proxies close connections on which nothing is said for a minute or so.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const BODY_LIMIT: usize = 64 << 10;
const MONTH_S: u64 = 31 * 86_400;
