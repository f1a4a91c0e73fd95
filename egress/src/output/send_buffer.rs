//! Bounds what the kernel buffers for an RTMP server, so that a stall shows.

use std::{fs, net::SocketAddr, os::fd::OwnedFd};

use rustix::{
    net::{getpeername, sockopt},
    process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open},
};

/// Bounds the send buffers of this process's TCP connections to `port`.
///
/// GStreamer does not give its socket away, so it is looked for among this process's own. Where that is not
/// allowed (a strict seccomp profile), a stall is noticed when megabytes have piled up.
pub(super) fn bound(port: u16) {
    let Ok(myself) = pidfd_open(getpid(), PidfdFlags::empty()) else {
        return;
    };
    let Ok(descriptors) = fs::read_dir("/proc/self/fd") else {
        return;
    };
    for descriptor in descriptors.flatten() {
        let number = descriptor.file_name().to_str().and_then(|n| n.parse().ok());
        let is_socket = fs::read_link(descriptor.path()).is_ok_and(|target| {
            target
                .as_os_str()
                .as_encoded_bytes()
                .starts_with(b"socket:")
        });
        let (Some(number), true) = (number, is_socket) else {
            continue;
        };
        if let Ok(socket) = pidfd_getfd(&myself, number, PidfdGetfdFlags::empty())
            && peer_port(&socket) == Some(port)
        {
            let _ = sockopt::set_socket_send_buffer_size(&socket, LIMIT);
        }
    }
}

fn peer_port(socket: &OwnedFd) -> Option<u16> {
    let address = SocketAddr::try_from(getpeername(socket).ok()??).ok()?;
    Some(address.port())
}

/// The kernel counts about twice that. One second at 2 Mbit/s; enough for 8 Mbit/s over 250 ms.
const LIMIT: usize = 256 << 10;
