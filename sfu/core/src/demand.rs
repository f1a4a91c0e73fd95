//! Which layers of a publication anybody wants, so that its sender need not encode the others.

use std::time::{Duration, Instant};

use crate::PublicationId;

/// What is wanted of the publications of a room that have several layers.
#[derive(Debug, Default)]
pub(crate) struct Demand {
    publications: Vec<Wanted>,
    looked_at: Option<Instant>,
}

/// What the receivers of one publication do at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sight {
    /// Those who receive anything in the room, taps included.
    pub(crate) receivers: usize,
    /// The layers that somebody aims at, a bit each.
    pub(crate) aimed: u8,
    /// The layer that is always wanted.
    pub(crate) lowest: usize,
    /// Whether somebody has the best there is, and could perhaps have more, which no probe tells.
    pub(crate) content: bool,
    /// The layers that are not sent and that somebody's path would carry, a bit each.
    pub(crate) carried: u8,
    /// The layers that were not wanted before there was anybody here, a bit each.
    pub(crate) withheld: u8,
}

#[derive(Debug)]
struct Wanted {
    publication: PublicationId,
    receivers: usize,
    layers: Vec<Layer>,
}

#[derive(Clone, Copy, Debug)]
struct Layer {
    wanted: bool,
    /// Until when it stays wanted though nobody aims at it, or unwanted though somebody could.
    until: Instant,
    pause: Duration,
}

impl Demand {
    /// Returns whether to look again; then every publication with several layers is to be passed to
    /// [`Demand::look`].
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let lately = |at: Instant| now.saturating_duration_since(at) < INTERVAL;
        let is_due = !self.looked_at.is_some_and(lately);
        if is_due {
            self.looked_at = Some(now);
        }
        is_due
    }

    /// Forgets a publication.
    pub(crate) fn forget(&mut self, publication: PublicationId) {
        self.publications.retain(|p| p.publication != publication);
    }

    /// Takes what is to be seen of a publication. Returns which layers are wanted, if that has changed, or at first
    /// is not all of them.
    pub(crate) fn look(
        &mut self,
        publication: PublicationId,
        layers: usize,
        sight: Sight,
        now: Instant,
    ) -> Option<Vec<bool>> {
        let mut known = self.publications.iter();
        let position = known.position(|known| known.publication == publication);
        let is_new = position.is_none();
        let position = position.unwrap_or(self.publications.len());
        if is_new {
            self.publications.push(Wanted {
                publication,
                receivers: sight.receivers,
                layers: Vec::with_capacity(layers),
            });
        }
        let wanted = self.publications.get_mut(position)?;
        wanted.grow(layers, sight.withheld, now);
        let mut changed = wanted.look(sight, now);
        changed |= is_new && wanted.layers.iter().any(|layer| !layer.wanted);
        let layers = wanted.layers.iter().map(|layer| layer.wanted);
        changed.then(|| layers.collect())
    }
}

impl Wanted {
    /// A stream may get layers that it did not have.
    fn grow(&mut self, layers: usize, withheld: u8, now: Instant) {
        for position in self.layers.len()..layers {
            self.layers.push(Layer {
                wanted: withheld >> position & 1 == 0,
                until: now + PATIENCE,
                pause: PATIENCE,
            });
        }
    }

    fn look(&mut self, sight: Sight, now: Instant) -> bool {
        let has_newcomers = sight.receivers > self.receivers;
        self.receivers = sight.receivers;
        let mut changed = false;
        for (position, layer) in self.layers.iter_mut().enumerate() {
            let before = layer.wanted;
            let is_aimed = sight.aimed >> position & 1 == 1;
            let is_withheld = sight.withheld >> position & 1 == 1;
            let is_for_anybody = !is_withheld && (has_newcomers || sight.receivers == 0);
            if is_aimed || is_for_anybody || position == sight.lowest {
                layer.wanted = true;
                layer.until = now + PATIENCE;
                if is_aimed {
                    layer.pause = PATIENCE;
                }
            } else if !layer.wanted && sight.carried >> position & 1 == 1 {
                layer.wanted = true;
                layer.until = now + PATIENCE;
            } else if now >= layer.until {
                if layer.wanted {
                    layer.wanted = false;
                    layer.until = now + layer.pause;
                    layer.pause = (layer.pause * 2).min(LONGEST_PAUSE);
                } else if sight.content {
                    // Whether a path carries more that cannot be probed is found out only by sending more.
                    layer.wanted = true;
                    layer.until = now + PATIENCE;
                }
            }
            changed |= layer.wanted != before;
        }
        changed
    }
}

