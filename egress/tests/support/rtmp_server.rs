//! nginx with its RTMP module, on a free port.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Records everything that is published to its application `live`, and denies `deny`.
pub(crate) struct RtmpServer {
    directory: PathBuf,
    pub(crate) port: u16,
    process: Option<Child>,
}

impl RtmpServer {
    pub(crate) fn start(directory: &Path) -> Self {
        let port = free_port();
        fs::create_dir_all(directory.join("recorded")).unwrap();
        let mut server = Self {
            directory: directory.to_owned(),
            port,
            process: None,
        };
        let at = directory.display();
        // One process, so that stopping it is stopping all of it.
        let config = format!(
            "load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;\n\
             user root;\ndaemon off;\nmaster_process off;\n\
             error_log {at}/error.log info;\npid {at}/nginx.pid;\n\
             events {{ worker_connections 64; }}\n\
             rtmp {{ access_log {at}/access.log; server {{ listen 127.0.0.1:{port}; chunk_size 4096;\n\
             application live {{ live on; record all; record_path {at}/recorded; record_unique on; }}\n\
             application deny {{ live on; deny publish all; }} }} }}\n"
        );
        fs::write(directory.join("nginx.conf"), config).unwrap();
        server.resume();
        server
    }

    pub(crate) fn url(&self, application: &str) -> String {
        format!("rtmp://127.0.0.1:{}/{application}", self.port)
    }

    /// Kills the server, as when its machine fails.
    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    pub(crate) fn resume(&mut self) {
        let process = Command::new("nginx")
            .arg("-p")
            .arg(&self.directory)
            .arg("-c")
            .arg(self.directory.join("nginx.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.process = Some(process);
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "nginx does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Returns the recordings, the oldest first.
    pub(crate) fn recordings(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.directory.join("recorded")).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    pub(crate) fn error_log(&self) -> String {
        fs::read_to_string(self.directory.join("error.log")).unwrap_or_default()
    }
}

impl Drop for RtmpServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Returns a port on which nothing listens.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A way to a server that can be made to stall: connections stay open, but nothing is taken any more.
pub(crate) struct StallingProxy {
    pub(crate) port: u16,
    stalled: Arc<AtomicBool>,
}

impl StallingProxy {
    pub(crate) fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let stalled = Arc::new(AtomicBool::new(false));
        let stall = stalled.clone();
        // Ends with the process.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect(("127.0.0.1", to)).unwrap();
                for (from, into) in [(&client, &server), (&server, &client)] {
                    let (from, into) = (from.try_clone().unwrap(), into.try_clone().unwrap());
                    let stall = stall.clone();
                    thread::spawn(move || pump(from, into, &stall));
                }
            }
        });
        Self { port, stalled }
    }

    pub(crate) fn set_stalled(&self, stalled: bool) {
        self.stalled.store(stalled, Ordering::Relaxed);
    }
}

fn pump(mut from: TcpStream, mut into: TcpStream, stalled: &AtomicBool) {
    let mut buffer = [0; 8192];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        while stalled.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(20));
        }
        if into.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = into.shutdown(Shutdown::Both);
}
