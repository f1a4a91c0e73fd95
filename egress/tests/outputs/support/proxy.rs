//! A way to a server that misbehaves when told.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use socket2::SockRef;

/// What goes wrong on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Fault {
    None,
    /// Connections stay open, but nothing is taken any more.
    Stall,
    /// Connections break as when the other machine has forgotten them.
    Reset,
    /// Every answer comes late.
    Slow,
    /// Connections are accepted, and closed.
    Close,
}

/// Carries connections to a server.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    fault: Arc<AtomicU8>,
    stalled: Arc<AtomicUsize>,
}

impl Proxy {
    pub(crate) fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let fault = Arc::new(AtomicU8::new(Fault::None as u8));
        let stalled = Arc::<AtomicUsize>::default();
        let (shared, count) = (fault.clone(), stalled.clone());
        // Ends with the process.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if is(&shared, Fault::Close) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else {
                    continue;
                };
                for (from, into, answers) in [(&client, &server, false), (&server, &client, true)] {
                    let (from, into) = (from.try_clone().unwrap(), into.try_clone().unwrap());
                    let (fault, stalled) = (shared.clone(), count.clone());
                    thread::spawn(move || pump(from, into, answers, &fault, &stalled));
                }
            }
        });
        Self {
            port,
            fault,
            stalled,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("rtmp://127.0.0.1:{}/live", self.port)
    }

    /// Returns how often something has been on its way when it stalled.
    pub(crate) fn stalled(&self) -> usize {
        self.stalled.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, fault: Fault) {
        self.fault.store(fault as u8, Ordering::Relaxed);
    }
}

fn is(now: &AtomicU8, fault: Fault) -> bool {
    now.load(Ordering::Relaxed) == fault as u8
}

fn pump(
    mut from: TcpStream,
    mut into: TcpStream,
    answers: bool,
    fault: &AtomicU8,
    stalled: &AtomicUsize,
) {
    let mut buffer = [0; 8192];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if is(fault, Fault::Stall) {
            stalled.fetch_add(1, Ordering::Relaxed);
        }
        while is(fault, Fault::Stall) {
            thread::sleep(Duration::from_millis(20));
        }
        if is(fault, Fault::Reset) {
            for stream in [&from, &into] {
                let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
            }
            break;
        }
        if is(fault, Fault::Close) {
            break;
        }
        if answers && is(fault, Fault::Slow) {
            thread::sleep(SLOWNESS);
        }
        if into.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    if is(fault, Fault::Reset) {
        // Wakes the other pump; when both are gone, so are the connections, and with them what was on its way.
        let _ = into.shutdown(Shutdown::Read);
    } else {
        let _ = into.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }
}

const SLOWNESS: Duration = Duration::from_millis(400);
