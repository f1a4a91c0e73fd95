//! An attempt at a destination: what every protocol works with and how it is told apart from the others.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{
    Meter, Stop,
    feed::{Feed, SharedQueue, lock},
};
use crate::{
    link::{Failure, Report},
    pipeline::{Air, Clock, Hub},
    status::{DestinationState, FailureCode},
    worker::Reporter,
};

/// One attempt at a destination, on a thread of its own.
pub(crate) struct Attempt {
    pub(crate) number: usize,
    pub(crate) clock: Clock,
    pub(crate) hub: Arc<Hub>,
    pub(crate) reporter: Reporter,
    pub(crate) meter: Arc<Meter>,
    pub(crate) stop: Stop,
}

impl Attempt {
    /// Delivers until stopped or failed, and reports how that went.
    ///
    /// `idle` is called again and again while nothing is on air, the first time with `true`. `serve` delivers
    /// one programme until [`Attempt::is_over`] says so.
    pub(super) fn deliver(
        &self,
        mut idle: impl FnMut(bool) -> Result<(), Failure>,
        mut serve: impl FnMut(Air, bool, SharedQueue) -> Result<(), Failure>,
    ) {
        let mut waiting = false;
        while !self.stop.is_stopped() {
            let air = self.hub.wait_on_air(IDLE_POLL);
            let outcome = match air {
                Air::Off => idle(!waiting),
                Air::On { video, .. } => {
                    // Frames are collected while the connection is made.
                    let feed = Feed::new(air, video, &self.stop, &self.meter);
                    let queue = feed.queue();
                    let attached = self.hub.attach_at_keyframe(Box::new(feed));
                    if video && lock(&queue).start().is_none() {
                        self.want_keyframe();
                    }
                    let served = serve(air, video, queue);
                    drop(attached);
                    served
                }
            };
            match outcome {
                Err(_) if self.stop.is_stopped() => {}
                Err(failure) => return self.report_failure(failure),
                // What keeps it from going on air is told by the worker, for all destinations.
                Ok(()) if air == Air::Off && !waiting && !self.hub.is_unreadable() => {
                    self.report_state(DestinationState::Connecting);
                }
                Ok(()) => {}
            }
            waiting = air == Air::Off;
        }
        self.report_state(DestinationState::Ended);
    }

    /// Returns whether to stop delivering what was on air: something else is, or nothing, or it was stopped.
    pub(super) fn is_over(&self, air: Air) -> bool {
        self.stop.is_stopped() || self.hub.air() != air
    }

    pub(super) fn want_keyframe(&self) {
        self.reporter.send(&Report::KeyframeWanted, &[]);
    }

    pub(super) fn report_failure(&self, failure: Failure) {
        let report = Report::Failed {
            destination: self.number,
            failure,
        };
        self.reporter.send(&report, &[]);
    }

    pub(super) fn report_state(&self, state: DestinationState) {
        let report = Report::State {
            destination: self.number,
            state,
        };
        self.reporter.send(&report, &[]);
    }
}

/// Runs an attempt at destination `number` on a thread of its own. One that panics has failed, and is tried again as
/// any other.
pub(crate) fn start(
    number: usize,
    reporter: Reporter,
    run: impl FnOnce() + Send + 'static,
) -> JoinHandle<()> {
    thread::spawn(move || {
        // What it shares is locked, and used on after a panic inside.
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            let failure = Failure {
                code: FailureCode::Internal,
                message: "The output was ended by a fault of this server, and begins anew. See the server's log."
                    .to_owned(),
            };
            let report = Report::Failed {
                destination: number,
                failure,
            };
            reporter.send(&report, &[]);
        }
    })
}

/// How often an attempt looks whether something is on air.
pub(super) const IDLE_POLL: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::link;

    #[test]
    fn one_that_panics_has_failed() {
        let (here, mut there) = UnixStream::pair().unwrap();
        let (reporter, writer) = Reporter::start(here);
        start(1, reporter.clone(), || {}).join().unwrap();
        let panicking = start(7, reporter.clone(), || panic!("as the test wants"));
        panicking.join().unwrap();
        reporter.finish();
        writer.join().unwrap();
        let (report, _) = link::read_frame::<Report>(&mut there).unwrap();
        let Report::Failed {
            destination,
            failure,
        } = report
        else {
            panic!("{report:?}");
        };
        assert_eq!((destination, failure.code), (7, FailureCode::Internal));
        assert!(
            link::read_frame::<Report>(&mut there).is_err(),
            "one report"
        );
    }
}
