//! What the log says of a job's destinations: one line per change, repeated failures counted.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use metrics::counter;

use crate::{
    delivery::Delivery,
    meters::FAILED,
    status::{DestinationState, FailureCode, word},
};

/// Remembers what was said of each destination.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    said: BTreeMap<usize, Said>,
}

#[derive(Debug, Clone, Copy)]
struct Said {
    state: DestinationState,
    code: Option<FailureCode>,
    attempt: u32,
    /// Failures since [`Said::at`] of which nothing was said.
    repeats: u32,
    at: Instant,
}

/// What is to be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Nothing,
    Changed,
    /// It goes on failing; so often since the last line.
    StillFailing(u32),
}

impl Journal {
    /// Logs what has changed since the last call.
    pub(crate) fn note(&mut self, destinations: &[Delivery], now: Instant) {
        for destination in destinations {
            let (number, state) = (destination.number(), destination.state());
            let code = destination.failure().map(|failure| failure.code);
            let line = self.decide(number, state, code, destination.attempt(), now);
            let destination_id = id(number);
            let reason = destination
                .failure()
                .map_or("", |failure| failure.message.as_str());
            if line == Line::Changed && state == DestinationState::Failed {
                counter!(FAILED).increment(1);
            }
            let code = code.map_or_else(String::new, |code| word(&code));
            match line {
                Line::Nothing => {}
                Line::StillFailing(times) => {
                    tracing::warn!(
                        destination = destination_id,
                        code,
                        times,
                        reason,
                        "egress destination goes on failing"
                    );
                }
                Line::Changed if destination.failure().is_some() => {
                    tracing::warn!(
                        destination = destination_id,
                        state = word(&state),
                        code,
                        reason,
                        "egress destination changed"
                    );
                }
                Line::Changed => {
                    tracing::info!(
                        destination = destination_id,
                        state = word(&state),
                        "egress destination changed"
                    );
                }
            }
        }
        let known = |number: &usize| destinations.iter().any(|d| d.number() == *number);
        self.said.retain(|number, _| known(number));
    }

    fn decide(
        &mut self,
        number: usize,
        state: DestinationState,
        code: Option<FailureCode>,
        attempt: u32,
        now: Instant,
    ) -> Line {
        let fresh = Said {
            state,
            code,
            attempt,
            repeats: 0,
            at: now,
        };
        let Some(said) = self.said.get_mut(&number) else {
            self.said.insert(number, fresh);
            return Line::Changed;
        };
        if (said.state, said.code) != (state, code) {
            *said = fresh;
            return Line::Changed;
        }
        if state == DestinationState::Retrying && attempt > said.attempt {
            said.attempt = attempt;
            said.repeats += 1;
        }
        if said.repeats > 0 && now >= said.at + PERIOD {
            let times = std::mem::take(&mut said.repeats);
            said.at = now;
            return Line::StillFailing(times);
        }
        Line::Nothing
    }
}

/// Returns a destination's id as the API has it.
pub(crate) fn id(number: usize) -> String {
    format!("d{number}")
}

/// Returns which destination this id is of.
pub(crate) fn number(of: &str) -> Option<usize> {
    let number = of.strip_prefix('d')?.parse().ok()?;
    (id(number) == of).then_some(number)
}

const PERIOD: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_said_once_and_repeats_are_counted() {
        let t0 = Instant::now();
        let at = |seconds| t0 + Duration::from_secs(seconds);
        let (retrying, refused) = (
            DestinationState::Retrying,
            Some(FailureCode::ConnectionRefused),
        );
        let mut journal = Journal::default();
        let table = [
            (DestinationState::Connecting, None, 1, 0, Line::Changed),
            (DestinationState::Connecting, None, 1, 1, Line::Nothing),
            (retrying, refused, 1, 2, Line::Changed),
            (retrying, refused, 2, 10, Line::Nothing),
            (retrying, refused, 3, 20, Line::Nothing),
            (retrying, refused, 3, 62, Line::StillFailing(2)),
            (retrying, refused, 3, 130, Line::Nothing),
            (DestinationState::Live, None, 0, 131, Line::Changed),
        ];
        for (state, code, attempt, second, line) in table {
            let found = journal.decide(1, state, code, attempt, at(second));
            assert_eq!(found, line, "at {second} s");
        }
    }
}
