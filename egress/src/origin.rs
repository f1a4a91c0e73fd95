//! The HLS files of one job, in memory.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

use crate::{config::HlsConfig, link::SegmentHead, playlist::Window};

/// Holds the segments that the playlist lists and [`GRACE`] more, for players that are about to ask for them.
#[derive(Debug)]
pub(crate) struct Origin {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    window: Window,
    limit: usize,
    inits: VecDeque<(u64, Bytes)>,
    segments: VecDeque<(u64, Bytes)>,
    next_init: u64,
    discontinuity: bool,
    ended: bool,
}

/// A file of the origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum File {
    Playlist(String),
    Init(Bytes),
    Segment(Bytes),
}

impl Origin {
    /// `first` is the number of the first file: no number may ever be used twice in a room, because players and
    /// caches keep files. Unix seconds are such numbers, as a segment lasts longer than one.
    pub(crate) fn new(config: &HlsConfig, first: u64) -> Self {
        Self {
            state: Mutex::new(State {
                window: Window::new(config.segment_ms, config.window_segments, first),
                limit: config.window_segments + GRACE,
                inits: VecDeque::new(),
                segments: VecDeque::new(),
                next_init: first,
                discontinuity: false,
                ended: false,
            }),
        }
    }

    /// Takes in the initialisation segment of the segments that follow.
    pub(crate) fn push_init(&self, bytes: Bytes) {
        let mut state = self.lock();
        let number = state.next_init;
        state.next_init += 1;
        state.inits.push_back((number, bytes));
        while state.inits.len() > state.limit {
            state.inits.pop_front();
        }
    }

    /// Takes in a segment.
    pub(crate) fn push_segment(&self, mut head: SegmentHead, bytes: Bytes) {
        let mut state = self.lock();
        let Some(init) = state.inits.back().map(|(number, _)| *number) else {
            return;
        };
        head.discontinuity |= std::mem::take(&mut state.discontinuity);
        let number = state.window.push(head, init);
        state.segments.push_back((number, bytes));
        while state.segments.len() > state.limit {
            state.segments.pop_front();
        }
    }

    /// Says that the next segment comes from another worker.
    pub(crate) fn interrupt(&self) {
        let mut state = self.lock();
        state.discontinuity = !state.window.is_empty();
    }

    /// Says that no segment will follow.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        state.window.end();
    }

    /// Returns whether there is something to play that goes on.
    pub(crate) fn is_live(&self) -> bool {
        let state = self.lock();
        !state.ended && !state.window.is_empty()
    }

    /// Returns a file by its name.
    pub(crate) fn file(&self, name: &str) -> Option<File> {
        let state = self.lock();
        if name == "index.m3u8" {
            let playable = !state.window.is_empty();
            return playable.then(|| File::Playlist(state.window.text()));
        }
        if let Some(number) = number(name, "init-", ".mp4") {
            return find(&state.inits, number).map(File::Init);
        }
        let number = number(name, "seg-", ".m4s")?;
        find(&state.segments, number).map(File::Segment)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn number(name: &str, before: &str, after: &str) -> Option<u64> {
    name.strip_prefix(before)?.strip_suffix(after)?.parse().ok()
}

fn find(files: &VecDeque<(u64, Bytes)>, number: u64) -> Option<Bytes> {
    let file = files.iter().find(|(n, _)| *n == number);
    file.map(|(_, bytes)| bytes.clone())
}

const GRACE: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> SegmentHead {
        SegmentHead {
            duration_us: 2_000_000,
            starts_at_ms: 0,
            discontinuity: false,
        }
    }

    #[test]
    fn files_are_served_while_listed_and_a_little_longer() {
        let config = HlsConfig {
            segment_ms: 2000,
            window_segments: 4,
        };
        let origin = Origin::new(&config, 100);
        assert_eq!(origin.file("index.m3u8"), None);
        origin.push_init(Bytes::from_static(b"init"));
        for i in 0..20u8 {
            origin.push_segment(head(), Bytes::from(vec![i]));
        }
        assert!(origin.is_live());
        assert_eq!(
            origin.file("init-100.mp4"),
            Some(File::Init(Bytes::from_static(b"init")))
        );
        assert_eq!(origin.file("seg-111.m4s"), None);
        assert_eq!(
            origin.file("seg-112.m4s"),
            Some(File::Segment(Bytes::from_static(&[12])))
        );
        assert_eq!(
            origin.file("seg-119.m4s"),
            Some(File::Segment(Bytes::from_static(&[19])))
        );
        for name in [
            "seg-120.m4s",
            "seg-.m4s",
            "seg-x.m4s",
            "../index.m3u8",
            "init-101.mp4",
            "",
        ] {
            assert_eq!(origin.file(name), None, "{name}");
        }
        let Some(File::Playlist(text)) = origin.file("index.m3u8") else {
            panic!("no playlist");
        };
        assert!(text.contains("#EXT-X-MEDIA-SEQUENCE:116\n"), "{text}");
    }

    #[test]
    fn another_worker_is_a_discontinuity_and_the_end_is_said() {
        let origin = Origin::new(&HlsConfig::default(), 7);
        origin.interrupt();
        origin.push_init(Bytes::new());
        origin.push_segment(head(), Bytes::new());
        origin.interrupt();
        origin.push_init(Bytes::new());
        origin.push_segment(head(), Bytes::new());
        origin.end();
        assert!(!origin.is_live());
        let Some(File::Playlist(text)) = origin.file("index.m3u8") else {
            panic!("no playlist");
        };
        assert_eq!(text.matches("#EXT-X-DISCONTINUITY\n").count(), 1);
        assert!(text.contains("init-7.mp4") && text.contains("init-8.mp4"));
        assert!(text.ends_with("#EXT-X-ENDLIST\n"));
    }
}
