//! Thumbnails: one thread, which takes a keyframe every so often, hands it to the server and says how that goes.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::Duration,
};

use sfu::MediaKind;

use super::{Attempt, schedule::Schedule};
use crate::{
    link::{Failure, Pictured, Report, ThumbnailTarget},
    pipeline::{Air, Frame, Output},
    status::{DestinationState, FailureCode},
};

/// The thumbnails of a worker's destination.
pub(crate) struct Thumbnails {
    pub(crate) attempt: Attempt,
    pub(crate) target: ThumbnailTarget,
    pub(crate) answers: Receiver<Answer>,
    /// Whether those who send can be asked for a keyframe of what is shown: what is composed has keyframes of its own.
    pub(crate) may_ask: bool,
}

/// What became of the keyframe with this number.
pub(crate) type Answer = (u64, Pictured);

/// Returns the way by which answers get to a destination. More than [`ANSWER_LIMIT`] are not waited for.
pub(crate) fn answers() -> (SyncSender<Answer>, Receiver<Answer>) {
    sync_channel(ANSWER_LIMIT)
}

struct Session<'a> {
    thumbnails: &'a Thumbnails,
    schedule: Schedule,
    newest: Newest,
    /// What became of this one is not known yet.
    sent: Option<Sent>,
    /// What nothing became of, and when it is tried again.
    again: Option<(Frame, Duration)>,
    live: bool,
    /// Pictures in a row of which nothing became.
    missed: u32,
}

struct Sent {
    shot: u64,
    frame: Frame,
    at: Duration,
}

/// The newest keyframe that was not taken yet.
type Newest = Arc<Mutex<Option<Frame>>>;

impl Thumbnails {
    /// Takes pictures until stopped, and reports how that goes.
    pub(crate) fn run(&self) {
        let attempt = &self.attempt;
        self.say_connecting();
        let mut session = Session {
            thumbnails: self,
            schedule: Schedule::new(Duration::from_millis(self.target.interval_ms)),
            newest: Newest::default(),
            sent: None,
            again: None,
            live: false,
            missed: 0,
        };
        let feed = Feed(session.newest.clone());
        let attached = attempt.hub.attach_at_keyframe(Box::new(feed));
        while !attempt.stop.is_stopped() {
            session.step(attempt.clock.now());
            attempt.stop.wait(POLL);
        }
        drop(attached);
        attempt.report_state(DestinationState::Ended);
    }

    /// What keeps it from going on air is told by the worker, for all destinations.
    fn say_connecting(&self) {
        if !self.attempt.hub.is_unreadable() {
            self.attempt.report_state(DestinationState::Connecting);
        }
    }
}

impl Session<'_> {
    fn step(&mut self, now: Duration) {
        while let Ok((shot, outcome)) = self.thumbnails.answers.try_recv() {
            if let Some(sent) = self.sent.take_if(|sent| sent.shot == shot) {
                self.handle(outcome, sent, now);
            }
        }
        if let Some(sent) = self.sent.take_if(|sent| now >= sent.at + PATIENCE) {
            self.handle(Pictured::Missed, sent, now);
        }
        let air = self.thumbnails.attempt.hub.air();
        if air == Air::Off && std::mem::take(&mut self.live) {
            self.thumbnails.say_connecting();
        }
        if self.sent.is_some() {
            return;
        }
        if let Some(frame) = self.next(now) {
            self.send(frame, now);
        } else if matches!(air, Air::On { video: true, .. })
            && self.thumbnails.may_ask
            && self.schedule.ask(now)
        {
            self.thumbnails.attempt.want_keyframe();
        }
    }

    /// Returns the keyframe that a picture is to be made of now.
    fn next(&mut self, now: Duration) -> Option<Frame> {
        let mut newest = lock(&self.newest);
        let again = self.again.take_if(|(_, at)| now >= *at);
        match again {
            Some((old, _)) => newest.take().or(Some(old)),
            None => {
                let due = newest.take_if(|frame| self.schedule.is_due(frame.time))?;
                self.again = None;
                Some(due)
            }
        }
    }

    fn send(&mut self, frame: Frame, now: Duration) {
        let attempt = &self.thumbnails.attempt;
        if self.schedule.is_due(frame.time) {
            self.schedule.take(frame.time);
        }
        let format = frame.video_format();
        let (Some(format), true) = (format, frame.buffer.size() <= LARGEST) else {
            attempt.meter.count_dropped(1);
            return;
        };
        let shot = attempt.clock.unix_us(now);
        let report = Report::Picture {
            destination: attempt.number,
            shot,
            taken_at_ms: attempt.clock.unix_ms(frame.time),
            configuration: format.avcc.len(),
        };
        let body = [format.avcc, frame.data()].concat();
        attempt.reporter.send(&report, &body);
        self.sent = Some(Sent {
            shot,
            frame,
            at: now,
        });
    }

    fn handle(&mut self, outcome: Pictured, sent: Sent, now: Duration) {
        let attempt = &self.thumbnails.attempt;
        match outcome {
            Pictured::Kept(bytes) => {
                self.missed = 0;
                self.again = None;
                attempt.meter.count_bytes(bytes);
                attempt.meter.count_acknowledged(bytes);
                attempt.meter.count_frame();
                attempt.meter.set_delay(now.saturating_sub(sent.frame.time));
                if !std::mem::replace(&mut self.live, true) {
                    attempt.report_state(DestinationState::Live);
                }
            }
            Pictured::Missed => {
                attempt.meter.count_dropped(1);
                self.missed += 1;
                self.try_again(sent.frame, now);
                if self.missed >= MISSED_LIMIT {
                    self.hold(unreadable());
                }
            }
            Pictured::Refused(failure) => {
                self.try_again(sent.frame, now);
                self.hold(failure);
            }
        }
    }

    fn try_again(&mut self, frame: Frame, now: Duration) {
        let interval = Duration::from_millis(self.thumbnails.target.interval_ms);
        self.again = Some((frame, now + interval.min(AGAIN)));
    }

    fn hold(&mut self, failure: Failure) {
        self.live = false;
        let report = Report::Held {
            destination: self.thumbnails.attempt.number,
            failure,
        };
        self.thumbnails.attempt.reporter.send(&report, &[]);
    }
}

/// Keeps the newest keyframe.
struct Feed(Newest);

impl Output for Feed {
    fn switch(&mut self, _air: Air) {
        *lock(&self.0) = None;
    }

    fn push(&mut self, frame: &Frame) {
        if frame.kind == MediaKind::Video && frame.keyframe {
            *lock(&self.0) = Some(frame.clone());
        }
    }
}

fn lock(newest: &Mutex<Option<Frame>>) -> MutexGuard<'_, Option<Frame>> {
    newest.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unreadable() -> Failure {
    Failure {
        code: FailureCode::Internal,
        message: "No thumbnails can be made of this broadcast at the moment: its picture cannot be decoded, or this \
                  server has too much to do. It is tried again with the next picture."
            .to_owned(),
    }
}

const POLL: Duration = Duration::from_millis(100);
/// Above the time that a process which hangs and those before it in the queue take.
const PATIENCE: Duration = Duration::from_secs(40);
/// How soon it is tried again if the interval is longer.
const AGAIN: Duration = Duration::from_secs(10);
/// One broken picture says nothing.
const MISSED_LIMIT: u32 = 3;
const ANSWER_LIMIT: usize = 4;
/// Far more than any keyframe has.
const LARGEST: usize = 8 << 20;
