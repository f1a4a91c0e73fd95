//! Connects to a server, and to nothing that is not allowed.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs},
    path::PathBuf,
    sync::mpsc::sync_channel,
    thread,
    time::{Duration, Instant},
};

use crate::{destination::is_off_limits, status::FailureCode};

/// What a worker may connect to and trust.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    pub(crate) allow_private: bool,
    pub(crate) tls_ca_file: Option<PathBuf>,
}

/// Connects to the first address of `host` that answers before `deadline`.
///
/// The name is resolved here, and the connection goes to the very address that was checked: a name that changes
/// its mind between check and connection (DNS rebinding) gains nothing.
///
/// # Errors
/// A code that says what is in the way.
pub(super) fn dial(
    host: &str,
    port: u16,
    policy: &Policy,
    deadline: Instant,
) -> Result<TcpStream, FailureCode> {
    let allowed = resolve(host, port, policy, deadline)?;
    let mut result = Err(FailureCode::Timeout);
    for (address, left) in allowed.iter().zip((1..=allowed.len()).rev()) {
        let patience = deadline.saturating_duration_since(Instant::now());
        // The last one may take all the time that is left.
        let share = patience / u32::try_from(left).unwrap_or(1);
        if share.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(address, share) {
            Ok(stream) => return Ok(stream),
            Err(error) => result = Err(code(&error)),
        }
    }
    result
}

/// Returns the addresses of `host` that may be connected to, at least one.
///
/// # Errors
/// As [`dial`].
pub(super) fn resolve(
    host: &str,
    port: u16,
    policy: &Policy,
    deadline: Instant,
) -> Result<Vec<SocketAddr>, FailureCode> {
    let addresses = look_up(host, port, deadline).ok_or(FailureCode::HostNotFound)?;
    let allowed = allowed(&addresses, policy);
    if !allowed.is_empty() {
        return Ok(allowed);
    }
    Err(if addresses.is_empty() {
        FailureCode::HostNotFound
    } else {
        FailureCode::PrivateAddress
    })
}

/// Returns what a name stands for, if somebody says so in time.
fn look_up(host: &str, port: u16, deadline: Instant) -> Option<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Some(vec![SocketAddr::new(ip, port)]);
    }
    let host = host.to_owned();
    let (found, addresses) = sync_channel(1);
    // The system takes its time where no name server answers, and cannot be told otherwise.
    thread::spawn(move || {
        let addresses = (host.as_str(), port).to_socket_addrs();
        let _ = found.send(addresses.map(Vec::from_iter));
    });
    let patience = deadline.saturating_duration_since(Instant::now());
    addresses.recv_timeout(patience).ok()?.ok()
}

fn allowed(addresses: &[SocketAddr], policy: &Policy) -> Vec<SocketAddr> {
    let addresses = addresses.iter().copied();
    addresses
        .filter(|address| policy.allow_private || !is_off_limits(address.ip()))
        .collect()
}

/// Returns what stands behind an error before anything was accepted.
pub(super) fn code(error: &io::Error) -> FailureCode {
    use io::ErrorKind as Kind;
    let kind = error.kind();
    if kind == Kind::ConnectionRefused {
        FailureCode::ConnectionRefused
    } else if matches!(kind, Kind::TimedOut | Kind::WouldBlock) {
        FailureCode::Timeout
    } else {
        FailureCode::Unreachable
    }
}

/// Returns the time until `deadline`.
///
/// # Errors
/// `TimedOut` when it has passed.
pub(super) fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(io::ErrorKind::TimedOut.into())
    } else {
        Ok(left)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn policy(allow_private: bool) -> Policy {
        Policy {
            allow_private,
            tls_ca_file: None,
        }
    }

    #[test]
    fn what_is_in_the_way_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let refused = free.local_addr().unwrap().port();
        drop(free);
        let deadline = Instant::now() + Duration::from_secs(5);
        let code = |host, port, private| dial(host, port, &policy(private), deadline).err();
        assert_eq!(code("127.0.0.1", port, true), None);
        assert_eq!(
            code("127.0.0.1", refused, true),
            Some(FailureCode::ConnectionRefused)
        );
        assert_eq!(
            code("no.such.host.invalid", 1, true),
            Some(FailureCode::HostNotFound)
        );
        let late = |host| dial(host, port, &policy(true), Instant::now()).err();
        let unnamed = late("localhost");
        let given_up = [FailureCode::HostNotFound, FailureCode::Timeout].map(Some);
        assert!(given_up.contains(&unnamed), "{unnamed:?}");
        assert_eq!(late("127.0.0.1"), Some(FailureCode::Timeout));
        // A name that is not private by its looks.
        assert_eq!(
            code("localhost", port, false),
            Some(FailureCode::PrivateAddress)
        );
    }

    #[test]
    fn of_several_addresses_only_the_public_ones_are_used() {
        let public: SocketAddr = "203.0.113.7:1935".parse().unwrap();
        let addresses = [
            "10.0.0.1:1935".parse().unwrap(),
            public,
            "[::1]:1935".parse().unwrap(),
            "[::ffff:127.0.0.1]:1935".parse().unwrap(),
        ];
        assert_eq!(allowed(&addresses, &policy(false)), [public]);
        assert_eq!(allowed(&addresses, &policy(true)).len(), 4);
    }
}
