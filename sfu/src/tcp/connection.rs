//! One connection: a task that reads and writes, and what waits to be written.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use sfu_core::tcp::{self, Frames};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{Notify, mpsc},
};

use super::Inbound;

/// What waits to be written to one connection, at most [`OUTBOX_BYTES`], and as much again that the task is
/// writing. When full, datagrams are dropped: media first, which leaves room for checks and handshakes. The
/// shard never waits.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Mutex<Vec<u8>>,
    wake: Notify,
}

impl Outbox {
    /// Appends a datagram. Returns whether there was room.
    pub(super) fn push(&self, datagram: &[u8]) -> bool {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let is_media = datagram.first().is_some_and(|first| first & 0xc0 == 0x80);
        let limit = if is_media { MEDIA_BYTES } else { OUTBOX_BYTES };
        let fits = bytes.len() + datagram.len() <= limit && tcp::append(datagram, &mut bytes);
        if fits {
            self.wake.notify_one();
        }
        fits
    }

    /// Waits until there is something, and exchanges it for an empty buffer.
    async fn take(&self, empty: &mut Vec<u8>) {
        loop {
            {
                let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
                if !bytes.is_empty() {
                    std::mem::swap(&mut *bytes, empty);
                    return;
                }
            }
            self.wake.notified().await;
        }
    }
}

/// Runs a connection until either side ends it. Reading waits while the shard has no room.
pub(super) async fn run(
    mut stream: TcpStream,
    received: Frames,
    id: u32,
    outbox: Arc<Outbox>,
    inbound: mpsc::Sender<Inbound>,
) {
    let (reader, writer) = stream.split();
    let ended = tokio::select! {
        ended = read(reader, received, id, &inbound) => ended,
        ended = write(writer, &outbox) => ended,
    };
    if let Err(reason) = ended {
        tracing::debug!(%reason, "connection of a peer failed");
    }
    let _ = inbound.send(Inbound::Closed { id }).await;
}

async fn read(
    mut reader: ReadHalf<'_>,
    mut frames: Frames,
    id: u32,
    inbound: &mpsc::Sender<Inbound>,
) -> io::Result<()> {
    loop {
        while let Some(frame) = frames.next_frame().map_err(io::Error::other)? {
            if inbound.send(Inbound::Frame { id, frame }).await.is_err() {
                return Ok(());
            }
        }
        if reader.read_buf(frames.buffer()).await? == 0 {
            return Ok(());
        }
    }
}

async fn write(mut writer: WriteHalf<'_>, outbox: &Outbox) -> io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        outbox.take(&mut bytes).await;
        writer.write_all(&bytes).await?;
        bytes.clear();
    }
}

/// A second of 720p at 2.5 Mb/s: more delay is of no use to a viewer.
const MEDIA_BYTES: usize = 320 << 10;

const OUTBOX_BYTES: usize = MEDIA_BYTES + (64 << 10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_gives_way_to_checks_when_the_connection_is_slow() {
        let outbox = Outbox::default();
        let mut taken = 0;
        while outbox.push(&[0x80; 1200]) {
            taken += 1;
        }
        assert!((250..300).contains(&taken), "{taken}");
        assert!(outbox.push(&[0x01; 100]), "a check");
        while outbox.push(&[0x16; 1200]) {}
        let held = outbox.bytes.lock().unwrap().len();
        assert!(held <= OUTBOX_BYTES + 2, "{held}");
    }
}
