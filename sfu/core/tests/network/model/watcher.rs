//! Somebody who watches: what they see, and what must be true of their streams.

use std::time::{Duration, Instant};

use super::reference::{Seen, Wish};
use crate::world::{
    World,
    viewer::{Packet, Received},
};

pub(super) struct Watcher {
    pub(super) index: usize,
    pub(super) wish: Wish,
    /// When what their link carries changed the last time.
    pub(super) changed: Option<Instant>,
}

impl Watcher {
    fn slots(&self) -> usize {
        if self.wish.has_slots { 9 } else { 1 }
    }

    /// Returns what is arriving in each slot.
    pub(super) fn sees(&self, world: &World) -> Vec<Seen> {
        let viewer = world.viewer(self.index);
        let seen = (0..self.slots()).map(|slot| {
            let newest = viewer.slot(true, slot).newest();
            let lately = |at| world.now - at < Duration::from_millis(150);
            let (packet, _) = newest.filter(|(_, at)| lately(*at))?;
            Some((packet.publisher % 100, packet.publisher / 100))
        });
        seen.collect()
    }

    /// Asserts that nothing is missing, repeated or out of order in what came. Returns how often another layer of
    /// the same publisher began.
    pub(super) fn check_streams(&self, world: &World) -> usize {
        let viewer = world.viewer(self.index);
        let mut switches = 0;
        for slot in 0..self.slots() {
            let video = viewer.slot(true, slot);
            if !video.numbers.is_empty() {
                switches += assert_continuous(&video.complete());
            }
        }
        for slot in 0..self.slots().min(3) {
            assert_in_order(viewer.slot(false, slot));
        }
        switches
    }
}

/// Asserts that a stream starts at a keyframe, changes its source only there, has ascending timestamps and picture
/// ids without a gap, and every packet of each source. Returns how often another layer of the same publisher began.
fn assert_continuous(packets: &[Packet]) -> usize {
    assert!(packets[0].starts_keyframe);
    let mut switches = 0;
    for pair in packets.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        let step = b.timestamp.wrapping_sub(a.timestamp).cast_signed();
        if a.publisher == b.publisher && b.content == a.content + 1 {
            assert_eq!(step > 0, a.marker, "{a:?} {b:?}");
            assert!(step >= 0);
        } else {
            assert!(b.starts_keyframe, "{a:?} {b:?}");
            assert!(a.publisher != b.publisher || b.content > a.content);
            assert!(step > 0);
            switches +=
                usize::from(a.publisher != b.publisher && a.publisher % 100 == b.publisher % 100);
        }
        if let (Some(a), Some(b)) = (a.picture, b.picture) {
            assert!((b.wrapping_sub(a) & 0x7fff) <= 1, "{pair:?}");
        }
    }
    switches
}

fn assert_in_order(audio: &Received) {
    for pair in audio.packets().windows(2) {
        let step = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
        assert!((1..1 << 31).contains(&step), "{pair:?}");
        let is_same = pair[0].publisher == pair[1].publisher;
        assert!(!is_same || pair[1].content > pair[0].content, "{pair:?}");
    }
}
