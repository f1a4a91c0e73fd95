//! A small picture of each live room, made when somebody looks and not more often than configured.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Extension, Router,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use sfu::{RoomId, Snapshot};

use crate::{
    api::wrong_method,
    etag,
    problem::Problem,
    register::Register,
    service::Room,
    status::ErrorCode,
    still::{Picture, Stills},
};

/// The newest picture of each room that somebody looked at lately.
#[derive(Debug)]
pub(crate) struct Thumbnails {
    /// Zero for none at all.
    period: Duration,
    stills: Stills,
    rooms: Mutex<HashMap<RoomId, Arc<Place>>>,
}

/// A room's picture. Locked while it is made, so that it is made once.
#[derive(Debug, Default)]
struct Place {
    shown: tokio::sync::Mutex<Shown>,
}

#[derive(Debug, Default)]
struct Shown {
    picture: Option<Shot>,
    /// When the room was last looked into.
    looked: Option<Instant>,
    /// When a keyframe was last asked for.
    asked: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Shot {
    /// When the keyframe came that it shows.
    of: Instant,
    jpeg: Bytes,
    /// With its quotes.
    tag: String,
}

impl Thumbnails {
    pub(crate) fn new(seconds: u64, stills: Stills) -> Self {
        Self {
            period: Duration::from_secs(seconds),
            stills,
            rooms: Mutex::default(),
        }
    }

    async fn get(&self, register: &Register, room: RoomId) -> Option<Shot> {
        if self.period.is_zero() {
            return None;
        }
        let place = self.place(room);
        let mut shown = place.shown.lock().await;
        let now = Instant::now();
        // What is over is gone within a second, and a burst of viewers asks once.
        if shown.looked.is_some_and(|at| now < at + LOOK_EVERY) {
            return shown.picture.clone();
        }
        shown.looked = Some(now);
        let may_ask = shown.asked.is_none_or(|at| now >= at + self.period);
        let fresh = may_ask.then_some(self.period);
        let snapshot = register.sources.snapshot(room, fresh).await;
        let is_fresh = |snapshot: &Snapshot| now < snapshot.received + self.period;
        if may_ask && !snapshot.as_ref().is_some_and(is_fresh) {
            shown.asked = Some(now);
        }
        let Some(snapshot) = snapshot else {
            // Also when the newest keyframe is just arriving: what there is goes on until it is too old.
            let young = |shot: &Shot| now < shot.of + self.period * 2;
            let live = register.sources.is_live(room).await;
            shown.picture = shown.picture.take().filter(|shot| live && young(shot));
            return shown.picture.clone();
        };
        let due = |shot: &Shot| snapshot.received >= shot.of + self.period;
        if shown.picture.as_ref().is_none_or(due) {
            let made = self.make(snapshot).await;
            shown.picture = made.or(shown.picture.take());
        }
        shown.picture.clone()
    }

    async fn make(&self, snapshot: Snapshot) -> Option<Shot> {
        let picture = Picture::Rtp {
            codec: snapshot.codec,
            packets: snapshot.packets,
        };
        let jpeg = self.stills.decode(picture, WIDTH).await?;
        metrics::counter!("fanlight_thumbnails_total").increment(1);
        let mut hash = std::hash::DefaultHasher::new();
        std::hash::Hasher::write(&mut hash, &jpeg);
        let tag = format!("\"{:016x}\"", std::hash::Hasher::finish(&hash));
        Some(Shot {
            of: snapshot.received,
            jpeg: jpeg.into(),
            tag,
        })
    }

    fn place(&self, room: RoomId) -> Arc<Place> {
        let mut rooms = self.lock();
        if rooms.len() >= ROOM_LIMIT && !rooms.contains_key(&room) {
            // Whoever is being served keeps theirs.
            rooms.retain(|_, place| Arc::strong_count(place) > 1);
        }
        rooms.entry(room).or_default().clone()
    }

    /// Forgets the pictures that nobody has asked for lately.
    pub(crate) fn forget_old(&self, now: Instant) {
        self.lock().retain(|_, place| match place.shown.try_lock() {
            Ok(shown) => shown.looked.is_some_and(|at| now < at + KEPT),
            Err(_) => true,
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RoomId, Arc<Place>>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the route of the picture. It needs a [`Room`] among the request's extensions.
pub(crate) fn routes(register: Arc<Register>) -> Router {
    Router::new()
        .route(
            "/api/rooms/{room}/thumbnail.jpg",
            get(thumbnail).fallback(wrong_method),
        )
        .with_state(register)
}

async fn thumbnail(
    State(register): State<Arc<Register>>,
    room: Option<Extension<Room>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let shot = match room {
        Some(Extension(room)) => register.thumbnails.get(&register, room.id).await,
        None => None,
    };
    let shot = shot.ok_or_else(|| {
        Problem::new(
            ErrorCode::ThumbnailUnknown,
            "There is no picture of this room: it is not live, or sends no picture that can be shown.",
        )
    })?;
    let mut response = if etag::is_known(&headers, &shot.tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        shot.jpeg.into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("image/jpeg"));
    headers.extend(HeaderValue::from_str(&shot.tag).map(|tag| (header::ETAG, tag)));
    let age = register.config.thumbnail_seconds;
    let cache = HeaderValue::from_str(&format!("public, max-age={age}"));
    headers.extend(cache.map(|value| (header::CACHE_CONTROL, value)));
    Ok(response)
}

const WIDTH: u16 = 640;
const LOOK_EVERY: Duration = Duration::from_secs(1);
const KEPT: Duration = Duration::from_secs(60);
/// More are made anew each time.
const ROOM_LIMIT: usize = 1000;
