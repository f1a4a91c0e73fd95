//! A recording: one thread, which writes the programme to fragmented files and says how that goes.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::fs::statvfs;
use sfu::MediaKind;

use super::{
    Attempt, Meter, Stop,
    attempt::IDLE_POLL,
    queue::{Queue, Taken},
    record_file::{RecordFile, Written},
};
use crate::{
    fmp4::{AudioFormat, VideoFormat},
    link::{Failure, RecordTarget},
    pipeline::{Air, Frame, Output},
    recording::Raw,
    status::{DestinationState, FailureCode},
};

/// One recording of a worker.
pub(crate) struct Record {
    pub(crate) attempt: Attempt,
    pub(crate) target: RecordTarget,
    /// Whether there is to be sound. There is picture if the programme has one.
    pub(crate) sound: bool,
}

/// One programme being written.
struct Session<'a> {
    record: &'a Record,
    has_video: bool,
    /// Whether the next file goes on with the movie of the last one.
    joins: bool,
    open: Option<RecordFile>,
    /// Frames until both formats are known.
    early: Vec<Frame>,
    /// Whether sound came that the open file has no place for.
    silenced: bool,
    checked: Option<Instant>,
    live: bool,
}

impl Record {
    /// Writes until stopped or failed, and reports how that went.
    pub(crate) fn run(&self) {
        match self.write() {
            Ok(()) => self.attempt.report_state(DestinationState::Ended),
            Err(error) => self.attempt.report_failure(failure(&error)),
        }
    }

    fn write(&self) -> io::Result<()> {
        std::fs::create_dir_all(&self.target.folder)?;
        self.check_space()?;
        self.say_connecting();
        let mut joins = true;
        while !self.attempt.stop.is_stopped() {
            let air = self.attempt.hub.wait_on_air(IDLE_POLL);
            if let Air::On { video, .. } = air {
                self.follow(air, video, joins)?;
                joins = false;
                if !self.attempt.stop.is_stopped() {
                    self.say_connecting();
                }
            }
        }
        Ok(())
    }

    /// What keeps it from going on air is told by the worker, for all destinations.
    fn say_connecting(&self) {
        if !self.attempt.hub.is_unreadable() {
            self.attempt.report_state(DestinationState::Connecting);
        }
    }

    /// Writes what is on air until something else is.
    fn follow(&self, air: Air, video: bool, joins: bool) -> io::Result<()> {
        let queue = Arc::new(Mutex::new(Queue::with_limits(
            video,
            VIDEO_LIMIT,
            AUDIO_LIMIT,
        )));
        let over = Stop::default();
        let feed = Feed {
            air,
            queue: queue.clone(),
            over: over.clone(),
            meter: self.attempt.meter.clone(),
        };
        let attached = self.attempt.hub.attach_at_keyframe(Box::new(feed));
        if video && lock(&queue).start().is_none() {
            self.attempt.want_keyframe();
        }
        let mut session = Session {
            record: self,
            has_video: video,
            joins,
            open: None,
            early: Vec::new(),
            silenced: false,
            checked: None,
            live: false,
        };
        while !self.attempt.stop.is_stopped() && !over.is_stopped() {
            let next = lock(&queue).pop(self.attempt.clock.now());
            match next {
                Some(frame) => session.push(&frame)?,
                None => thread::sleep(POLL),
            }
        }
        drop(attached);
        // Nothing more comes: sound and picture need not wait for each other.
        loop {
            let next = lock(&queue).pop(Duration::MAX);
            match next {
                Some(frame) => session.push(&frame)?,
                None => return session.finish(),
            }
        }
    }

