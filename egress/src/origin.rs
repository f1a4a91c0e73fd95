//! The HLS files of one job: in memory, and beyond that on disk as far as players may rewind.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::watch, time::timeout};

use crate::{
    config::HlsConfig,
    hls::{
        File, InitHead, Listing, MasterEntry, Refusal, Reload, Rendition, Segment, SegmentStart,
        Shelf, StepHead, Text, Wanted, Whole, master, media,
    },
    playlist::target_seconds,
};

/// Holds the segments that the playlist lists and [`GRACE`] more, for players that are about to ask for them.
#[derive(Debug)]
pub(crate) struct Origin {
    target_seconds: u64,
    part_ms: u64,
    private: bool,
    state: Mutex<State>,
    /// Counts what was pushed: whoever waits for a part waits here.
    pushed: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    segments: VecDeque<Segment>,
    /// The first so many have left the playlist.
    unlisted: usize,
    /// The first so many are on disk.
    shelved: usize,
    /// Segments kept in memory.
    memory: usize,
    rewind: Duration,
    shelf: Option<Shelf>,
    /// The newest last. At most [`INIT_LIMIT`] more than the segments need.
    inits: VecDeque<Init>,
    first: Numbers,
    next: Numbers,
    /// Whether there was a segment with every quality, or so many segments that none is waited for.
    settled: bool,
    /// Whether the next segment comes from another worker.
    interrupted: bool,
    ended: bool,
    /// Playlists made since the last part came, the same for all players.
    texts: BTreeMap<(Rendition, bool), Text>,
}

/// Where a playlist begins. No number is ever used twice in a room, because players and caches keep files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Numbers {
    segment: u64,
    init: u64,
    /// The discontinuity sequence number; 0: no other playlist came before. Players fill lists up to it: it is never
    /// large.
    discontinuity: u64,
}

impl Numbers {
    /// Returns where to begin when no playlist is known that came before. Unix seconds are numbers that none has used,
    /// as a segment lasts longer than one.
    pub(crate) fn at(unix_seconds: u64) -> Self {
        Self {
            segment: unix_seconds,
            init: unix_seconds,
            discontinuity: 0,
        }
    }
}

#[derive(Debug)]
struct Init {
    number: u64,
    head: InitHead,
    bytes: Bytes,
}

impl Origin {
    /// Begins with `first`: where the room's last playlist has ended, for players that still follow that one.
    ///
    /// A `private` one is for whoever has a token. Old segments go to `shelf`, if there is one.
    pub(crate) fn new(
        config: &HlsConfig,
        first: Numbers,
        private: bool,
        shelf: Option<Shelf>,
    ) -> Self {
        Self {
            target_seconds: target_seconds(config.segment_ms),
            part_ms: config.part_ms,
            private,
            state: Mutex::new(State {
                segments: VecDeque::new(),
                unlisted: 0,
                shelved: 0,
                memory: config.window_segments + GRACE,
                rewind: Duration::from_secs(config.dvr_seconds),
                shelf,
                inits: VecDeque::new(),
                first,
                next: first,
                settled: false,
                interrupted: false,
                ended: false,
                texts: BTreeMap::new(),
            }),
            pushed: watch::Sender::new(0),
        }
    }

    pub(crate) fn target_seconds(&self) -> u64 {
        self.target_seconds
    }

    /// Returns whether players need a token.
    pub(crate) fn is_private(&self) -> bool {
        self.private
    }

    /// Takes in the initialisation segment of the parts that follow.
    pub(crate) fn push_init(&self, head: InitHead, bytes: Bytes) {
        let mut state = self.lock();
        let number = state.next.init;
        state.next.init += 1;
        state.inits.push_back(Init {
            number,
            head,
            bytes,
        });
    }

