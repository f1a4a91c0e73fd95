//! ffmpeg as an SRT listener that writes down what it receives.

use std::{
    fs,
    net::UdpSocket,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Takes one caller, and ends with it.
pub(crate) struct SrtReceiver {
    pub(crate) file: PathBuf,
    process: Child,
}

impl SrtReceiver {
    /// Listens on `port` with these options of ffmpeg's, such as `passphrase=…`.
    pub(crate) fn start(file: &Path, port: u16, options: &str) -> Self {
        let url = format!("srt://127.0.0.1:{port}?mode=listener&{options}");
        let process = Command::new("ffmpeg")
            .args(["-v", "error", "-y", "-f", "mpegts", "-i", &url])
            .args(["-map", "0", "-c", "copy", "-f", "mpegts"])
            .arg(file)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let receiver = Self {
            file: file.to_owned(),
            process,
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while !is_bound(port) {
            assert!(
                Instant::now() < deadline,
                "ffmpeg does not listen on {port}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        receiver
    }

    /// Ends it as when its machine fails.
    pub(crate) fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Waits until it has seen the caller's goodbye and has finished its file.
    pub(crate) fn finish(mut self) -> PathBuf {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.process.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "no goodbye has reached ffmpeg");
            std::thread::sleep(Duration::from_millis(20));
        }
        self.file.clone()
    }
}

impl Drop for SrtReceiver {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns a UDP port on which nothing listens.
pub(crate) fn free_udp_port() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

/// Asking by binding would be in the listener's way.
fn is_bound(port: u16) -> bool {
    let sockets = fs::read_to_string("/proc/net/udp").unwrap();
    sockets.contains(&format!(":{port:04X} 00000000:0000"))
}
