//! A TCP connection, plain or TLS, that never blocks.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    os::fd::AsFd,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::sockopt,
};
use rustls::ClientConnection;

use super::{Stop, dial::left};

/// An established connection.
#[derive(Debug)]
pub(super) struct Connection {
    tcp: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

impl Connection {
    /// Takes over a connection. What the kernel buffers is bounded, so that a stall shows; data that nobody
    /// acknowledges for `stall` break it.
    pub(super) fn new(
        tcp: TcpStream,
        tls: Option<ClientConnection>,
        stall: Duration,
    ) -> io::Result<Self> {
        tcp.set_nonblocking(true)?;
        tcp.set_nodelay(true)?;
        sockopt::set_socket_send_buffer_size(&tcp, SEND_BUFFER)?;
        let millis = u32::try_from(stall.as_millis()).unwrap_or(u32::MAX);
        sockopt::set_tcp_user_timeout(&tcp, millis)?;
        Ok(Self {
            tcp,
            tls: tls.map(Box::new),
        })
    }

    /// Sends from the front of `output` what can be sent now; returns how much that was.
    pub(super) fn send(&mut self, output: &mut Vec<u8>) -> io::Result<usize> {
        let mut sent = 0;
        loop {
            if !self.flush()? {
                break;
            }
            let rest = output.get(sent..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            let written = match &mut self.tls {
                Some(tls) => tls.writer().write(rest)?,
                None => match self.tcp.write(rest) {
                    Ok(written) => written,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error),
                },
            };
            sent += written;
        }
        output.drain(..sent);
        Ok(sent)
    }

    /// Sends the TLS records that are ready; returns whether none is left.
    fn flush(&mut self) -> io::Result<bool> {
        let Some(tls) = &mut self.tls else {
            return Ok(true);
        };
        while tls.wants_write() {
            match tls.write_tls(&mut self.tcp) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Receives what is there into `buffer`; 0 when nothing is.
    ///
    /// # Errors
    /// `UnexpectedEof` when the server has closed.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let received = match &mut self.tls {
            None => self.tcp.read(buffer),
            Some(tls) => {
                match tls.read_tls(&mut self.tcp) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
                tls.process_new_packets()
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                tls.reader().read(buffer)
            }
        };
        match received {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(0)
            }
            other => other,
        }
    }

    /// Waits until there is something to receive, room to send if `sending`, a wake-up, or `timeout`.
    pub(super) fn wait(&self, sending: bool, stop: Option<&Stop>, timeout: Duration) {
        let records = self.tls.as_ref().is_some_and(|tls| tls.wants_write());
        let mut interest = PollFlags::IN;
        if sending || records {
            interest |= PollFlags::OUT;
        }
        let mut descriptors = vec![PollFd::from_borrowed_fd(self.tcp.as_fd(), interest)];
        if let Some(event) = stop.and_then(Stop::descriptor) {
            descriptors.push(PollFd::from_borrowed_fd(event, PollFlags::IN));
        }
        let timeout = Timespec::try_from(timeout).ok();
        // Whatever it says, the caller looks for itself.
        let _ = poll(&mut descriptors, timeout.as_ref());
        drop(descriptors);
        if let Some(stop) = stop {
            stop.clear();
        }
    }

    /// Sends the rest of `output`, closes, and gives the server until `deadline` to do so, too: closing with
    /// data unread would throw away what it has not taken yet.
    pub(super) fn close(mut self, output: &mut Vec<u8>, deadline: Instant) {
        if let Some(tls) = &mut self.tls {
            let _ = tls.writer().write(output).map(|_| output.clear());
            tls.send_close_notify();
        }
        while let Ok(patience) = left(deadline) {
            let sent = self.send(output).is_ok();
            let records = self.tls.as_ref().is_some_and(|tls| tls.wants_write());
            if !sent || (output.is_empty() && !records) {
                break;
            }
            self.wait(true, None, patience);
        }
        let _ = self.tcp.shutdown(Shutdown::Write);
        let mut buffer = [0; 4096];
        while let Ok(patience) = left(deadline) {
            if self.receive(&mut buffer).is_err() {
                return;
            }
            self.wait(false, None, patience);
        }
    }
}

/// The kernel counts about twice that. One second at 2 Mbit/s; enough for 8 Mbit/s over 250 ms.
const SEND_BUFFER: usize = 256 << 10;