    /// Takes in the next part of every rendition.
    pub(crate) fn push(&self, head: &StepHead, body: Bytes) {
        let mut state = self.lock();
        // A playlist that has said its end says no more.
        if state.ended {
            return;
        }
        if let Some(start) = head.begins {
            state.begin(start, head);
        }
        let Some(open) = state.segments.back_mut().filter(|s| !s.complete) else {
            return;
        };
        open.push(head, body);
        if head.ends {
            state.complete();
        }
        state.texts.clear();
        drop(state);
        self.announce();
    }

    /// Says that the next segment comes from another worker.
    pub(crate) fn interrupt(&self) {
        let mut state = self.lock();
        state.interrupted = true;
        state.complete();
        state.texts.clear();
        drop(state);
        self.announce();
    }

    /// Says that no segment will follow. Returns where the room's next playlist begins.
    pub(crate) fn end(&self) -> Numbers {
        let mut state = self.lock();
        state.complete();
        state.ended = true;
        state.texts.clear();
        let next = state.after();
        drop(state);
        self.announce();
        next
    }

    /// Says that another destination of the job goes on with the playlist. It brings initialisation segments of its own:
    /// they tell where what the old one still says ends, and make a discontinuity.
    pub(crate) fn resume(&self) {
        self.lock().ended = false;
    }

    /// Returns whether no segment will follow.
    pub(crate) fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// Returns whether there is something to play that goes on.
    pub(crate) fn is_live(&self) -> bool {
        let state = self.lock();
        !state.ended && state.is_playable()
    }

    /// Returns a file, waiting for it if it is about to be there.
    pub(crate) async fn get(&self, wanted: Wanted) -> Result<File, Refusal> {
        let mut pushed = self.pushed.subscribe();
        let look = async {
            loop {
                pushed.mark_unchanged();
                match self.look(wanted) {
                    Look::Found(file) => return Ok(file),
                    Look::Refused(refusal) => return Err(refusal),
                    Look::OnDisk(rendition, segment) => return self.read(rendition, segment).await,
                    Look::Later => {}
                }
                if pushed.changed().await.is_err() {
                    return Err(Refusal::Unknown);
                }
            }
        };
        let longest = Duration::from_secs(self.target_seconds * 3);
        timeout(longest, look).await.unwrap_or(Err(Refusal::Late))
    }

    fn look(&self, wanted: Wanted) -> Look {
        let mut state = self.lock();
        match wanted {
            Wanted::Master if !state.is_playable() => Look::Refused(Refusal::Unknown),
            // Players read it once: a quality that it does not name is none for them.
            Wanted::Master if !state.settled && !state.ended => Look::Later,
            Wanted::Master => {
                Look::Found(File::Playlist(Text::new(master(&state.master_entries()))))
            }
            Wanted::Playlist(rendition, reload) => {
                self.look_at_playlist(&mut state, rendition, reload)
            }
            Wanted::Init(number) => {
                let init = state.inits.iter().find(|init| init.number == number);
                init.map_or(Look::Refused(Refusal::Unknown), |init| {
                    Look::Found(File::Init(init.bytes.clone()))
                })
            }
            Wanted::Segment(rendition, number) => match state.segment(number) {
                Some(segment) => match segment.tracks.get(&rendition) {
                    Some(track) => match &track.whole {
                        Whole::Memory(bytes) => Look::Found(File::Media(bytes.clone())),
                        Whole::Disk => Look::OnDisk(track.source, number),
                        Whole::Open => Look::Refused(Refusal::Unknown),
                    },
                    None => Look::Refused(Refusal::Unknown),
                },
                None => Look::Refused(Refusal::Unknown),
            },
            Wanted::Part(rendition, place) => {
                let segment = state.segment(place.segment);
                let track = segment.and_then(|segment| segment.tracks.get(&rendition));
                if let Some(part) = track.and_then(|track| track.parts.get(place.part)) {
                    return Look::Found(File::Media(part.bytes.clone()));
                }
                // What the playlist hints at is about to be there.
                let hinted = self.listing(&state).next() == Some(place) && !state.ended;
                if hinted && state.has(rendition) {
                    Look::Later
                } else {
                    Look::Refused(Refusal::Unknown)
                }
            }
        }
    }

