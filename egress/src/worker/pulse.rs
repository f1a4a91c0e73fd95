//! Says that the worker is alive.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

use super::Reporter;
use crate::{link::Report, output::Meter, pipeline::Hub};

/// Reports every [`HEARTBEAT`] from a thread of its own, so that work which takes its time on a busy machine
/// (loading a plugin, starting a pipeline) does not look like a hang; but not for longer than [`STUCK`].
pub(super) struct Pulse {
    hub: Arc<Hub>,
    reporter: Reporter,
    state: Mutex<State>,
}

struct State {
    meters: BTreeMap<usize, Arc<Meter>>,
    /// Destinations that were told to end. Their meters go when nobody counts any more, and that is reported.
    leaving: BTreeSet<usize>,
    /// When the worker's own loop last came round.
    ticked: Instant,
    /// As [`Report::Alive`] has it.
    foreign: Option<bool>,
    ended: bool,
}

impl Pulse {
    pub(super) fn start(hub: Arc<Hub>, reporter: Reporter) -> Arc<Self> {
        let pulse = Arc::new(Self {
            hub,
            reporter,
            state: Mutex::new(State {
                meters: BTreeMap::new(),
                leaving: BTreeSet::new(),
                ticked: Instant::now(),
                foreign: None,
                ended: false,
            }),
        });
        let beating = pulse.clone();
        thread::spawn(move || {
            while beating.beat_if_well() {
                thread::sleep(HEARTBEAT);
            }
        });
        pulse
    }

    /// Takes in that the worker's loop came round, and what passes through.
    pub(super) fn tick(&self, foreign: Option<bool>) {
        let mut state = self.lock();
        state.ticked = Instant::now();
        state.foreign = foreign;
    }

    /// Returns the meter of a destination.
    pub(super) fn meter(&self, number: usize) -> Arc<Meter> {
        let mut state = self.lock();
        state.leaving.remove(&number);
        state.meters.entry(number).or_default().clone()
    }

    /// Forgets a destination once it has ended.
    pub(super) fn forget(&self, number: usize) {
        self.lock().leaving.insert(number);
    }

    /// Reports for the last time.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        self.report(&state);
    }

    /// Returns whether to go on.
    fn beat_if_well(&self) -> bool {
        let mut state = self.lock();
        if !state.ended && state.ticked.elapsed() < STUCK {
            // What nobody counts in any more says the same as long as it is kept.
            let counts = |meter: &Arc<Meter>| Arc::strong_count(meter) > 1;
            let State {
                meters, leaving, ..
            } = &*state;
            let over = |number: &&usize| !meters.get(*number).is_some_and(counts);
            let over: Vec<usize> = leaving.iter().filter(over).copied().collect();
            self.report(&state);
            for number in over {
                state.leaving.remove(&number);
                state.meters.remove(&number);
            }
        }
        !state.ended
    }

    fn report(&self, state: &State) {
        let counters = state.meters.iter();
        let counters = counters.map(|(number, meter)| (*number, meter.counters()));
        let report = Report::Alive {
            receiving: self.hub.is_receiving(),
            late_ms: u64::try_from(self.hub.lateness().as_millis()).unwrap_or(u64::MAX),
            cpu_ms: cpu_ms(),
            foreign: state.foreign,
            counters: counters.collect(),
        };
        self.reporter.send(&report, &[]);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the processor time that this process has used.
fn cpu_ms() -> u64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(used.tv_sec).unwrap_or(0);
    seconds * 1000 + u64::try_from(used.tv_nsec / 1_000_000).unwrap_or(0)
}

const HEARTBEAT: Duration = Duration::from_millis(250);
const STUCK: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Clock;

    #[test]
    fn the_meters_of_destinations_that_have_ended_are_forgotten() {
        let hub = Hub::new(Duration::ZERO, false, Clock::start());
        let pulse = Pulse::start(hub, Reporter::silent());
        let known = || pulse.lock().meters.keys().copied().collect::<Vec<_>>();
        let (first, second) = (pulse.meter(1), pulse.meter(2));
        first.count_bytes(10);
        drop(first);
        pulse.beat_if_well();
        assert_eq!(known(), [1, 2], "it may be tried again");
        assert_eq!(pulse.meter(1).counters().bytes, 10);
        pulse.forget(1);
        pulse.forget(2);
        pulse.beat_if_well();
        assert_eq!(known(), [2], "which still says goodbye");
        drop(second);
        pulse.beat_if_well();
        assert!(known().is_empty());
        // One that was ended and is tried again is counted anew.
        let again = pulse.meter(1);
        pulse.forget(1);
        let once_more = pulse.meter(1);
        drop((again, once_more));
        pulse.beat_if_well();
        assert_eq!(known(), [1]);
        pulse.end();
    }
}
