//! Records every track of the stage into files of its own.

use std::{
    collections::BTreeMap,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use sfu::MediaKind;

use super::Reporter;
use crate::{
    link::{Packet, RecordTarget, Report, Setup},
    output::{Attempt, Record, Stop},
    pipeline::{Clock, Hub, Intake},
    recording::track_folder,
};

/// The tracks that are recorded apart, each with a pipeline of its own: one that fails hurts no other. Waits for no
/// disk: what ends is looked after until it has written what it has.
pub(super) struct Tracks {
    setup: Arc<Setup>,
    clock: Clock,
    reporter: Reporter,
    /// The destinations that want them, by number.
    targets: BTreeMap<usize, RecordTarget>,
    lanes: BTreeMap<u32, Lane>,
    /// Attempts of destinations that end once all their tracks are written: they speak for these.
    leaving: BTreeMap<usize, Stop>,
}

/// A track that comes in.
struct Lane {
    kind: MediaKind,
    hub: Arc<Hub>,
    intake: Intake,
    /// By destination.
    writers: BTreeMap<usize, Writer>,
    /// Whether anything of it was on air.
    started: bool,
    /// Whether nothing more is taken of it.
    over: bool,
}

struct Writer {
    /// `None` when it has ended by itself, as on a disk that is full. It stays so until it is wanted anew.
    thread: Option<JoinHandle<()>>,
    stop: Stop,
    since: Duration,
    /// Whether it was told to end. Nobody else writes into its folder until it has.
    ending: bool,
}

impl Tracks {
    pub(super) fn new(setup: Arc<Setup>, clock: Clock, reporter: Reporter) -> Self {
        Self {
            setup,
            clock,
            reporter,
            targets: BTreeMap::new(),
            lanes: BTreeMap::new(),
            leaving: BTreeMap::new(),
        }
    }

    /// Records for this destination, too, if it wants that.
    pub(super) fn add(&mut self, number: usize, target: &RecordTarget) {
        if target.tracks.is_none() {
            return;
        }
        self.end_writers(number);
        self.targets.insert(number, target.clone());
        self.write();
    }

    /// Ends what is recorded for this destination, and then its own attempt.
    pub(super) fn remove(&mut self, number: usize, attempt: Stop) {
        self.targets.remove(&number);
        self.end_writers(number);
        if self.targets.is_empty() {
            self.lanes.values_mut().for_each(|lane| lane.over = true);
        }
        self.leaving.insert(number, attempt);
        self.release();
    }

    /// Returns whether tracks are recorded for this destination.
    pub(super) fn has(&self, number: usize) -> bool {
        self.targets.contains_key(&number)
    }

    /// Takes in a packet of a track.
    pub(super) fn push(&mut self, packet: &Packet<'_>) {
        let kind = packet.codec.kind();
        if self.targets.is_empty() || (self.setup.audio_only && kind == MediaKind::Video) {
            return;
        }
        if !self.lanes.contains_key(&packet.lane) {
            if self.lanes.len() >= LANE_LIMIT {
                return;
            }
            self.open(packet.lane, kind);
        }
        // Whoever comes back in the same lane goes on with its folder, once that is free.
        let Some(lane) = self.lanes.get_mut(&packet.lane).filter(|lane| !lane.over) else {
            return;
        };
        let alone = Packet { lane: 0, ..*packet };
        if let Err(error) = lane.intake.push(&alone) {
            eprintln!("a track cannot be recorded: {error:#}");
        }
    }

    fn open(&mut self, id: u32, kind: MediaKind) {
        let hub = Hub::new(HOLD, kind == MediaKind::Audio, self.clock);
        let lane = Lane {
            kind,
            intake: Intake::of_track(hub.clone(), self.clock, &self.setup, kind),
            hub,
            writers: BTreeMap::new(),
            started: false,
            over: false,
        };
        self.lanes.insert(id, lane);
        self.write();
        if kind == MediaKind::Video {
            self.reporter.send(&Report::KeyframeWanted, &[]);
        }
    }

    /// Does what is due; returns what was wrong with pipelines.
    pub(super) fn handle_timeout(&mut self) -> Vec<String> {
        let mut failures = Vec::new();
        for (id, lane) in self.lanes.iter_mut().filter(|(_, lane)| !lane.over) {
            let due = lane.hub.handle_timeout();
            // It was opened with its first packet.
            lane.started |= due.is_some() || !lane.hub.is_off();
            match lane.intake.handle_timeout(due) {
                Ok(found) => failures.extend(found),
                Err(error) => failures.push(format!("{error:#}")),
            }
            failures.extend(lane.forget_fallen(*id, self.clock.now()));
            if lane.started && lane.hub.is_off() {
                lane.over = true;
                lane.writers.values_mut().for_each(Writer::end);
            }
        }
        self.release();
        self.write();
        failures
    }

    fn end_writers(&mut self, number: usize) {
        let lanes = self.lanes.values_mut();
        lanes
            .filter_map(|lane| lane.writers.get_mut(&number))
            .for_each(Writer::end);
    }

    /// Lets go of what has ended.
    fn release(&mut self) {
        for lane in self.lanes.values_mut() {
            lane.writers
                .retain(|_, writer| !(writer.ending && writer.has_ended()));
        }
        let lanes = &self.lanes;
        self.leaving.retain(|number, attempt| {
            let writes = lanes.values().any(|lane| lane.writers.contains_key(number));
            if !writes {
                attempt.stop();
            }
            writes
        });
        let is_gone = |lane: &Lane| lane.over && lane.writers.is_empty();
        let gone = self.lanes.extract_if(.., |_, lane| is_gone(lane));
        let gone: Vec<Lane> = gone.map(|(_, lane)| lane).collect();
        if !gone.is_empty() {
            // Pipelines take their time to end.
            thread::spawn(move || drop(gone));
        }
    }

    /// Writes every track for every destination that wants them.
    fn write(&mut self) {
        for (id, lane) in self.lanes.iter_mut().filter(|(_, lane)| !lane.over) {
            for (number, target) in &self.targets {
                if !lane.writers.contains_key(number) {
                    lane.write(*id, *number, target, self.clock);
                }
            }
        }
    }
}

impl Writer {
    fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn end(&mut self) {
        self.ending = true;
        self.stop.stop();
    }
}

impl Lane {
    fn write(&mut self, id: u32, number: usize, target: &RecordTarget, clock: Clock) {
        let Some(run) = &target.tracks else { return };
        let stop = Stop::default();
        let record = Record {
            attempt: Attempt {
                number,
                clock,
                hub: self.hub.clone(),
                // The destination's own attempt speaks for it.
                reporter: Reporter::silent(),
                meter: Arc::default(),
                stop: stop.clone(),
            },
            target: RecordTarget {
                folder: target.folder.join(track_folder(run, id)),
                tracks: None,
                ..target.clone()
            },
            sound: self.kind == MediaKind::Audio,
        };
        let thread = thread::spawn(move || record.run());
        let since = clock.now();
        self.writers.insert(
            number,
            Writer {
                thread: Some(thread),
                stop,
                since,
                ending: false,
            },
        );
    }

    /// Lets go of what has panicked, so that it begins anew; returns what to say of that.
    fn forget_fallen(&mut self, id: u32, now: Duration) -> Vec<String> {
        let mut said = Vec::new();
        self.writers.retain(|_, writer| {
            let rests = !writer.ending && now >= writer.since + PAUSE && writer.has_ended();
            let ended = writer.thread.take_if(|_| rests);
            let has_panicked = ended.is_some_and(|thread| thread.join().is_err());
            if has_panicked {
                said.push(format!(
                    "the recording of track {id} panicked, and begins anew"
                ));
            }
            !has_panicked
        });
        said
    }
}

/// Pictures and sounds of nine people, with their screens.
const LANE_LIMIT: usize = 40;
/// How long after it began what panics is left alone.
const PAUSE: Duration = Duration::from_secs(2);
/// How long a track that sends nothing is taken for one that pauses.
const HOLD: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::{
        path::PathBuf,
        sync::mpsc::{Sender, channel},
    };

    use super::*;
    use crate::preset::Mode;

    fn tracks() -> Tracks {
        let setup = Setup {
            mode: Mode::PassThrough,
            stage: true,
            audio_only: false,
            images: None,
            folders: Vec::new(),
            keyframe_interval_ms: 2000,
            connect_timeout_ms: 5000,
            stall_timeout_ms: 5000,
            hold_ms: 5000,
            audio_bitrate: 128_000,
            transcode_bitrate: 2_500_000,
            tls_ca_file: None,
        };
        Tracks::new(Arc::new(setup), Clock::start(), Reporter::silent())
    }

    /// A track of sound that destination 1 records, and whose disk answers when the sender is dropped.
    fn with_slow_disk(tracks: &mut Tracks) -> Sender<()> {
        tracks.open(7, MediaKind::Audio);
        let (disk, answers) = channel::<()>();
        let stop = Stop::default();
        let writer = Writer {
            thread: Some(thread::spawn(move || answers.recv().unwrap_or_default())),
            stop,
            since: tracks.clock.now(),
            ending: false,
        };
        let lane = tracks.lanes.get_mut(&7).unwrap();
        lane.writers.insert(1, writer);
        disk
    }

    fn target() -> RecordTarget {
        RecordTarget {
            folder: PathBuf::from("/nowhere"),
            segment_ms: None,
            segment_bytes: None,
            min_free_bytes: 0,
            tracks: Some("run".to_owned()),
        }
    }

    fn settle(tracks: &mut Tracks, until: impl Fn(&Tracks) -> bool) {
        for _ in 0..500 {
            tracks.handle_timeout();
            if until(tracks) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("not within five seconds");
    }

    #[test]
    fn a_destination_ends_behind_its_tracks_and_nobody_waits_for_the_disk() {
        let mut tracks = tracks();
        let disk = with_slow_disk(&mut tracks);
        let attempt = Stop::default();
        tracks.remove(1, attempt.clone());
        tracks.handle_timeout();
        let lane = &tracks.lanes[&7];
        assert!(lane.writers[&1].stop.is_stopped() && lane.over);
        assert!(!attempt.is_stopped(), "its tracks are not written yet");
        // Of others nothing is recorded here.
        let other = Stop::default();
        tracks.remove(2, other.clone());
        assert!(other.is_stopped());
        drop(disk);
        settle(&mut tracks, |_| attempt.is_stopped());
        assert!(tracks.lanes.is_empty());
    }

    #[test]
    fn a_folder_is_written_by_one_at_a_time() {
        let mut tracks = tracks();
        let disk = with_slow_disk(&mut tracks);
        tracks.add(1, &target());
        tracks.handle_timeout();
        assert!(tracks.lanes[&7].writers[&1].ending, "the one of before");
        drop(disk);
        settle(&mut tracks, |tracks| {
            let writers = &tracks.lanes[&7].writers;
            writers.get(&1).is_some_and(|writer| !writer.ending)
        });
        tracks.remove(1, Stop::default());
        settle(&mut tracks, |tracks| tracks.lanes.is_empty());
    }
}
