//! A real RTMP server: nginx with its rtmp module, recording what it gets.

use std::{
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, http::StatusCode, routing::post};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::wait;

/// Something the RTMP server reported, such as `publish` of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) what: String,
    pub(crate) key: String,
}

/// An nginx of its own. Keys that start with `denied` are refused.
pub(crate) struct RtmpServer {
    dir: TempDir,
    port: u16,
    calls: Arc<Mutex<Vec<Call>>>,
    nginx: Option<Child>,
    _callbacks: JoinSet<()>,
}

impl RtmpServer {
    /// Starts it and waits until it listens.
    pub(crate) async fn start() -> Self {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .unwrap();
        let callback_port = listener.local_addr().unwrap().port();
        let mut callbacks = JoinSet::new();
        let routes = Router::new().route(
            "/",
            post({
                let calls = Arc::clone(&calls);
                async move |form: String| answer(&calls, &form)
            }),
        );
        callbacks.spawn(async move { axum::serve(listener, routes).await.unwrap() });

        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("recordings")).unwrap();
        let port = free_port();
        let config = CONFIG
            .replace("$DIR", dir.path().to_str().unwrap())
            .replace("$PORT", &port.to_string())
            .replace("$CALLBACK", &format!("http://127.0.0.1:{callback_port}/"));
        std::fs::write(dir.path().join("nginx.conf"), config).unwrap();
        let mut server = Self {
            dir,
            port,
            calls,
            nginx: None,
            _callbacks: callbacks,
        };
        server.resume().await;
        server
    }

    /// Starts nginx again after [`RtmpServer::stop`].
    pub(crate) async fn resume(&mut self) {
        let nginx = Command::new("nginx")
            .arg("-p")
            .arg(self.dir.path())
            .arg("-c")
            .arg(self.dir.path().join("nginx.conf"))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.nginx = Some(nginx);
        let log = self.dir.path().join("error.log");
        wait::until("nginx listens", async || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))
                .map_err(|error| (error, std::fs::read_to_string(&log)))
        })
        .await;
    }

    /// Stops nginx at once: connections are closed, and further ones refused.
    pub(crate) fn stop(&mut self) {
        if let Some(mut nginx) = self.nginx.take() {
            kill(Pid::from_raw(nginx.id().cast_signed()), Signal::SIGTERM).unwrap();
            nginx.wait().unwrap();
        }
    }

    /// Returns the URL without a key.
    pub(crate) fn url(&self) -> String {
        format!("rtmp://127.0.0.1:{}/live", self.port)
    }

    /// Returns how often it reported `what` of `key`.
    pub(crate) fn count(&self, what: &str, key: &str) -> usize {
        let calls = self.calls.lock().unwrap();
        calls
            .iter()
            .filter(|call| call.what == what && call.key == key)
            .count()
    }

    /// Waits for the `count`th report.
    pub(crate) async fn reported(&self, what: &str, key: &str, count: usize) {
        wait::until(
            &format!("{count} x {what} of {key} at the RTMP server"),
            async || {
                let calls = self.calls.lock().unwrap().clone();
                wait::check(self.count(what, key) >= count, calls)
            },
        )
        .await;
    }

    /// Returns the recordings of a key, oldest first.
    pub(crate) fn recordings(&self, key: &str) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = std::fs::read_dir(self.dir.path().join("recordings"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                let name = path.file_name().unwrap().to_str().unwrap();
                name.strip_prefix(key)
                    .is_some_and(|rest| rest.starts_with('-'))
            })
            .collect();
        found.sort_by_key(|path| std::fs::metadata(path).unwrap().modified().unwrap());
        found
    }
}

impl Drop for RtmpServer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.dir.path().join("error.log"));
            let lines: Vec<_> = log.iter().flat_map(|log| log.lines()).collect();
            let tail = &lines[lines.len().saturating_sub(20)..];
            eprintln!(
                "the RTMP server was told {:?}; its log: {tail:#?}",
                self.calls.lock()
            );
        }
        self.stop();
    }
}

fn answer(calls: &Mutex<Vec<Call>>, form: &str) -> StatusCode {
    let field = |name: &str| {
        let mut pairs = form.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.to_owned())
            .unwrap_or_default()
    };
    let call = Call {
        what: field("call"),
        key: field("name"),
    };
    let denied = call.what == "publish" && call.key.starts_with("denied");
    calls.lock().unwrap().push(call);
    if denied {
        StatusCode::FORBIDDEN
    } else {
        StatusCode::OK
    }
}

/// Returns a TCP port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// How soon a failure must be shown.
pub(crate) const FAILURE_SHOWN: Duration = Duration::from_secs(10);

const CONFIG: &str = "
load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;
user root;
daemon off;
master_process off;
error_log $DIR/error.log info;
pid $DIR/nginx.pid;
events { worker_connections 256; }
rtmp_auto_push off;
rtmp {
  access_log off;
  notify_method post;
  server {
    listen 127.0.0.1:$PORT;
    chunk_size 4096;
    application live {
      live on;
      record all;
      record_path $DIR/recordings;
      record_unique on;
      on_publish $CALLBACK;
      on_publish_done $CALLBACK;
      on_record_done $CALLBACK;
    }
  }
}
";
