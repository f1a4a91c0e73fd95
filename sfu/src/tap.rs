//! A room's program for a non-WebRTC reader.

use crate::TapPacket;

/// The packets of a room's program, at most 2048 waiting. When full, packets are dropped, and video
/// resumes at a keyframe (which is asked for). Ends when dropped.
#[derive(Debug)]
pub struct Tap {}

impl Tap {
    /// Returns the next packet; `None` when the driver has stopped.
    pub async fn recv(&mut self) -> Option<TapPacket> {
        unimplemented!()
    }

    /// Asks the publisher for a keyframe; coalesced and paced by the SFU.
    pub fn request_keyframe(&self) {
        unimplemented!()
    }

    /// Returns how many packets were dropped because the reader was slow.
    pub fn dropped(&self) -> u64 {
        unimplemented!()
    }
}
