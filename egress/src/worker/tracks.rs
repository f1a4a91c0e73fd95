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

/// The tracks that are recorded apart, each with a pipeline of its own: one that fails hurts no other.
pub(super) struct Tracks {
    setup: Arc<Setup>,
    clock: Clock,
    reporter: Reporter,
    /// The destinations that want them, by number.
    targets: BTreeMap<usize, RecordTarget>,
    lanes: BTreeMap<u32, Lane>,
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
}

struct Writer {
    thread: JoinHandle<()>,
    stop: Stop,
    since: Duration,
}

impl Tracks {
    pub(super) fn new(setup: Arc<Setup>, clock: Clock, reporter: Reporter) -> Self {
        Self {
            setup,
            clock,
            reporter,
            targets: BTreeMap::new(),
            lanes: BTreeMap::new(),
        }
    }

    /// Records for this destination, too, if it wants that.
    pub(super) fn add(&mut self, number: usize, target: &RecordTarget) {
        if target.tracks.is_none() {
            return;
        }
        self.remove(number);
        self.targets.insert(number, target.clone());
        for (id, lane) in &mut self.lanes {
            lane.write(*id, number, target, self.clock);
        }
    }

    /// Ends what is recorded for this destination, and waits until it is written.
    pub(super) fn remove(&mut self, number: usize) {
        self.targets.remove(&number);
        let lanes = self.lanes.values_mut();
        end(lanes
            .filter_map(|lane| lane.writers.remove(&number))
            .collect());
        if self.targets.is_empty() {
            self.lanes.clear();
        }
    }

    pub(super) fn end(&mut self) {
        for number in self.targets.keys().copied().collect::<Vec<_>>() {
            self.remove(number);
        }
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
        let Some(lane) = self.lanes.get_mut(&packet.lane) else {
            return;
        };
        let alone = Packet { lane: 0, ..*packet };
        if let Err(error) = lane.intake.push(&alone) {
            eprintln!("a track cannot be recorded: {error:#}");
        }
    }

    fn open(&mut self, id: u32, kind: MediaKind) {
        let hub = Hub::new(HOLD, kind == MediaKind::Audio, self.clock);
        let mut lane = Lane {
            kind,
            intake: Intake::of_track(hub.clone(), self.clock, &self.setup, kind),
            hub,
            writers: BTreeMap::new(),
            started: false,
        };
        for (number, target) in &self.targets {
            lane.write(id, *number, target, self.clock);
        }
        self.lanes.insert(id, lane);
        if kind == MediaKind::Video {
            self.reporter.send(&Report::KeyframeWanted, &[]);
        }
    }

    /// Does what is due; returns what was wrong with pipelines.
    pub(super) fn handle_timeout(&mut self) -> Vec<String> {
        let mut failures = Vec::new();
        let mut over = Vec::new();
        for (id, lane) in &mut self.lanes {
            let due = lane.hub.handle_timeout();
            // It was opened with its first packet.
            lane.started |= due.is_some() || !lane.hub.is_off();
            match lane.intake.handle_timeout(due) {
                Ok(found) => failures.extend(found),
                Err(error) => failures.push(format!("{error:#}")),
            }
            failures.extend(lane.replace_fallen(*id, &self.targets, self.clock));
            if lane.started && lane.hub.is_off() {
                over.push(*id);
            }
        }
        // Whoever comes back in the same lane goes on with its folder.
        for id in over {
            if let Some(lane) = self.lanes.remove(&id) {
                end(lane.writers.into_values().collect());
            }
        }
        failures
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
                thread,
                stop,
                since,
            },
        );
    }

    /// Begins anew what has panicked; returns what to say of that.
    fn replace_fallen(
        &mut self,
        id: u32,
        targets: &BTreeMap<usize, RecordTarget>,
        clock: Clock,
    ) -> Vec<String> {
        let now = clock.now();
        let ended = self
            .writers
            .extract_if(.., |_, w| w.thread.is_finished() && now >= w.since + PAUSE);
        let fallen =
            ended.filter_map(|(number, writer)| writer.thread.join().err().map(|_| number));
        let fallen: Vec<usize> = fallen.collect();
        let mut said = Vec::new();
        for number in fallen {
            if let Some(target) = targets.get(&number) {
                self.write(id, number, target, clock);
                said.push(format!(
                    "the recording of track {id} panicked, and begins anew"
                ));
            }
        }
        said
    }
}

/// Ends writers, all at once. Each writes what it has, and is done.
fn end(writers: Vec<Writer>) {
    for writer in &writers {
        writer.stop.stop();
    }
    for writer in writers {
        let _ = writer.thread.join();
    }
}

/// Pictures and sounds of nine people, with their screens.
const LANE_LIMIT: usize = 40;
/// How long what panics again and again is left alone.
const PAUSE: Duration = Duration::from_secs(2);
/// How long a track that sends nothing is taken for one that pauses.
const HOLD: Duration = Duration::from_secs(5);
