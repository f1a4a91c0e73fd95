//! RTMP chunks (RTMP 1.0 §5.3).

use std::collections::BTreeMap;

/// A whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: u8,
    pub(super) stream: u32,
    pub(super) timestamp: u32,
    pub(super) payload: Vec<u8>,
}

/// What is written in front of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    /// Chunk stream, 2 to 63.
    pub(super) chunks: u8,
    pub(super) kind: u8,
    pub(super) stream: u32,
    pub(super) timestamp: u32,
}

/// Appends a message of two parts in chunks of `size` bytes. Each bears a full header: twelve bytes a frame buy
/// that no state is shared between messages.
pub(super) fn write(head: Head, parts: [&[u8]; 2], size: usize, to: &mut Vec<u8>) {
    let length = parts[0].len() + parts[1].len();
    let extended = head.timestamp >= EXTENDED;
    to.reserve(length + 16 + (length / size.max(1)) * 5);
    to.push(head.chunks & 0x3f);
    let short = head.timestamp.min(EXTENDED);
    to.extend_from_slice(&short.to_be_bytes()[1..]);
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    to.extend_from_slice(&length.to_be_bytes()[1..]);
    to.push(head.kind);
    to.extend_from_slice(&head.stream.to_le_bytes());
    if extended {
        to.extend_from_slice(&head.timestamp.to_be_bytes());
    }
    let mut room = size;
    for mut part in parts {
        while !part.is_empty() {
            if room == 0 {
                to.push(0xc0 | head.chunks & 0x3f);
                if extended {
                    to.extend_from_slice(&head.timestamp.to_be_bytes());
                }
                room = size;
            }
            let (now, later) = part.split_at(part.len().min(room));
            to.extend_from_slice(now);
            room -= now.len();
            part = later;
        }
    }
}

/// Puts messages together.
#[derive(Debug)]
pub(super) struct Reader {
    size: usize,
    bytes: Vec<u8>,
    streams: BTreeMap<u32, Stream>,
}

#[derive(Debug, Default, Clone)]
struct Stream {
    timestamp: u32,
    delta: u32,
    extended: bool,
    length: usize,
    kind: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// The peer does not keep to the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken;

impl Reader {
    pub(super) fn new() -> Self {
        Self {
            size: 128,
            bytes: Vec::new(),
            streams: BTreeMap::new(),
        }
    }

    pub(super) fn set_chunk_size(&mut self, size: u32) {
        let size = usize::try_from(size & 0x7fff_ffff).unwrap_or(MESSAGE_LIMIT);
        self.size = size.clamp(1, MESSAGE_LIMIT);
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Forgets the part of a message that has arrived on a chunk stream.
    pub(super) fn abort(&mut self, chunks: u32) {
        if let Some(stream) = self.streams.get_mut(&chunks) {
            stream.payload.clear();
        }
    }

    /// Returns the next whole message.
    pub(super) fn next(&mut self) -> Result<Option<Message>, Broken> {
        loop {
            let mut rest = self.bytes.as_slice();
            let Some((chunks, stream, body)) = self.header(&mut rest)? else {
                return Ok(None);
            };
            let Some((data, rest)) = rest.split_at_checked(body) else {
                return Ok(None);
            };
            let (data, left) = (data.to_vec(), rest.len());
            self.bytes.drain(..self.bytes.len() - left);
            let mut stream = stream;
            stream.payload.extend_from_slice(&data);
            let whole = stream.payload.len() >= stream.length;
            let payload = if whole {
                std::mem::take(&mut stream.payload)
            } else {
                Vec::new()
            };
            let message = Message {
                kind: stream.kind,
                stream: stream.stream,
                timestamp: stream.timestamp,
                payload,
            };
            self.streams.insert(chunks, stream);
            if whole {
                return Ok(Some(message));
            }
        }
    }

    /// Reads a chunk's header; returns its chunk stream, the state after it, and the length of its data. `None`
    /// when it has not arrived whole.
    fn header(&self, bytes: &mut &[u8]) -> Result<Option<(u32, Stream, usize)>, Broken> {
        let mut take = |count: usize| {
            let (taken, rest) = bytes.split_at_checked(count)?;
            *bytes = rest;
            Some(
                taken
                    .iter()
                    .fold(0_u32, |n, byte| n << 8 | u32::from(*byte)),
            )
        };
        macro_rules! number {
            ($count:expr) => {
                match take($count) {
                    Some(number) => number,
                    None => return Ok(None),
                }
            };
        }
        let first = number!(1);
        let chunks = match first & 0x3f {
            0 => number!(1) + 64,
            1 => {
                let number = number!(2);
                ((number & 0xff) << 8 | number >> 8) + 64
            }
            short => short,
        };
        let format = first >> 6;
        let known = self.streams.get(&chunks);
        if known.is_none() && (format != 0 || self.streams.len() >= STREAM_LIMIT) {
            return Err(Broken);
        }
        let mut stream = known.cloned().unwrap_or_default();
        let fresh = stream.payload.is_empty();
        if !fresh && format != 3 {
            return Err(Broken);
        }
        let mut time = stream.delta;
        if format < 3 {
            time = number!(3);
            stream.extended = time == EXTENDED;
        }
        if format < 2 {
            stream.length = number!(3) as usize;
            stream.kind = u8::try_from(number!(1)).unwrap_or_default();
        }
        if format == 0 {
            stream.stream = number!(4).swap_bytes();
        }
        if stream.extended {
            time = number!(4);
        }
        if stream.length > MESSAGE_LIMIT {
            return Err(Broken);
        }
        if fresh {
            stream.timestamp = match format {
                0 => time,
                _ => stream.timestamp.wrapping_add(time),
            };
            stream.delta = if format == 0 { 0 } else { time };
        }
        let body = (stream.length - stream.payload.len()).min(self.size);
        Ok(Some((chunks, stream, body)))
    }
}

const EXTENDED: u32 = 0xff_ffff;
/// A server has little to say.
const MESSAGE_LIMIT: usize = 64 << 10;
const STREAM_LIMIT: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn messages_survive_the_trip(
            sizes in prop::collection::vec((0_usize..9000, any::<u32>()), 1..6),
            size in 1_u32..5000,
            cut in 1_usize..700,
        ) {
            let mut wire = Vec::new();
            let mut sent = Vec::new();
            for (length, timestamp) in sizes {
                let payload: Vec<u8> = (0..length).map(|i| i.to_le_bytes()[0]).collect();
                let head = Head { chunks: 6, kind: 9, stream: 1, timestamp };
                let (a, b) = payload.split_at(length / 3);
                write(head, [a, b], size as usize, &mut wire);
                sent.push(Message { kind: 9, stream: 1, timestamp, payload });
            }
            let mut reader = Reader::new();
            reader.set_chunk_size(size);
            let mut received = Vec::new();
            for part in wire.chunks(cut) {
                reader.push(part);
                while let Some(message) = reader.next().unwrap() {
                    received.push(message);
                }
            }
            prop_assert_eq!(received, sent);
        }

        #[test]
        fn garbage_is_no_panic_and_takes_no_memory(bytes in prop::collection::vec(any::<u8>(), 0..4000)) {
            let mut reader = Reader::new();
            reader.push(&bytes);
            while let Ok(Some(_)) = reader.next() {}
            prop_assert!(reader.streams.len() <= STREAM_LIMIT);
        }
    }
}
