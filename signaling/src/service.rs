//! [`Service`]: what the app holds of signaling, and what its routes share.

use std::{
    io,
    path::{self, Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use axum::{Router, http::HeaderMap};
use sfu::{
    Event, HandleError, Join, NegotiateError, PeerId, RestartError, RestartIceError, Role,
    RoomConfig, RoomId,
};
use thiserror::Error;
use tokio::sync::{Notify, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Config, Grant, Problem, announcer, api,
    auth::{self, Claims, EVERY_ROOM, Keys, Member},
    chat,
    clock::{unix_ms, unix_seconds},
    directory::{Directory, Errand, Owner},
    gallery::Gallery,
    look::Look,
    meters,
    protocol::{ErrorCode, ImageKind},
    room::{Performance, Purpose, Room},
    store::{RoomRecord, Store, StoreError},
    token, whep, whip, ws,
};

/// Signaling. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Service {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Config,
    keys: Keys,
    store: Store,
    gallery: Gallery,
    /// Held while a room is changed in the store and then in the directory, so that both have the same.
    changing_rooms: tokio::sync::Mutex<()>,
    sfu: sfu::Handle,
    directory: Mutex<Directory>,
    /// Wakes the announcer.
    changed: Notify,
    /// Wakes who waits for performances.
    performed: Notify,
    /// Work that must be finished once begun, and open WebSockets.
    tasks: TaskTracker,
}

/// A room, as other crates know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomRef {
    /// Its id in the SFU.
    pub id: RoomId,
    /// Its name in URLs.
    pub slug: String,
}

/// What somebody offers to send or to receive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MediaOffer {
    /// What for.
    pub(crate) role: Role,
    /// The SDP offer.
    pub(crate) sdp: String,
    /// Whether to receive what the same participant publishes.
    pub(crate) own: bool,
}

