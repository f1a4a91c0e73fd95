//! Looks for an RTMP server while there is nothing to send yet, so that a wrong address is told at once.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    time::{Duration, Instant},
};

use super::rtmp_failure::{failure, no_rtmp};
use crate::{
    link::{Failure, RtmpTarget},
    status::FailureCode,
};

/// Connects and begins the handshake (RTMP 1.0 §5.2), without publishing anything; with TLS it connects only.
///
/// # Errors
/// What stands in the way.
pub(super) fn probe(target: &RtmpTarget, patience: Duration) -> Result<(), Failure> {
    let deadline = Instant::now() + patience;
    let addresses: Vec<SocketAddr> = (target.host.as_str(), target.port)
        .to_socket_addrs()
        .map_err(|_| failure(FailureCode::HostNotFound, target, ""))?
        .collect();
    let mut stream =
        connect(&addresses, deadline).map_err(|error| failure(code(&error), target, ""))?;
    if target.tls {
        return Ok(());
    }
    match greet(&mut stream, deadline) {
        Ok(VERSION) => Ok(()),
        Ok(_) => Err(no_rtmp(target)),
        Err(error) if code(&error) == FailureCode::Timeout => {
            Err(failure(FailureCode::Timeout, target, ""))
        }
        Err(_) => Err(no_rtmp(target)),
    }
}

fn connect(addresses: &[SocketAddr], deadline: Instant) -> io::Result<TcpStream> {
    let mut result = Err(io::ErrorKind::NotFound.into());
    for address in addresses {
        result = TcpStream::connect_timeout(address, left(deadline)?);
        if result.is_ok() {
            break;
        }
    }
    result
}

/// Sends C0 and C1 and returns S0: the server's version.
fn greet(stream: &mut TcpStream, deadline: Instant) -> io::Result<u8> {
    stream.set_write_timeout(Some(left(deadline)?))?;
    let mut hello = [0; 1 + HANDSHAKE_BYTES];
    hello[0] = VERSION;
    stream.write_all(&hello)?;
    stream.set_read_timeout(Some(left(deadline)?))?;
    let mut version = [0];
    stream.read_exact(&mut version)?;
    Ok(version[0])
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(io::ErrorKind::TimedOut.into())
    } else {
        Ok(left)
    }
}

fn code(error: &io::Error) -> FailureCode {
    use io::ErrorKind as Kind;
    let kind = error.kind();
    if kind == Kind::ConnectionRefused {
        FailureCode::ConnectionRefused
    } else if kind == Kind::NotFound {
        FailureCode::HostNotFound
    } else if matches!(kind, Kind::TimedOut | Kind::WouldBlock) {
        FailureCode::Timeout
    } else {
        FailureCode::Unreachable
    }
}

const VERSION: u8 = 3;
const HANDSHAKE_BYTES: usize = 1536;

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    #[test]
    fn what_is_in_the_way_is_named() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let refused = free.local_addr().unwrap().port();
        drop(free);
        let mute = TcpListener::bind("127.0.0.1:0").unwrap();
        let mute_port = mute.local_addr().unwrap().port();
        let short = Duration::from_millis(200);
        for (label, host, port, patience, expected) in [
            (
                "refused",
                "127.0.0.1",
                refused,
                PATIENCE,
                FailureCode::ConnectionRefused,
            ),
            (
                "unknown",
                "no.such.host.invalid",
                1935,
                PATIENCE,
                FailureCode::HostNotFound,
            ),
            ("mute", "127.0.0.1", mute_port, short, FailureCode::Timeout),
        ] {
            let failure = probe(&target(host, port), patience).unwrap_err();
            assert_eq!(failure.code, expected, "{label}");
        }
    }

    #[test]
    fn servers_are_told_by_their_version() {
        assert!(probe(&target("127.0.0.1", answering(&[3])), PATIENCE).is_ok());
        let http = answering(b"HTTP/1.1 400 Bad Request\r\n");
        let failure = probe(&target("127.0.0.1", http), PATIENCE).unwrap_err();
        assert_eq!(failure.code, FailureCode::Rejected);
        assert!(failure.message.contains("does not speak RTMP"));
    }

    fn answering(answer: &'static [u8]) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut hello = [0; 1 + HANDSHAKE_BYTES];
            stream.read_exact(&mut hello).unwrap();
            stream.write_all(answer).unwrap();
        });
        port
    }

    fn target(host: &str, port: u16) -> RtmpTarget {
        RtmpTarget {
            tls: false,
            host: host.into(),
            port,
            application: "app".into(),
            key: "key".into(),
        }
    }
}
