//! When to ask a publisher for a keyframe.

use std::time::{Duration, Instant};

/// Coalesces keyframe requests for one layer. A request inside the gap is delayed, never lost, and
/// repeated while somebody still asks and no keyframe came.
#[derive(Debug, Default)]
pub(crate) struct KeyframeGate {
    last_sent: Option<Instant>,
    last_arrived: Option<Instant>,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    #[default]
    Idle,
    /// By somebody who could not keep up with the last keyframe.
    WantedSometime,
    /// By somebody who has a picture, and could have a better one.
    WantedSoon,
    Wanted,
    Sent {
        still_wanted: bool,
    },
}

impl KeyframeGate {
    /// Somebody needs a keyframe.
    pub(crate) fn request(&mut self) {
        self.want(State::Wanted);
    }

    /// Somebody who has a picture could have a better one: that can wait for others who want the same.
    pub(crate) fn request_soon(&mut self) {
        self.want(State::WantedSoon);
    }

    /// Somebody could make use of a keyframe, but not so that all others should pay for it at once.
    pub(crate) fn request_sometime(&mut self) {
        self.want(State::WantedSometime);
    }

    fn want(&mut self, wanted: State) {
        self.state = match self.state {
            // The others pay for it already, and the request may have been lost.
            State::Sent { .. } => State::Sent { still_wanted: true },
            State::Idle | State::WantedSometime | State::WantedSoon | State::Wanted => {
                self.state.max(wanted)
            }
        };
    }

    /// A keyframe came: everybody who asked is served.
    pub(crate) fn arrived(&mut self, now: Instant) {
        self.state = State::Idle;
        self.last_arrived = Some(now);
    }

    /// Returns when [`KeyframeGate::poll_send`] has something to say; `now` when at once.
    pub(crate) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let wait = match self.state {
            State::Idle
            | State::Sent {
                still_wanted: false,
            } => return None,
            State::WantedSometime | State::WantedSoon | State::Wanted => PLI_GAP,
            State::Sent { still_wanted: true } => PLI_RETRY,
        };
        let due = self.last_sent.map(|last| last + wait);
        let rested = match self.state {
            State::WantedSometime => self.last_arrived.map(|last| last + PATIENCE),
            State::WantedSoon => self.last_arrived.map(|last| last + GATHERING),
            State::Idle | State::Wanted | State::Sent { .. } => None,
        };
        Some(due.max(rested).unwrap_or(now))
    }

    /// Returns whether to send one request now.
    pub(crate) fn poll_send(&mut self, now: Instant) -> bool {
        let due = self.poll_timeout(now).is_some_and(|at| now >= at);
        if due {
            self.last_sent = Some(now);
            self.state = State::Sent {
                still_wanted: false,
            };
        }
        due
    }
}

/// Least time between two requests (RFC 4585 §6.3.1) for one layer: a burst of joins must cost the
/// publisher one keyframe, and Chromium ignores requests that come closer.
const PLI_GAP: Duration = Duration::from_millis(300);

/// How long to wait for the keyframe before the request counts as lost.
const PLI_RETRY: Duration = Duration::from_millis(500);

/// Least time from a keyframe to the next one for those who can wait: one slow viewer must not cost all
/// others a third of their bitrate.
const PATIENCE: Duration = Duration::from_secs(3);

/// Least time from a keyframe to the next one for those who want a better picture than they have: viewers who join
/// within a second find out what their paths carry within a second and a little, and one keyframe is to serve all but
/// the first.
const GATHERING: Duration = Duration::from_millis(1200);

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_burst_of_requests_is_one() {
        let t0 = Instant::now();
        let mut gate = KeyframeGate::default();
        assert!(!gate.poll_send(t0));
        gate.request();
        gate.request();
        assert!(gate.poll_send(t0));
        gate.request();
        assert!(!gate.poll_send(t0 + ms(1)));
    }

    #[test]
    fn a_request_inside_the_gap_is_delayed_not_lost() {
        let t0 = Instant::now();
        let mut gate = KeyframeGate::default();
        gate.request();
        assert!(gate.poll_send(t0));
        gate.arrived(t0);
        gate.request();
        assert!(!gate.poll_send(t0 + ms(299)));
        assert_eq!(gate.poll_timeout(t0 + ms(299)), Some(t0 + ms(300)));
        assert!(gate.poll_send(t0 + ms(300)));
    }

    #[test]
    fn an_unanswered_request_is_repeated_while_somebody_asks() {
        let t0 = Instant::now();
        let mut gate = KeyframeGate::default();
        gate.request();
        assert!(gate.poll_send(t0));
        assert_eq!(gate.poll_timeout(t0), None, "nobody asked again");
        gate.request();
        assert!(!gate.poll_send(t0 + ms(499)));
        assert!(gate.poll_send(t0 + ms(500)));
    }

    #[test]
    fn a_keyframe_serves_everybody() {
        let t0 = Instant::now();
        let mut gate = KeyframeGate::default();
        gate.request();
        assert!(gate.poll_send(t0));
        gate.request();
        gate.arrived(t0);
        assert_eq!(gate.poll_timeout(t0), None);
        assert!(!gate.poll_send(t0 + ms(1000)));
    }

    #[test]
    fn a_lost_request_of_those_who_can_wait_is_repeated() {
        let t0 = Instant::now();
        let mut gate = KeyframeGate::default();
        gate.request_sometime();
        assert!(gate.poll_send(t0));
        gate.request_sometime();
        assert!(!gate.poll_send(t0 + ms(499)));
        assert!(gate.poll_send(t0 + ms(500)));
    }

    #[test]
    fn those_who_can_wait_do() {
        let t0 = Instant::now();
        let mut gate = KeyframeGate::default();
        gate.arrived(t0);
        gate.request_sometime();
        assert!(!gate.poll_send(t0 + ms(2999)));
        gate.request();
        assert!(gate.poll_send(t0 + ms(2999)), "somebody cannot");
        gate.arrived(t0 + ms(3000));
        gate.request_sometime();
        assert!(gate.poll_send(t0 + ms(6000)));
    }

    #[test]
    fn those_who_want_a_better_picture_wait_for_others() {
        let t0 = Instant::now();
        let mut gate = KeyframeGate::default();
        gate.request_soon();
        assert!(gate.poll_send(t0), "none came lately");
        gate.arrived(t0 + ms(100));
        gate.request_sometime();
        gate.request_soon();
        gate.request_sometime();
        assert!(!gate.poll_send(t0 + ms(1299)));
        assert!(gate.poll_send(t0 + ms(1300)));
        gate.arrived(t0 + ms(1400));
        gate.request_soon();
        gate.request();
        gate.request_soon();
        assert!(gate.poll_send(t0 + ms(1600)), "somebody has none");
    }
}
