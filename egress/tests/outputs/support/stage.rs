//! The service, spoken to through its routes.

use std::{
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use axum::{
    Extension, Router,
    body::{Body, BodyDataStream, Bytes, to_bytes},
    http::{HeaderMap, Request, StatusCode},
};
use egress::{
    Caller, Changed, Config, Room, Service,
    status::{DestinationState, Job},
};
use gst::prelude::*;
use gstreamer as gst;
use serde_json::Value;
use sfu::RoomId;
use tempfile::TempDir;
use tokio::{runtime::Runtime, sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{
    broadcaster::{Broadcaster, Program, Sends},
    log::Log,
};

/// A server with one room.
pub(crate) struct Stage {
    pub(crate) program: Program,
    pub(crate) service: Service,
    pub(crate) events: mpsc::Receiver<Changed>,
    router: Router,
    cancel: CancellationToken,
    tasks: JoinSet<()>,
    directory: TempDir,
    config: Config,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::with_config(Config::default())
    }

    pub(crate) fn with_config(config: Config) -> Self {
        Self::open(
            config,
            tempfile::tempdir().unwrap(),
            Program::default(),
            OWNER,
        )
    }

    /// One where requests are a stranger's.
    pub(crate) fn for_stranger() -> Self {
        Self::for_caller(Caller::default())
    }

    /// One where requests are this caller's.
    pub(crate) fn for_caller(caller: Caller) -> Self {
        Self::open(
            Config::default(),
            tempfile::tempdir().unwrap(),
            Program::default(),
            caller,
        )
    }

    /// Stops the server and starts another one with the same data folder.
    pub(crate) async fn restart(self) -> Self {
        let config = self.config.clone();
        self.restart_with(config).await
    }

    /// The same with another config.
    pub(crate) async fn restart_with(mut self, config: Config) -> Self {
        self.shut_down().await;
        Self::open(config, self.directory, self.program, OWNER)
    }

    /// Ends the server without a chance to clean up, together with the runtime that it runs on, and starts another
    /// one on the current runtime.
    pub(crate) fn crash(self, runtime: Runtime) -> Self {
        let Self {
            config,
            directory,
            program,
            ..
        } = self;
        runtime.shutdown_background();
        Self::open(config, directory, program, OWNER)
    }

    /// One whose workers run on a machine without the plugin of this element.
    pub(crate) fn without(element: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let worker = worker_without(element, directory.path());
        let config = Config::default();
        Self::open_with(&worker, config, directory, Program::default(), OWNER)
    }

    fn open(config: Config, directory: TempDir, program: Program, caller: Caller) -> Self {
        let worker = Path::new(env!("CARGO_BIN_EXE_egress_worker"));
        Self::open_with(worker, config, directory, program, caller)
    }

    fn open_with(
        worker: &Path,
        config: Config,
        directory: TempDir,
        program: Program,
        caller: Caller,
    ) -> Self {
        Log::start();
        let data = directory.path().join("data");
        let service =
            Service::open(config.clone(), program.clone(), worker.to_owned(), &data).unwrap();
        let router = router(&service, "room", caller);
        let cancel = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let (running, cancelled) = (service.clone(), cancel.clone());
        tasks.spawn(async move { running.run(cancelled).await });
        Self {
            program,
            events: service.events(),
            service,
            router,
            cancel,
            tasks,
            directory,
            config,
        }
    }

    /// From here on requests are the owner's.
    pub(crate) fn hand_to_owner(&mut self) {
        self.router = router(&self.service, "room", OWNER);
    }

    /// Returns the routes of another room.
    pub(crate) fn neighbour(&self) -> Router {
        router(&self.service, "neighbour", OWNER)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// Starts broadcasting.
    pub(crate) fn broadcast(&self, sends: Sends) -> Broadcaster {
        Broadcaster::start(&self.program, sends)
    }

    pub(crate) async fn request(
        &self,
        method: &str,
        path: &str,
        body: impl Into<Body>,
    ) -> (StatusCode, HeaderMap, Bytes) {
        let mut request = Request::builder().method(method).uri(path);
        if matches!(method, "POST" | "PATCH") {
            request = request.header("content-type", "application/json");
        }
        self.send(request.body(body.into()).unwrap()).await
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> (StatusCode, HeaderMap, Bytes) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        (
            head.status,
            head.headers,
            to_bytes(body, 1 << 28).await.unwrap(),
        )
    }

    /// Returns the answer's body as it comes.
    pub(crate) async fn stream(&self, request: Request<Body>) -> BodyDataStream {
        let response = self.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response.into_body().into_data_stream()
    }

    /// Starts a job and returns its path.
    pub(crate) async fn start(&self, destinations: Value) -> String {
        self.start_as(serde_json::json!({}), destinations).await
    }

    /// Starts a job of the stage.
    pub(crate) async fn start_composed(&self, preset: &Value, destinations: Value) -> String {
        let wish = serde_json::json!({"source": {"type": "stage"}, "preset": preset});
        self.start_as(wish, destinations).await
    }

    /// Starts a job with what `wish` says besides its destinations.
    pub(crate) async fn start_as(&self, mut wish: Value, destinations: Value) -> String {
        wish["destinations"] = destinations;
        let body = wish.to_string();
        let (status, headers, body) = self.request("POST", "/api/rooms/room/egress", body).await;
        assert_eq!(status, StatusCode::CREATED, "{body:?}");
        headers["location"].to_str().unwrap().to_owned()
    }

    pub(crate) async fn job(&self, path: &str) -> Job {
        let (status, _, body) = self.request("GET", path, "").await;
        assert_eq!(status, StatusCode::OK);
        serde_json::from_slice(&body).unwrap()
    }

    /// Waits until `condition` holds, and returns the job and how long that took.
    pub(crate) async fn wait_for(
        &self,
        path: &str,
        limit: Duration,
        condition: impl Fn(&Job) -> bool,
    ) -> (Job, Duration) {
        let started = Instant::now();
        loop {
            let job = self.job(path).await;
            if condition(&job) {
                return (job, started.elapsed());
            }
            assert!(started.elapsed() < limit, "still {job:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until all destinations are live.
    pub(crate) async fn wait_live(&self, path: &str) -> Job {
        let live = |job: &Job| {
            let mut states = job.destinations.iter().map(|d| d.state);
            states.all(|state| state == DestinationState::Live)
        };
        self.wait_for(path, Duration::from_secs(20), live).await.0
    }

    /// Waits until destination `at` has got so many more seconds of pictures.
    pub(crate) async fn plays(&self, path: &str, at: usize, seconds: u64) -> Job {
        let frames = |job: &Job| job.destinations[at].frames;
        let wanted = frames(&self.job(path).await) + 30 * seconds;
        let limit = Duration::from_secs(20 + 4 * seconds);
        let played = |job: &Job| frames(job) >= wanted;
        self.wait_for(path, limit, played).await.0
    }

    pub(crate) async fn end(&self, path: &str) -> Job {
        let (status, _, body) = self.request("DELETE", path, "").await;
        assert_eq!(status, StatusCode::OK, "{body:?}");
        serde_json::from_slice(&body).unwrap()
    }

    /// Downloads everything that the playlist lists into one file; returns the playlist as well.
    pub(crate) async fn download_hls(&self, name: &str) -> (PathBuf, String) {
        let (mut folder, mut answer) = ("v0", self.hls("v0/index.m3u8").await);
        if answer.0 == StatusCode::NOT_FOUND {
            // A broadcast without picture.
            (folder, answer) = ("audio", self.hls("audio/index.m3u8").await);
        }
        let (status, _, body) = answer;
        assert_eq!(status, StatusCode::OK);
        let playlist = String::from_utf8(body.to_vec()).unwrap();
        let mut all = Vec::new();
        for line in playlist.lines() {
            let file = match line.strip_prefix("#EXT-X-MAP:URI=\"") {
                Some(init) => init.trim_end_matches('"'),
                None if line.starts_with('#') => continue,
                None => line,
            };
            let (status, _, body) = self.hls(&format!("{folder}/{file}")).await;
            assert_eq!(status, StatusCode::OK, "{file}");
            all.extend_from_slice(&body);
        }
        let path = self.directory.path().join(name);
        std::fs::write(&path, all).unwrap();
        (path, playlist)
    }

    async fn hls(&self, path: &str) -> (StatusCode, HeaderMap, Bytes) {
        self.request("GET", &format!("/hls/room/{path}"), "").await
    }

    /// Stops the server and waits for it.
    async fn shut_down(&mut self) {
        self.cancel.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let ended = tokio::time::timeout(Duration::from_secs(60), all).await;
        ended.expect("the service does not end");
    }

    pub(crate) async fn stop(mut self) {
        self.shut_down().await;
    }
}

fn router(service: &Service, slug: &str, caller: Caller) -> Router {
    let room = Room {
        id: RoomId(if slug == "room" { 1 } else { 2 }),
        slug: slug.to_owned(),
    };
    service
        .api_routes()
        .merge(service.thumbnail_routes())
        .layer(Extension(room))
        .layer(Extension(caller))
        .merge(service.hls_routes())
        .merge(service.recording_routes())
}

/// Makes a program that starts a worker which finds all plugins but that of `element`.
fn worker_without(element: &str, directory: &Path) -> PathBuf {
    gst::init().unwrap();
    let factory = gst::ElementFactory::find(element).unwrap();
    let missing = factory.plugin().unwrap().filename().unwrap();
    let plugins = directory.join("plugins");
    std::fs::create_dir(&plugins).unwrap();
    for entry in std::fs::read_dir(missing.parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() && path != missing {
            symlink(&path, plugins.join(path.file_name().unwrap())).unwrap();
        }
    }
    let worker = directory.join("worker");
    let script = format!(
        "#!/bin/sh\nexec env GST_PLUGIN_SYSTEM_PATH_1_0={} GST_REGISTRY_1_0={} {} \"$@\"\n",
        plugins.display(),
        directory.join("registry").display(),
        env!("CARGO_BIN_EXE_egress_worker"),
    );
    std::fs::write(&worker, script).unwrap();
    std::fs::set_permissions(&worker, PermissionsExt::from_mode(0o700)).unwrap();
    worker
}

/// Who may send to this machine.
const OWNER: Caller = Caller {
    trusted: true,
    until_unix_s: None,
};