    /// Fails when the disk is too full to go on.
    fn check_space(&self) -> io::Result<()> {
        let disk = statvfs(&self.target.folder)?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < self.target.min_free_bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl Session<'_> {
    fn push(&mut self, frame: &Frame) -> io::Result<()> {
        if let Some(open) = &self.open
            && self.is_lead(frame)
            && frame.keyframe
            && self.is_due(open, frame)
        {
            self.cut(frame.time)?;
        }
        match &mut self.open {
            Some(open) => {
                self.silenced |= frame.kind == MediaKind::Audio && !open.has_audio();
                let written = open.push(frame)?;
                self.note(written)
            }
            None => self.push_early(frame),
        }
    }

    fn is_lead(&self, frame: &Frame) -> bool {
        self.has_video == (frame.kind == MediaKind::Video)
    }

    /// Returns whether `frame`, with which a file can start, is to start one.
    fn is_due(&self, open: &RecordFile, frame: &Frame) -> bool {
        let target = &self.record.target;
        let reformatted =
            frame.kind == MediaKind::Video && frame.video_format().is_some_and(|f| !open.is_in(&f));
        let length = frame.time.saturating_sub(open.base());
        let wanted = target.segment_ms.map_or(LONGEST, Duration::from_millis);
        reformatted
            || self.silenced
            || length + SLACK >= wanted.min(LONGEST)
            || target
                .segment_bytes
                .is_some_and(|limit| open.bytes() >= limit)
    }

    fn cut(&mut self, at: Duration) -> io::Result<()> {
        self.joins = false;
        self.silenced = false;
        match self.open.take() {
            Some(open) => {
                let written = open.close(Some(at))?;
                self.note(written)
            }
            None => Ok(()),
        }
    }

    /// A file's head needs both formats, and its time starts with a keyframe.
    fn push_early(&mut self, frame: &Frame) -> io::Result<()> {
        if self.early.is_empty() && !(self.is_lead(frame) && frame.keyframe) {
            return Ok(());
        }
        self.early.push(frame.clone());
        let video = self.early.iter().find_map(|f| match f.kind {
            MediaKind::Video => f.video_format(),
            MediaKind::Audio => None,
        });
        let audio = self.early.iter().find_map(|f| match f.kind {
            MediaKind::Audio => f.audio_format(),
            MediaKind::Video => None,
        });
        let has_sound = audio.is_some() || !self.record.sound;
        let complete = has_sound && (video.is_some() || !self.has_video);
        // Sound may begin a little earlier than the picture that it was made with.
        let waited = self
            .early
            .first()
            .map(|first| frame.time.saturating_sub(first.time));
        if complete || waited >= Some(FORMAT_PATIENCE) {
            return self.open(video.as_ref(), audio.as_ref());
        }
        Ok(())
    }

    fn open(&mut self, video: Option<&VideoFormat>, audio: Option<&AudioFormat>) -> io::Result<()> {
        let early = std::mem::take(&mut self.early);
        let Some(first) = early.first() else {
            return Ok(());
        };
        if video.is_none() && audio.is_none() {
            return Ok(());
        }
        let folder: &PathBuf = &self.record.target.folder;
        let start_us = self.record.attempt.clock.unix_us(first.time);
        let raw = Raw::next(folder, start_us, self.joins)?;
        self.joins = false;
        let path = folder.join(raw.name());
        let mut file = RecordFile::create(&path, first.time, video, audio)?;
        let mut written = Written::default();
        for frame in &early {
            written += file.push(frame)?;
        }
        self.open = Some(file);
        self.note(written)
    }

    /// Takes in that something is on disk.
    fn note(&mut self, written: Written) -> io::Result<()> {
        if written.bytes == 0 {
            return Ok(());
        }
        let meter = &self.record.attempt.meter;
        meter.count_bytes(written.bytes);
        meter.count_acknowledged(written.bytes);
        for _ in 0..written.frames {
            meter.count_frame();
        }
        meter.set_delay(
            self.record
                .attempt
                .clock
                .now()
                .saturating_sub(written.until),
        );
        if !std::mem::replace(&mut self.live, true) {
            self.record.attempt.report_state(DestinationState::Live);
        }
        let due = |at: Instant| at.elapsed() >= CHECK_EVERY;
        if self.checked.is_none_or(due) {
            self.checked = Some(Instant::now());
            if let Err(error) = self.record.check_space() {
                if let Some(open) = self.open.take() {
                    open.close(None)?;
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        match self.open.take() {
            Some(open) => {
                let written = open.close(None)?;
                self.note(written)
            }
            None => Ok(()),
        }
    }
}

/// Puts frames into a session's queue.
struct Feed {
    air: Air,
    queue: Arc<Mutex<Queue>>,
    /// Stopped when something else is on air.
    over: Stop,
    meter: Arc<Meter>,
}

impl Output for Feed {
    fn switch(&mut self, air: Air) {
        if air != self.air {
            self.air = Air::Off;
            self.over.stop();
        }
    }

    fn push(&mut self, frame: &Frame) {
        if self.air != Air::Off && lock(&self.queue).push(frame) == Taken::Dropped {
            self.meter.count_dropped(1);
        }
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failure(error: &io::Error) -> Failure {
    let kind = error.kind();
    if kind == io::ErrorKind::StorageFull || kind == io::ErrorKind::QuotaExceeded {
        return Failure {
            code: FailureCode::DiskFull,
            message: "The disk is full. What was recorded until now is kept. Delete recordings or free space, \
                      then try this one again."
                .to_owned(),
        };
    }
    Failure {
        code: FailureCode::Internal,
        message: format!("The recording cannot be written: {error}. See the server's log."),
    }
}

/// Nobody waits for a recording: it may take frames in small heaps.
const POLL: Duration = Duration::from_millis(20);
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// A keyframe comes a little early or late.
const SLACK: Duration = Duration::from_millis(50);
/// Beyond this the tables of a file become unwieldy.
const LONGEST: Duration = Duration::from_secs(12 * 3600);
/// Sound that has not come by then comes with the next file, at the first keyframe.
const FORMAT_PATIENCE: Duration = Duration::from_secs(2);
/// Sixteen seconds at 8 Mbit/s, for disks that pause.
const VIDEO_LIMIT: usize = 16 << 20;
const AUDIO_LIMIT: usize = 512 << 10;