/// Why signaling could not start.
#[derive(Debug, Error)]
pub enum OpenError {
    /// A setting is out of its range.
    #[error("signaling.{0}")]
    Config(&'static str),
    /// The secret cannot be read or made.
    #[error("cannot use the token secret in the data folder")]
    Secret(#[source] io::Error),
    /// The data folder cannot be found.
    #[error("cannot find the data folder")]
    Folder(#[source] io::Error),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Service {
    /// Opens the store in the data folder and loads the token secret, making what is missing.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(
        config: Config,
        data_dir: &Path,
        sfu: sfu::Handle,
    ) -> Result<Self, OpenError> {
        config.validate().map_err(OpenError::Config)?;
        meters::describe();
        let secret = token::secret(&config, data_dir).map_err(OpenError::Secret)?;
        let store = Store::open(data_dir).await?;
        // Who reads the images has another working folder.
        let images = path::absolute(data_dir)
            .map_err(OpenError::Folder)?
            .join("images");
        let grace = Duration::from_secs(config.broadcast_grace_seconds);
        let inner = Inner {
            keys: Keys::new(&secret),
            config,
            store,
            gallery: Gallery::new(images),
            changing_rooms: tokio::sync::Mutex::default(),
            sfu,
            directory: Mutex::new(Directory::new(grace)),
            changed: Notify::new(),
            performed: Notify::new(),
            tasks: TaskTracker::new(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Returns the routes: `/ws/…`, `/whip/…`, `/whep/…`, `/api/rooms…`.
    pub fn routes(&self) -> Router {
        Router::new()
            .merge(ws::routes())
            .merge(whip::routes())
            .merge(whep::routes())
            .merge(api::routes())
            .with_state(self.clone())
    }

    /// Takes the SFU's events until cancelled, then closes the sessions so that pages come back.
    pub async fn run(&self, mut events: mpsc::Receiver<Event>, cancel: CancellationToken) {
        let (greet, newcomers) = mpsc::channel(QUEUE);
        let (say, said) = mpsc::channel(QUEUE);
        let desk = chat::Desk::new(
            &self.inner.config.chat,
            self.inner.store.clone(),
            self.sfu().clone(),
        );
        let intake = async {
            // Never waits for the SFU or the store: the SFU waits for this queue to be read.
            loop {
                let event = tokio::select! {
                    event = events.recv() => event,
                    () = cancel.cancelled() => None,
                };
                let Some(event) = event else { break };
                self.take(event, &greet, &say);
            }
            drop((greet, say));
            self.directory().close_sessions();
        };
        tokio::join!(intake, announcer::run(self, newcomers), desk.run(said));
        self.inner.tasks.close();
        if tokio::time::timeout(CLOSE_WITHIN, self.inner.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("sessions did not close in time");
        }
    }

    /// Checks that the bearer of a request may do this in a room, and returns the room.
    ///
    /// # Errors
    /// With the codes `token_missing`, `token_invalid`, `token_expired`, `token_wrong_room`, `not_allowed`,
    /// `room_unknown`, `room_name_invalid`.
    pub async fn authorize(
        &self,
        headers: &HeaderMap,
        room: &str,
        grant: Grant,
    ) -> Result<RoomRef, Problem> {
        let claims = self.claims(headers)?;
        let member = self.admit(claims.as_ref(), room, None)?;
        member.allow(grant)?;
        let id = self.room(room, false).await.map_err(|problem| {
            if problem.code != ErrorCode::RoomUnknown {
                return problem;
            }
            // Who has come so far works on the room, and is no viewer with a wrong link.
            let how = if check_owner(claims.as_ref()).is_ok() {
                format!("make it: POST /api/rooms {{\"slug\": \"{room}\"}}")
            } else {
                "have it made: by its host, who goes live, or by the owner of the server (POST /api/rooms)"
                    .to_owned()
            };
            let detail = format!("There is no room \"{room}\". Check the name, or {how}.");
            Problem::new(ErrorCode::RoomUnknown, detail)
        })?;
        Ok(RoomRef {
            id,
            slug: room.to_owned(),
        })
    }

    /// Checks that the bearer of a request may administer all rooms.
    ///
    /// # Errors
    /// With the codes `token_missing`, `token_invalid`, `token_expired`, `token_wrong_room`, `not_allowed`.
    pub fn authorize_owner(&self, headers: &HeaderMap) -> Result<(), Problem> {
        check_owner(self.claims(headers)?.as_ref())
    }

    /// Returns until when the bearer token of a request is valid, Unix seconds; `None` without a valid one.
    pub fn expiry(&self, headers: &HeaderMap) -> Option<u64> {
        let claims = self.claims(headers).ok().flatten()?;
        Some(claims.exp)
    }

    /// Returns the room with this name; `None` when there is none, or the store fails.
    pub async fn find_room(&self, slug: &str) -> Option<RoomRef> {
        let id = self.room(slug, false).await.ok()?;
        Some(RoomRef {
            id,
            slug: slug.to_owned(),
        })
    }

    /// Tells a room what its outputs do: `jobs` to those who may see them, and everybody whether there is a
    /// playlist.
    pub fn outputs_changed(&self, room: RoomId, jobs: serde_json::Value, hls: bool) {
        self.directory().set_outputs(room, jobs, hls);
        self.inner.changed.notify_one();
    }

    /// Waits until the performances of some rooms have changed, and returns them. For one who waits; cancel safe.
    pub async fn performances(&self) -> Vec<(RoomId, Performance)> {
        loop {
            let changed = self.directory().changed_performances();
            if !changed.is_empty() {
                return changed;
            }
            self.inner.performed.notified().await;
        }
    }

    /// Returns the file of an image of a room's look: a PNG; `None` when it has none of this kind. Another image
    /// has another file.
    pub fn image_file(&self, room: RoomId, look: &Look, kind: ImageKind) -> Option<PathBuf> {
        let image = look.images.get(&kind)?;
        Some(self.gallery().file(room, kind, image))
    }

    /// Says that a performance may have changed.
    pub(crate) fn notice_performances(&self) {
        self.inner.performed.notify_one();
    }

    /// Tells those who may see a room's outputs that a recording can be played.
    pub fn recording_ready(&self, room: RoomId, recording: serde_json::Value) {
        self.directory().tell_recording(room, recording);
    }

    pub(crate) fn config(&self) -> &Config {
        &self.inner.config
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.inner.keys
    }

    pub(crate) fn store(&self) -> &Store {
        &self.inner.store
    }

    pub(crate) fn gallery(&self) -> &Gallery {
        &self.inner.gallery
    }

    pub(crate) fn changing_rooms(&self) -> &tokio::sync::Mutex<()> {
        &self.inner.changing_rooms
    }

    pub(crate) fn sfu(&self) -> &sfu::Handle {
        &self.inner.sfu
    }

    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.inner.tasks
    }

    /// Wakes the announcer: a room may have changed.
    pub(crate) fn changed(&self) -> &Notify {
        &self.inner.changed
    }

    /// Locks the directory, for a moment: no await, no I/O.
    pub(crate) fn directory(&self) -> MutexGuard<'_, Directory> {
        // After a panic inside, the rest of the directory is as good as before.
        self.inner
            .directory
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Returns what the bearer token of a request says.
    pub(crate) fn claims(&self, headers: &HeaderMap) -> Result<Option<Claims>, Problem> {
        self.inner.keys.verify_bearer(headers, unix_seconds())
    }

    /// Decides who somebody is in a room.
    pub(crate) fn admit(
        &self,
        claims: Option<&Claims>,
        slug: &str,
        name: Option<&str>,
    ) -> Result<Member, Problem> {
        let guests_chat = self.inner.config.chat.guests;
        auth::admit(claims, slug, name, guests_chat, || {
            token::random_word("guest-")
        })
    }

    /// Refuses when there are as many sessions as the configuration allows.
    pub(crate) fn check_capacity(&self) -> Result<(), Problem> {
        if self.directory().session_count() < self.inner.config.max_sessions {
            return Ok(());
        }
        Err(full())
    }

    /// Returns the room with this name, and makes it first when asked to.
    pub(crate) async fn room(&self, slug: &str, make: bool) -> Result<RoomId, Problem> {
        if let Some(id) = self.directory().find(slug, Instant::now()) {
            return Ok(id);
        }
        auth::check_slug(slug)?;
        let store = &self.inner.store;
        let found = if make {
            store.find_or_create_room(slug, unix_ms()).await.map(Some)
        } else {
            store.find_room(slug).await
        };
        match found {
            Ok(Some(record)) => Ok(self.open_room(&record)),
            Ok(None) => Err(Problem::new(
                ErrorCode::RoomUnknown,
                format!("There is no room \"{slug}\". Check the link, or ask for a new one."),
            )),
            Err(error) => Err(Problem::internal(&error)),
        }
    }

    pub(crate) fn open_room(&self, record: &RoomRecord) -> RoomId {
        let id = self.directory().open(record, Instant::now());
        // Somebody may be about to compose it.
        self.inner.changed.notify_one();
        id
    }

    /// Offers to the SFU what a member may offer; the peer is noted before the answer can be used. Once begun
    /// it is finished, also when the caller goes away.
    pub(crate) async fn negotiate(
        &self,
        room: RoomId,
        member: Arc<Member>,
        owner: Owner,
        offer: MediaOffer,
    ) -> Result<sfu::Answer, Problem> {
        let service = self.clone();
        let MediaOffer { role, sdp, own } = offer;
        let work = async move {
            let participant = member.participant();
            let purpose = Purpose::of(role, &sdp);
            let stage_size = service.directory().room(room).map(Room::stage_size);
            let config = RoomConfig {
                stage_size: stage_size.unwrap_or(RoomConfig::default().stage_size),
            };
            service
                .directory()
                .reserve(room, role, &member, Instant::now())?;
            match service
                .sfu()
                .negotiate(
                    Join {
                        room,
                        participant,
                        role,
                        sees_own: own,
                        config,
                    },
                    sdp,
                )
                .await
            {
                Ok(answer) => {
                    let now = Instant::now();
                    let featured = {
                        let mut directory = service.directory();
                        directory.add_peer(room, answer.peer, purpose, member, owner, now);
                        directory.room(room).and_then(Room::featured)
                    };
                    // The SFU forgets it with a room that was empty for a moment.
                    if role == Role::Publisher && featured.is_some() {
                        service.sfu().feature(room, featured).await;
                    }
                    Ok(answer)
                }
                Err(error) => {
                    let now = Instant::now();
                    service.directory().release(room, role, &member, now);
                    Err(refused_offer(&error))
                }
            }
        };
        match self.inner.tasks.spawn(work).await {
            Ok(outcome) => outcome,
            Err(error) => Err(Problem::internal(&error)),
        }
    }

    /// Closes a peer whose participant is done: a broadcast of theirs is over, and the next is a new one.
    pub(crate) async fn stop_peer(&self, peer: PeerId) {
        let guests = self.directory().stop(peer, Instant::now());
        self.close_peers(std::iter::once(peer).chain(guests)).await;
    }

    /// Ends the broadcast of a participant who is done and whose peer is gone already.
    pub(crate) async fn finish(&self, room: RoomId, member: &Member) {
        let guests = self.directory().finish(room, member, Instant::now());
        self.close_peers(guests).await;
        self.changed().notify_one();
    }

    /// Limits the layers that a viewer is sent.
    pub(crate) async fn limit(&self, peer: PeerId, highest: Option<u8>) {
        self.sfu().limit(peer, highest).await;
    }

    /// Begins a new ICE session of a peer when a fragment has new credentials; `None` when it has not.
    pub(crate) async fn restart_ice(
        &self,
        peer: PeerId,
        fragment: String,
    ) -> Result<Option<sfu::IceRestart>, Problem> {
        match self.sfu().restart_ice(peer, fragment).await {
            Ok(restart) => Ok(restart),
            Err(RestartIceError::Stopped) => Err(full()),
            Err(RestartIceError::Refused(RestartError::UnknownPeer)) => Err(Problem::new(
                ErrorCode::SessionUnknown,
                "There is no such session, or it has ended.",
            )),
            Err(RestartIceError::Refused(error @ RestartError::NoCredentials)) => {
                Err(Problem::new(ErrorCode::SdpInvalid, error.to_string()))
            }
        }
    }

    /// Features somebody on a room's stage, or nobody.
    pub(crate) async fn feature(
        &self,
        room: RoomId,
        identity: Option<&str>,
    ) -> Result<(), Problem> {
        let unknown = || Problem::new(ErrorCode::RoomUnknown, "There is no such room.");
        let featured = self
            .directory()
            .room_mut(room)
            .ok_or_else(unknown)?
            .feature(identity)?;
        self.sfu().feature(room, featured).await;
        self.changed().notify_one();
        Ok(())
    }

    /// Closes peers on request.
    pub(crate) async fn close_peers(&self, peers: impl IntoIterator<Item = PeerId>) {
        for peer in peers {
            self.sfu().close(peer, sfu::CloseReason::Requested).await;
        }
    }

    fn take(
        &self,
        event: Event,
        greet: &mpsc::Sender<(PeerId, RoomId)>,
        say: &mpsc::Sender<chat::Errand>,
    ) {
        log(&event);
        let errand = self
            .directory()
            .handle_event(event, Instant::now(), unix_ms());
        let dropped = match errand {
            None => {
                self.inner.changed.notify_one();
                return;
            }
            // The next change of the room tells it too.
            Some(Errand::Greet(peer, room)) => greet.try_send((peer, room)).is_err(),
            Some(Errand::Chat(errand)) => say.try_send(errand).is_err(),
        };
        if dropped {
            metrics::counter!("fanlight_errands_dropped_total", "reason" => "queue full")
                .increment(1);
        }
    }
}

fn log(event: &Event) {
    match event {
        Event::Connected { peer } => tracing::debug!(%peer, "peer connected"),
        Event::Closed {
            peer, room, reason, ..
        } => {
            tracing::debug!(%peer, %room, reason = reason.as_str(), "peer closed");
        }
        Event::Published {
            peer,
            room,
            publication,
            codec,
            ..
        } => {
            tracing::info!(%room, %peer, %publication, ?codec, "published");
        }
        Event::Unpublished {
            room, publication, ..
        } => {
            tracing::info!(%room, %publication, "unpublished");
        }
        Event::ChannelOpened { peer, .. } => tracing::debug!(%peer, "data channel opened"),
        Event::Message { .. } | Event::Stage { .. } | Event::LayersWanted { .. } => {}
    }
}

fn check_owner(claims: Option<&Claims>) -> Result<(), Problem> {
    let Some(claims) = claims else {
        return Err(Problem::new(
            ErrorCode::TokenMissing,
            "A token for all rooms is needed.",
        ));
    };
    if !claims.admin {
        return Err(Problem::new(
            ErrorCode::NotAllowed,
            "This token does not allow this.",
        ));
    }
    if claims.room != EVERY_ROOM {
        return Err(Problem::new(
            ErrorCode::TokenWrongRoom,
            format!("This token is for the room \"{}\" only.", claims.room),
        ));
    }
    Ok(())
}

fn refused_offer(error: &HandleError) -> Problem {
    match error {
        HandleError::Stopped | HandleError::Negotiate(NegotiateError::Full) => full(),
        HandleError::Negotiate(error @ NegotiateError::Sdp(_)) => {
            Problem::new(ErrorCode::SdpInvalid, error.to_string())
        }
        HandleError::Negotiate(
            error @ (NegotiateError::NoCommonMedia | NegotiateError::NoCommonCodec(_)),
        ) => Problem::new(ErrorCode::NoCommonMedia, error.to_string()),
    }
}

fn full() -> Problem {
    Problem::new(
        ErrorCode::ServerFull,
        "The server is full or restarting. Try again in a moment.",
    )
}

/// Newcomers and chat messages waiting. When full, a newcomer hears of the room with its next change, and a
/// chat message is dropped and counted.
const QUEUE: usize = 1024;

const CLOSE_WITHIN: Duration = Duration::from_secs(3);