    fn look_at_playlist(&self, state: &mut State, rendition: Rendition, reload: Reload) -> Look {
        if !state.is_playable() || !state.has(rendition) {
            return Look::Refused(Refusal::Unknown);
        }
        let listing = self.listing(state);
        let Some(next) = listing.next() else {
            return Look::Refused(Refusal::Unknown);
        };
        if let (Some(wanted), false) = (reload.from, state.ended) {
            if wanted.is_too_far(next, self.part_ms) {
                return Look::Refused(Refusal::TooFar);
            }
            let parts = |number| {
                state
                    .segment(number)
                    .filter(|s| s.complete)
                    .map(|s| s.parts.len())
            };
            if !wanted.is_there(next, parts) {
                return Look::Later;
            }
        }
        let made = state.texts.get(&(rendition, reload.skip)).cloned();
        let text = made.unwrap_or_else(|| Text::new(media(listing, rendition, reload.skip)));
        state.texts.insert((rendition, reload.skip), text.clone());
        Look::Found(if reload.from.is_some() {
            File::Reload(text)
        } else {
            File::Playlist(text)
        })
    }

    async fn read(&self, rendition: Rendition, segment: u64) -> Result<File, Refusal> {
        let path = {
            let state = self.lock();
            let shelf = state.shelf.as_ref().ok_or(Refusal::Unknown)?;
            shelf.path(rendition, segment)
        };
        let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await;
        match read {
            Ok(Ok(bytes)) => Ok(File::Media(bytes.into())),
            Ok(Err(_)) | Err(_) => Err(Refusal::Unknown),
        }
    }