/// How often receivers are looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long a layer is sent though nobody aims at it.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest time between two attempts to send a layer that nobody could be sent.
const LONGEST_PAUSE: Duration = Duration::from_secs(80);

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture {
        demand: Demand,
        t0: Instant,
    }

    impl Fixture {
        /// Looks every second and returns when which layers were wanted.
        fn look(&mut self, seconds: std::ops::Range<u64>, sight: Sight) -> Vec<(u64, Vec<bool>)> {
            let looks = seconds.filter_map(|at| {
                let now = self.t0 + Duration::from_secs(at);
                let changed = self.demand.look(PublicationId(1), 3, sight, now)?;
                Some((at, changed))
            });
            looks.collect()
        }
    }

    #[test]
    fn layers_that_nobody_aims_at_are_unwanted_after_a_while() {
        let mut f = Fixture {
            demand: Demand::default(),
            t0: Instant::now(),
        };
        let nobody = Sight::default();
        let low = Sight {
            receivers: 1,
            aimed: 0b010,
            ..Sight::default()
        };
        assert_eq!(f.look(0..100, nobody), [], "nobody watches");
        let lost = [(110, vec![true, true, false])];
        assert_eq!(f.look(100..150, low), lost, "but the lowest stays");
        let top = Sight {
            aimed: 0b110,
            ..low
        };
        assert_eq!(f.look(150..160, top), [(150, vec![true; 3])]);
        let two = Sight {
            receivers: 2,
            ..low
        };
        assert_eq!(f.look(160..180, low), [(169, vec![true, true, false])]);
        assert_eq!(f.look(180..182, two), [(180, vec![true; 3])], "a newcomer");
    }

    #[test]
    fn more_is_tried_now_and_then() {
        let mut f = Fixture {
            demand: Demand::default(),
            t0: Instant::now(),
        };
        let content = Sight {
            receivers: 1,
            aimed: 0b011,
            content: true,
            ..Sight::default()
        };
        let changes = f.look(0..400, content);
        let tried: Vec<_> = changes.iter().filter(|(_, w)| w[2]).collect();
        let times: Vec<_> = tried.iter().map(|(at, _)| *at).collect();
        assert_eq!(times, [20, 50, 100, 190, 280, 370]);
    }

    #[test]
    fn what_was_withheld_before_is_wanted_only_when_a_path_would_carry_it() {
        let mut f = Fixture {
            demand: Demand::default(),
            t0: Instant::now(),
        };
        let nobody = Sight {
            withheld: 0b100,
            ..Sight::default()
        };
        let low = Sight {
            receivers: 1,
            aimed: 0b011,
            ..nobody
        };
        let first = [(0, vec![true, true, false])];
        assert_eq!(f.look(0..3, nobody), first, "said once");
        assert_eq!(f.look(3..30, low), [], "somebody came");
        let carried = Sight {
            carried: 0b100,
            ..low
        };
        assert_eq!(f.look(30..35, carried), [(30, vec![true; 3])]);
    }

    #[test]
    fn a_layer_is_wanted_at_once_when_a_path_would_carry_it() {
        let mut f = Fixture {
            demand: Demand::default(),
            t0: Instant::now(),
        };
        let low = Sight {
            receivers: 1,
            aimed: 0b001,
            ..Sight::default()
        };
        assert_eq!(f.look(0..20, low), [(10, vec![true, false, false])]);
        let carried = Sight {
            carried: 0b010,
            ..low
        };
        assert_eq!(f.look(20..25, carried), [(20, vec![true, true, false])]);
    }
}
