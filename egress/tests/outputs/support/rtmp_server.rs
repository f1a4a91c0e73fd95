//! nginx with its RTMP module, on a free port.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Records everything that is published to its application `live`, denies `deny`, and asks a web server about
/// `asked`.
pub(crate) struct RtmpServer {
    directory: PathBuf,
    pub(crate) port: u16,
    process: Option<Child>,
}

impl RtmpServer {
    pub(crate) fn start(directory: &Path) -> Self {
        let (port, door) = (free_port(), doorkeeper());
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
             application asked {{ live on; on_publish http://127.0.0.1:{door}/; \
             record all; record_path {at}/recorded; record_unique on; }}\n\
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

/// Answers nginx's questions (`on_publish`) by the stream's name, and returns its port: `refused` is forbidden,
/// `moved` is sent on under another name, everything else may pass.
fn doorkeeper() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // Ends with the process.
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut question = [0; 4096];
            let length = client.read(&mut question).unwrap_or(0);
            let question = String::from_utf8_lossy(&question[..length]).into_owned();
            let answer = if question.contains("name=refused") {
                "HTTP/1.0 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
            } else if question.contains("name=moved") {
                "HTTP/1.0 302 Found\r\nLocation: elsewhere\r\nContent-Length: 0\r\n\r\n"
            } else {
                "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"
            };
            let _ = client.write_all(answer.as_bytes());
        }
    });
    port
}