    fn listing<'a>(&self, state: &'a State) -> Listing<'a> {
        Listing {
            target_seconds: self.target_seconds,
            part_ms: self.part_ms,
            segments: &state.segments,
            unlisted: state.unlisted,
            ended: state.ended,
        }
    }

    fn announce(&self) {
        self.pushed
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What there is of a file.
enum Look {
    Found(File),
    OnDisk(Rendition, u64),
    Later,
    Refused(Refusal),
}

impl State {
    fn begin(&mut self, mut start: SegmentStart, head: &StepHead) {
        self.complete();
        start.discontinuity |= std::mem::take(&mut self.interrupted);
        let inits = &self.inits;
        let init = |rendition| {
            let mut newest_first = inits.iter().rev();
            let init = newest_first.find(|init| init.head.rendition == rendition)?;
            Some(init.number)
        };
        let before = self.segments.back();
        let (sequence, first) = (self.next.segment, self.first.discontinuity);
        if let Some(segment) = Segment::begin(sequence, start, head, before, first, init) {
            self.next.segment += 1;
            self.segments.push_back(segment);
        }
    }

    /// Returns where another playlist may go on.
    fn after(&self) -> Numbers {
        let last = self.segments.back();
        Numbers {
            discontinuity: last.map_or(self.first.discontinuity, |last| last.discontinuities + 1),
            ..self.next
        }
    }

    /// Completes the segment that is open, if there is one, and lets go of what is too old.
    fn complete(&mut self) {
        let Some(open) = self.segments.back_mut().filter(|s| !s.complete) else {
            return;
        };
        if open.parts.is_empty() {
            self.segments.pop_back();
            return;
        }
        open.complete();
        let whole = self.next.segment - self.first.segment;
        self.settled |= open.settled || whole >= SETTLING;
        if let Some(shelf) = &mut self.shelf {
            shelf.put(open);
        }
        self.leave_memory();
        self.unlist();
        self.forget();
    }

    /// Keeps the newest segments in memory. Older ones are on disk, or gone.
    fn leave_memory(&mut self) {
        let newest = self.segments.len().saturating_sub(self.memory);
        for at in self.shelved..newest {
            let Some(segment) = self.segments.get_mut(at) else {
                break;
            };
            let sequence = segment.sequence;
            if self.shelf.as_mut().is_some_and(|shelf| shelf.has(sequence)) {
                segment.leave_memory();
            } else {
                // One that could not be written ends the window there: a playlist has no holes.
                self.unlisted = self.unlisted.max(at + 1);
            }
        }
        self.shelved = newest;
    }

    /// Takes segments off the playlist that are older than players may rewind.
    fn unlist(&mut self) {
        let least = self.memory - GRACE;
        let bytes = self.shelf.as_ref().map_or(u64::MAX, Shelf::limit);
        let (mut duration, mut length) = (Duration::ZERO, 0);
        let mut listed = 0;
        for segment in self.segments.iter().rev() {
            duration += segment.duration();
            length += segment.length();
            if listed >= least && (duration > self.rewind || length > bytes) {
                break;
            }
            listed += 1;
        }
        let unlisted = self.segments.len().saturating_sub(listed);
        self.unlisted = self.unlisted.max(unlisted);
    }

    fn forget(&mut self) {
        while self.unlisted > GRACE {
            let Some(gone) = self.segments.pop_front() else {
                break;
            };
            self.unlisted -= 1;
            self.shelved = self.shelved.saturating_sub(1);
            if let Some(shelf) = &mut self.shelf {
                shelf.remove(&gone);
            }
        }
        let oldest = self.segments.iter().flat_map(|s| s.tracks.values());
        let oldest = oldest.map(|track| track.init).min();
        while let (Some(init), Some(oldest)) = (self.inits.front(), oldest) {
            if init.number >= oldest {
                break;
            }
            self.inits.pop_front();
        }
    }

    /// Returns whether a player finds something to begin with.
    fn is_playable(&self) -> bool {
        self.segments.iter().skip(self.unlisted).any(|s| s.complete)
    }

    fn has(&self, rendition: Rendition) -> bool {
        let mut complete = self.segments.iter().rev().filter(|s| s.complete);
        complete
            .next()
            .is_some_and(|s| s.tracks.contains_key(&rendition))
    }

    fn segment(&self, number: u64) -> Option<&Segment> {
        let first = self.segments.front()?.sequence;
        let at = usize::try_from(number.checked_sub(first)?).ok()?;
        self.segments.get(at)
    }

    fn master_entries(&self) -> Vec<MasterEntry> {
        let Some(last) = self.segments.iter().rev().find(|s| s.complete) else {
            return Vec::new();
        };
        let entry = |rendition: &Rendition| self.master_entry(*rendition);
        last.tracks.keys().filter_map(entry).collect()
    }

    fn master_entry(&self, rendition: Rendition) -> Option<MasterEntry> {
        let (mut peak, mut bits, mut frames) = (0, 0, 0.0);
        let (mut duration, mut init) = (Duration::ZERO, None);
        let recent = self.segments.iter().rev().filter(|s| s.complete);
        for segment in recent.take(RECENT) {
            let source = segment.tracks.get(&rendition).map(|track| track.source);
            let Some((source, track)) = source.and_then(|s| Some((s, segment.tracks.get(&s)?)))
            else {
                continue;
            };
            init = init.or(Some(track.init));
            // What stands in for it does not say what it costs.
            if source != rendition && bits > 0 {
                continue;
            }
            // Short segments, at the end of a worker, say nothing of a bitrate.
            peak = peak.max(per_second(track.bits(), segment.duration().max(SHORTEST)));
            bits += track.bits();
            frames += f64::from(track.frames);
            duration += segment.duration();
        }
        let init = self.inits.iter().find(|i| Some(i.number) == init)?;
        let duration = duration.max(Duration::from_millis(1));
        Some(MasterEntry {
            rendition,
            peak,
            average: per_second(bits, duration),
            codecs: init.head.codecs.clone(),
            width: init.head.width,
            height: init.head.height,
            frames_per_second: frames / duration.as_secs_f64(),
        })
    }
}

fn per_second(bits: u64, duration: Duration) -> u64 {
    let micros = duration.as_micros().max(1);
    u64::try_from(u128::from(bits) * 1_000_000 / micros).unwrap_or(u64::MAX)
}

/// Segments for which qualities that are about to begin are waited for, at most.
const SETTLING: u64 = 3;
const SHORTEST: Duration = Duration::from_millis(500);
const GRACE: usize = 4;
/// Segments from which bitrates are told.
const RECENT: usize = 8;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::hls::{From, Piece, Place, rules};

    const V0: Rendition = Rendition::Video(0);
    const V1: Rendition = Rendition::Video(1);

    /// A worker that sends two qualities and sound, and a player that checks every playlist it gets.
    struct Play {
        origin: Arc<Origin>,
        parts: usize,
        time_ms: u64,
        seen: BTreeMap<Rendition, rules::Media>,
    }

    impl Play {
        fn new(config: &HlsConfig, shelf: Option<Shelf>) -> Self {
            Self {
                origin: Arc::new(Origin::new(config, Numbers::at(100), false, shelf)),
                parts: 0,
                time_ms: 1_700_000_000_000,
                seen: BTreeMap::new(),
            }
        }

        fn init(&self, renditions: &[Rendition]) {
            for rendition in renditions {
                let head = InitHead {
                    rendition: *rendition,
                    codecs: "avc1.42c01f,mp4a.40.2".into(),
                    width: 1280,
                    height: 720,
                };
                self.origin
                    .push_init(head, Bytes::from(format!("init {rendition}")));
            }
        }

        /// Sends the next part of `sources`; seven make a segment.
        fn part(&mut self, sources: &[(Rendition, Rendition)], discontinuity: bool) {
            let at = self.parts % 7;
            let mut body = Vec::new();
            let mut pieces = Vec::new();
            for (rendition, source) in sources {
                let bytes = format!("<{rendition} {}>", self.parts);
                let length = if rendition == source { bytes.len() } else { 0 };
                body.extend_from_slice(&bytes.as_bytes()[..length]);
                pieces.push(Piece {
                    rendition: *rendition,
                    source: *source,
                    length,
                    frames: 9,
                    independent: at == 0,
                });
            }
            let start = SegmentStart {
                starts_at_ms: self.time_ms,
                discontinuity,
            };
            let head = StepHead {
                duration_us: 280_000,
                begins: (at == 0).then_some(start),
                ends: at == 6,
                settled: sources == ALL,
                pieces,
            };
            self.parts += 1;
            self.time_ms += 280;
            self.origin.push(&head, body.into());
        }

        fn segment(&mut self, sources: &[(Rendition, Rendition)]) {
            for _ in 0..7 {
                self.part(sources, false);
            }
        }

        async fn text(&self, rendition: Rendition, reload: Reload) -> String {
            let wanted = Wanted::Playlist(rendition, reload);
            match self.origin.get(wanted).await {
                Ok(File::Playlist(text) | File::Reload(text)) => {
                    String::from_utf8(text.body.to_vec()).unwrap()
                }
                other => panic!("{other:?}"),
            }
        }

        /// Gets a playlist and holds it against the rules, and against the one before.
        async fn check(&mut self, rendition: Rendition) -> rules::Media {
            let text = self.text(rendition, Reload::default()).await;
            let media = rules::parse(&text).unwrap_or_else(|e| panic!("{e} in\n{text}"));
            if let Some(before) = self.seen.get(&rendition) {
                rules::follows(before, &media).unwrap_or_else(|e| panic!("{e} in\n{text}"));
            }
            self.seen.insert(rendition, media.clone());
            media
        }

        async fn media(&self, wanted: Wanted) -> Result<String, Refusal> {
            self.origin.get(wanted).await.map(|file| match file {
                File::Media(bytes) | File::Init(bytes) => {
                    String::from_utf8(bytes.to_vec()).unwrap()
                }
                File::Playlist(_) | File::Reload(_) => panic!("a playlist"),
            })
        }
    }

    const ALL: [(Rendition, Rendition); 3] =
        [(V0, V0), (V1, V1), (Rendition::Audio, Rendition::Audio)];

    fn config(dvr_seconds: u64) -> HlsConfig {
        HlsConfig {
            dvr_seconds,
            ..HlsConfig::default()
        }
    }

    fn part(segment: u64, part: usize) -> Place {
        Place { segment, part }
    }

    #[tokio::test]
    async fn playlists_keep_the_rules_and_renditions_stay_in_step() {
        let mut play = Play::new(&config(0), None);
        let none = play.origin.get(Wanted::Master).await;
        assert_eq!(none, Err(Refusal::Unknown), "nothing to play yet");
        play.init(&[V0, V1, Rendition::Audio]);
        play.segment(&ALL);
        for turn in 0..120 {
            // The lower layer is missing for a while: the upper one stands in, and later it is back.
            let lower = if (20..60).contains(&turn) && turn >= 21 {
                V0
            } else {
                V1
            };
            let sources = [(V0, V0), (V1, lower), (Rendition::Audio, Rendition::Audio)];
            let sources = if turn % 7 == 0 || turn < 21 {
                ALL
            } else {
                sources
            };
            play.part(&sources, false);
            let medias = [
                play.check(V0).await,
                play.check(V1).await,
                play.check(Rendition::Audio).await,
            ];
            for other in &medias[1..] {
                rules::in_step(&medias[0], other).unwrap();
                assert_eq!(medias[0].next_sequence(), other.next_sequence());
            }
            let newest = (medias[0].reports.len(), medias[0].reports.first().cloned());
            assert_eq!(newest.0, 2, "{newest:?}");
        }
        play.origin.end();
        let ended = play.text(V0, Reload::default()).await;
        assert!(play.check(V0).await.ended);
        assert!(!play.origin.is_live());
        play.segment(&ALL);
        let after = play.text(V0, Reload::default()).await;
        assert_eq!(after, ended, "nothing comes behind the end");
    }

    #[tokio::test]
    async fn a_missing_layer_is_replaced_with_a_discontinuity_everywhere() {
        let mut play = Play::new(&config(0), None);
        play.init(&[V0, V1, Rendition::Audio]);
        play.segment(&ALL);
        play.segment(&[(V0, V0), (V1, V0), (Rendition::Audio, Rendition::Audio)]);
        // A worker that has just started knows only the upper one.
        play.origin.interrupt();
        play.init(&[V0, Rendition::Audio]);
        play.segment(&[(V0, V0), (Rendition::Audio, Rendition::Audio)]);
        for rendition in [V0, V1, Rendition::Audio] {
            let media = play.check(rendition).await;
            let flags: Vec<_> = media.segments.iter().map(|s| s.discontinuity).collect();
            assert_eq!(flags, [false, true, true], "{rendition}");
        }
        let (own, other) = (Wanted::Segment(V0, 101), Wanted::Segment(V1, 101));
        assert_eq!(play.media(own).await, play.media(other).await);
        let media = play.check(V1).await;
        assert_eq!(media.segments[1].map, "init-100.mp4", "the upper one's");
        let map = Wanted::Init(100);
        assert_eq!(play.media(map).await.as_deref(), Ok("init v0"));
    }

    #[tokio::test]
    async fn another_destination_goes_on_with_the_playlist() {
        let mut play = Play::new(&config(0), None);
        play.init(&[V0, V1, Rendition::Audio]);
        play.segment(&ALL);
        play.segment(&ALL);
        play.part(&ALL, false);
        play.check(V0).await;
        play.origin.resume();
        // The rest of what the old one had begun.
        play.part(&ALL, false);
        play.parts = 0;
        play.init(&[V0, V1, Rendition::Audio]);
        for _ in 0..40 {
            play.segment(&ALL);
            for rendition in [V0, V1, Rendition::Audio] {
                let media = play.check(rendition).await;
                assert!(!media.ended);
                for (sequence, number) in media.discontinuities() {
                    assert_eq!(number, u64::from(sequence > 102), "segment {sequence}");
                }
            }
        }
        assert_eq!(play.check(V0).await.next_sequence(), 143);
    }

    #[tokio::test]
    async fn a_room_s_next_playlist_goes_on_where_the_last_one_ended() {
        let mut play = Play::new(&config(0), None);
        for round in 0..3_u64 {
            play.init(&[V0, V1, Rendition::Audio]);
            play.segment(&ALL);
            play.segment(&ALL);
            play.part(&ALL, false);
            play.parts = 0;
            let last = play.check(V0).await;
            let inits = 100 + 3 * round;
            assert_eq!(last.segments[0].map, format!("init-{inits}.mp4"));
            let numbers = last.discontinuities();
            let first = 100 + 3 * round;
            assert_eq!(
                numbers,
                BTreeMap::from([(first, round), (first + 1, round)])
            );
            assert_eq!(last.discontinuity_sequence, round.saturating_sub(1));
            assert_eq!(last.segments[0].discontinuity, round > 0);

            let end = play.origin.end();
            let unused = Origin::new(&config(0), end, false, None);
            assert_eq!(unused.end(), end, "one that never began");
            play.origin = Arc::new(Origin::new(&config(0), end, false, None));
            play.seen.clear();
        }
    }

    #[tokio::test]
    async fn a_segment_is_its_parts() {
        let mut play = Play::new(&config(0), None);
        play.init(&[V0, V1, Rendition::Audio]);
        play.segment(&ALL);
        let mut parts = String::new();
        for at in 0..7 {
            parts += &play.media(Wanted::Part(V1, part(100, at))).await.unwrap();
        }
        assert_eq!(play.media(Wanted::Segment(V1, 100)).await, Ok(parts));
        for unknown in [
            Wanted::Segment(V1, 101),
            Wanted::Segment(V1, 99),
            Wanted::Segment(Rendition::Video(2), 100),
            Wanted::Part(V1, part(100, 7)),
            Wanted::Part(V1, part(101, 1)),
            Wanted::Part(Rendition::Video(2), part(101, 0)),
            Wanted::Init(103),
            Wanted::Playlist(Rendition::Video(2), Reload::default()),
        ] {
            let got = play.origin.get(unknown).await;
            assert_eq!(got, Err(Refusal::Unknown), "{unknown:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_players_wait_until_every_quality_is_there_but_not_for_ever() {
        const UPPER: [(Rendition, Rendition); 2] = [(V0, V0), (Rendition::Audio, Rendition::Audio)];
        let tasks = tokio_util::task::TaskTracker::new();
        for (rest, both) in [([&ALL[..], &ALL], true), ([&UPPER, &UPPER], false)] {
            let mut play = Play::new(&config(0), None);
            play.init(&[V0, V1, Rendition::Audio]);
            play.segment(&UPPER);
            let origin = play.origin.clone();
            let first = tasks.spawn(async move { origin.get(Wanted::Master).await });
            tokio::task::yield_now().await;
            assert!(!first.is_finished(), "the lower one is about to begin");
            for sources in rest {
                play.segment(sources);
            }
            let Ok(File::Playlist(text)) = first.await.unwrap() else {
                panic!("no playlist");
            };
            let text = String::from_utf8(text.body.to_vec()).unwrap();
            assert_eq!(text.contains("\nv1/"), both, "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn players_wait_for_what_is_about_to_come_and_no_longer() {
        let mut play = Play::new(&config(0), None);
        play.init(&[V0, V1, Rendition::Audio]);
        play.segment(&ALL);
        play.part(&ALL, false);
        let origin = play.origin.clone();
        let tasks = tokio_util::task::TaskTracker::new();
        let waits = |segment, part| {
            let origin = origin.clone();
            let from = Some(From { segment, part });
            let reload = Reload { from, skip: false };
            tasks.spawn(async move { origin.get(Wanted::Playlist(V1, reload)).await })
        };
        let hinted = {
            let origin = origin.clone();
            tasks.spawn(async move { origin.get(Wanted::Part(V1, part(101, 1))).await })
        };
        let (playlist, whole) = (waits(101, Some(1)), waits(101, None));
        assert_eq!(waits(103, None).await.unwrap(), Err(Refusal::TooFar));
        assert_eq!(waits(101, Some(20)).await.unwrap(), Err(Refusal::TooFar));
        assert_eq!(waits(102, Some(50)).await.unwrap(), Err(Refusal::TooFar));
        tokio::task::yield_now().await;
        assert!(!hinted.is_finished() && !playlist.is_finished());
        play.part(&ALL, false);
        let part = play.media(Wanted::Part(V1, part(101, 1))).await.unwrap();
        assert_eq!(hinted.await.unwrap(), Ok(File::Media(part.into())));
        let Ok(File::Reload(text)) = playlist.await.unwrap() else {
            panic!("no playlist");
        };
        let text = String::from_utf8(text.body.to_vec()).unwrap();
        assert!(text.contains("part-101.1.m4s") && text.contains("LAST-MSN=101,LAST-PART=1"));
        // Nothing more comes: three target durations.
        assert_eq!(whole.await.unwrap(), Err(Refusal::Late));
    }

    #[tokio::test]
    async fn a_long_window_is_on_disk_and_skipped_in_updates() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("job");
        let shelf = Shelf::open(place.clone(), 1 << 20);
        let mut play = Play::new(&config(100), Some(shelf));
        play.init(&[V0, V1, Rendition::Audio]);
        for number in 0..80_u64 {
            play.segment(&ALL);
            let file = place.join(format!("v1-{}.m4s", 100 + number));
            for _ in 0..1000 {
                if file.exists() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert!(file.exists(), "segment {number} is written");
        }
        let media = play.check(V1).await;
        assert!(
            (96.0..=100.0).contains(&media.duration()),
            "{}",
            media.duration()
        );
        let oldest = play
            .media(Wanted::Segment(V1, media.sequence))
            .await
            .unwrap();
        assert!(oldest.starts_with("<v1 "), "{oldest}");
        let reload = Reload {
            from: None,
            skip: true,
        };
        let text = play.text(V1, reload).await;
        let update = rules::parse(&text).unwrap_or_else(|e| panic!("{e} in\n{text}"));
        assert!(update.skipped > 30, "{text}");
        assert!(update.duration() >= update.skip_until);
        assert_eq!(update.next_sequence(), media.next_sequence());
        assert_eq!(update.discontinuity_sequence, media.discontinuity_sequence);
        let files = || std::fs::read_dir(&place).map_or(0, Iterator::count);
        assert!(files() <= 3 * (51 + GRACE + 2), "{} files", files());
        drop(play);
        for _ in 0..1000 {
            if !place.exists() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(!place.exists(), "the folder goes with the job");
    }

    #[tokio::test]
    async fn a_disk_that_fails_shortens_the_window() {
        for from_the_start in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let place = folder.path().join("job");
            if from_the_start {
                std::fs::write(&place, "in the way").unwrap();
            }
            let shelf = Shelf::open(place.clone(), 1 << 20);
            while !place.exists() {
                std::thread::yield_now();
            }
            if !from_the_start {
                std::fs::remove_dir_all(&place).unwrap();
            }
            let mut play = Play::new(&config(100), Some(shelf));
            play.init(&[V0, V1, Rendition::Audio]);
            for _ in 0..40 {
                play.segment(&ALL);
                let media = play.check(V0).await;
                let oldest = play.media(Wanted::Segment(V0, media.sequence)).await;
                assert!(oldest.is_ok(), "what is listed can be had");
            }
            assert!(play.check(V0).await.segments.len() <= 12);
        }
    }
}
