//! Stamps in the stream: an H.264 SEI message of user data (ITU-T H.264 D.1.6) at the start of a frame, which
//! survives every server that does not transcode.

/// When a frame was sent, and which one it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Nanoseconds since the Unix epoch by the publisher's clock.
    pub(crate) sent: i64,
    /// The number of the frame, counted by its publisher.
    pub(crate) frame: u32,
    /// Whether the frame is a keyframe.
    pub(crate) is_key: bool,
}

impl Stamp {
    /// Returns the stamp as a NAL unit. Digits need no emulation prevention.
    pub(crate) fn to_nal(self) -> Vec<u8> {
        let mut nal = vec![SEI, USER_DATA_UNREGISTERED, LEN];
        nal.extend(UUID);
        nal.extend(self.text().into_bytes());
        nal.push(0x80);
        nal
    }

    /// Finds a stamp in an RTP payload, however it was packed.
    pub(crate) fn find(payload: &[u8]) -> Option<Self> {
        let text = Self::text_at(payload).and_then(|at| payload.get(at..at + TEXT))?;
        let text = std::str::from_utf8(text).ok()?;
        Some(Self {
            sent: i64::from_str_radix(text.get(..16)?, 16).ok()?,
            frame: u32::from_str_radix(text.get(16..24)?, 16).ok()?,
            is_key: text.ends_with('K'),
        })
    }

    /// Replaces the stamp in a payload that has one.
    pub(crate) fn write_over(self, payload: &mut [u8]) {
        if let Some(at) = Self::text_at(payload)
            && let Some(text) = payload.get_mut(at..at + TEXT)
        {
            text.copy_from_slice(self.text().as_bytes());
        }
    }

    fn text(self) -> String {
        let kind = if self.is_key { 'K' } else { 'P' };
        // 63 bits of time have 16 digits at most, 32 bits of a number 8: the length is always the same.
        format!("{:016x}{:08x}{kind}", self.sent, self.frame)
    }

    fn text_at(payload: &[u8]) -> Option<usize> {
        let start = payload.get(..SEARCHED.min(payload.len()))?;
        let at = start.windows(UUID.len()).position(|bytes| bytes == UUID)?;
        Some(at + UUID.len())
    }
}

const SEI: u8 = 6;
const USER_DATA_UNREGISTERED: u8 = 5;

/// Marks the message as one of ours.
const UUID: [u8; 16] = *b"fanlight-bench-1";

/// 16 digits of time, 8 of the frame, and its kind.
const TEXT: usize = 25;
const LEN: u8 = 41;

/// The stamp is in front of the slices, behind parameter sets at most.
const SEARCHED: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_survive_packing() {
        let stamp = Stamp {
            sent: 1_800_000_000_123_456_789,
            frame: 77,
            is_key: true,
        };
        let nal = stamp.to_nal();
        assert_eq!(nal.len(), usize::from(LEN) + 4);
        assert!(
            !nal.windows(2).any(|pair| pair == [0, 0]),
            "needs no escape"
        );
        let mut payload = vec![0x78, 0, 2, 0x67, 1, 0, 45];
        payload.extend(nal);
        payload.extend([1, 2, 3]);
        assert_eq!(Stamp::find(&payload), Some(stamp));
        let other = Stamp {
            sent: 5,
            frame: 6,
            is_key: false,
        };
        other.write_over(&mut payload);
        assert_eq!(Stamp::find(&payload), Some(other));
    }

    #[test]
    fn anything_else_is_no_stamp() {
        let nal = Stamp {
            sent: 1,
            frame: 1,
            is_key: false,
        }
        .to_nal();
        for len in 0..nal.len() - 1 {
            assert_eq!(Stamp::find(&nal[..len]), None, "{len}");
        }
        let mut broken = nal;
        broken[20] = 0xff;
        assert_eq!(Stamp::find(&broken), None);
        Stamp {
            sent: 1,
            frame: 1,
            is_key: false,
        }
        .write_over(&mut []);
    }
}
