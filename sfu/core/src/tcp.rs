//! Datagrams in a byte stream (RFC 4571): each behind its length in two bytes.

use bytes::{Buf, BytesMut};
use thiserror::Error;

/// What was received of a stream, cut into datagrams.
#[derive(Debug, Default)]
pub struct Frames {
    buffer: BytesMut,
}

/// A frame is longer than any datagram of ours, or the stream is something else.
#[derive(Debug, Error)]
#[error("a frame of {0} bytes")]
pub struct TooLong(usize);

impl Frames {
    /// Returns where to receive, with some room. What is in it already is one incomplete frame at most, if
    /// [`Frames::next_frame`] was called until it had nothing.
    pub fn buffer(&mut self) -> &mut BytesMut {
        self.buffer.reserve(READ_BYTES);
        &mut self.buffer
    }

    /// Returns the next whole frame, `None` when more is to be received first. Empty ones are passed over.
    ///
    /// # Errors
    /// [`TooLong`]; nothing that follows can be understood.
    pub fn next_frame(&mut self) -> Result<Option<BytesMut>, TooLong> {
        loop {
            let Some(&length) = self.buffer.first_chunk::<LENGTH_BYTES>() else {
                return Ok(None);
            };
            let length = usize::from(u16::from_be_bytes(length));
            if length > MAX_FRAME {
                return Err(TooLong(length));
            }
            if self.buffer.len() < LENGTH_BYTES + length {
                return Ok(None);
            }
            self.buffer.advance(LENGTH_BYTES);
            let frame = self.buffer.split_to(length);
            if !frame.is_empty() {
                return Ok(Some(frame));
            }
        }
    }
}

/// Appends a datagram as a frame. Returns whether it fits the format.
pub fn append(datagram: &[u8], stream: &mut Vec<u8>) -> bool {
    let Ok(length) = u16::try_from(datagram.len()) else {
        return false;
    };
    stream.extend_from_slice(&length.to_be_bytes());
    stream.extend_from_slice(datagram);
    true
}

const LENGTH_BYTES: usize = 2;

/// Longest frame taken, as with datagrams.
const MAX_FRAME: usize = 2048;

/// Room for a few frames.
const READ_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in_however_they_were_cut() {
        let datagrams: [&[u8]; 4] = [b"first", b"", &[7; 1200], b"last"];
        let mut stream = Vec::new();
        for datagram in datagrams {
            assert!(append(datagram, &mut stream));
        }
        for cut in [1, 2, 3, 5, 700, stream.len()] {
            let mut frames = Frames::default();
            let mut received = Vec::new();
            for piece in stream.chunks(cut) {
                frames.buffer().extend_from_slice(piece);
                while let Some(frame) = frames.next_frame().unwrap() {
                    received.push(frame.to_vec());
                }
            }
            let expected: Vec<_> = datagrams.into_iter().filter(|d| !d.is_empty()).collect();
            assert_eq!(received, expected, "pieces of {cut}");
        }
    }

    #[test]
    fn what_is_too_long_ends_the_stream() {
        let mut frames = Frames::default();
        frames.buffer().extend_from_slice(b"GET / HTTP/1.1\r\n");
        assert!(frames.next_frame().is_err());
        assert!(!append(&[0; 65_536], &mut Vec::new()));
    }
}
