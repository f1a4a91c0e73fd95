//! Who is to be seen where, and how well, by the simplest rules: nobody speaks, and the stage has room for everybody.

use std::collections::BTreeMap;

/// What publishers send: by layer the packets of a frame, and the bytes of each.
pub(super) const LAYERS: [(u32, usize); 3] = [(1, 200), (1, 600), (2, 900)];

/// What the layers take, bit/s, headers of all protocols included, and what the sound of somebody does.
const BITRATES: [u64; 3] = [64_000, 160_000, 464_000];
const SOUND: u64 = 66_000;
const MOST_SOUNDS: u64 = 3;

/// Per cent of a link that may seem to be taken, and that is surely given.
const MOST: u64 = 105;
const LEAST: u64 = 65;

#[derive(Default)]
pub(super) struct Reference {
    on_stage: BTreeMap<u64, Performer>,
    slots: [Slot; 9],
    featured: Option<u64>,
    program: Option<u64>,
    arrivals: u32,
}

/// Somebody on stage.
#[derive(Clone, Copy, Debug)]
pub(super) struct Performer {
    /// The number that their publisher writes into its packets.
    pub(super) publisher: u8,
    /// Whether there is a picture.
    pub(super) has_video: bool,
    /// By layer, the lowest first, whether it is sent.
    pub(super) sends: [bool; 3],
    arrival: u32,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    shown: Option<u64>,
    last: Option<u64>,
}

/// What somebody who watches wants, and what their link carries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    pub(super) participant: u64,
    /// Whether they see the stage, not the program alone.
    pub(super) has_slots: bool,
    /// The highest layer that they want.
    pub(super) limit: Option<u8>,
    /// Bit/s, if it is narrow.
    pub(super) rate: Option<u64>,
}

/// What is seen in a slot: whom, and the layer.
pub(super) type Seen = Option<(u8, u8)>;

/// A slot with a picture: the layers there are to choose from, and which of these is seen.
struct View {
    offered: Vec<usize>,
    place: usize,
}

impl View {
    fn bitrate(&self) -> u64 {
        BITRATES[self.offered[self.place]]
    }

    /// Returns what the next better layer takes more.
    fn next_step(&self) -> Option<u64> {
        let next = self.offered.get(self.place + 1)?;
        Some(BITRATES[*next] - self.bitrate())
    }

    /// Returns what this layer takes more than the one below it.
    fn last_step(&self) -> u64 {
        let below = self.place.checked_sub(1);
        self.bitrate() - below.map_or(0, |below| BITRATES[self.offered[below]])
    }

    /// Returns whether this one should be shown better before another one is as good as it is.
    fn is_behind(&self, other: &Self) -> bool {
        let is_dearer = |step: u64| step * 100 > other.last_step() * 80;
        other.place > self.place + 1 && !self.next_step().is_none_or(is_dearer)
    }
}

impl Performer {
    /// Returns the layers that somebody who wants no higher one than `limit` may be shown.
    fn offers(&self, limit: Option<u8>) -> Vec<usize> {
        let most = limit.map_or(2, usize::from);
        (0..=most).filter(|layer| self.sends[*layer]).collect()
    }
}

impl Reference {
    pub(super) fn join(&mut self, participant: u64, publisher: u8, layers: usize) {
        self.arrivals += 1;
        let performer = Performer {
            publisher,
            has_video: true,
            sends: [0, 1, 2].map(|layer| layer < layers),
            arrival: self.arrivals,
        };
        let before = self.on_stage.insert(participant, performer);
        if before.is_none() {
            let is_empty = |slot: &&mut Slot| slot.shown.is_none();
            let mut own = self.slots.iter_mut().filter(is_empty);
            let slot = match own.find(|slot| slot.last == Some(participant)) {
                Some(slot) => slot,
                None => {
                    let fresh = |slot: &Slot| slot.shown.is_none() && slot.last.is_none();
                    let free = |slot: &Slot| slot.shown.is_none();
                    let place = self.slots.iter().position(fresh);
                    let place = place.or_else(|| self.slots.iter().position(free));
                    &mut self.slots[place.unwrap()]
                }
            };
            (slot.shown, slot.last) = (Some(participant), Some(participant));
        }
        self.choose();
    }

    pub(super) fn leave(&mut self, participant: u64) {
        self.on_stage.remove(&participant);
        for slot in &mut self.slots {
            slot.shown.take_if(|shown| *shown == participant);
        }
        self.choose();
    }

    pub(super) fn feature(&mut self, participant: Option<u64>) {
        self.featured = participant;
        self.choose();
    }

    /// Returns somebody on stage.
    pub(super) fn performer(&mut self, participant: u64) -> Option<&mut Performer> {
        self.on_stage.get_mut(&participant)
    }

    fn choose(&mut self) {
        let is_there = |who: &u64| self.on_stage.contains_key(who);
        let newest = self.on_stage.iter().max_by_key(|(_, p)| p.arrival);
        self.program = self
            .featured
            .filter(is_there)
            .or(self.program.filter(is_there))
            .or(newest.map(|(who, _)| *who));
    }

    /// Returns who is to be seen in each slot, or in the program.
    fn shown(&self, wish: &Wish) -> Vec<Option<u64>> {
        let all = self.slots.iter().map(|slot| slot.shown);
        let shown: Vec<_> = match wish.has_slots {
            true => all.collect(),
            false => vec![self.program],
        };
        let others = |who: Option<u64>| who.filter(|who| *who != wish.participant);
        shown.into_iter().map(others).collect()
    }

    /// Returns what is wrong with whom somebody sees.
    pub(super) fn is_wrong_about_whom(&self, wish: &Wish, seen: &[Seen]) -> Option<String> {
        let shown = self.shown(wish).into_iter().zip(seen);
        let mut found = shown.map(|(who, seen)| {
            let found = seen.map(|(publisher, _)| publisher);
            let performer = who.map(|who| self.on_stage[&who]);
            let is_right = match performer.filter(|performer| !performer.has_video) {
                None => found == performer.map(|performer| performer.publisher),
                // Who was in the picture before goes on until there is another.
                Some(_) => found.is_none() || !wish.has_slots,
            };
            is_right.then_some(found).ok_or((performer, found))
        });
        let wrong = found.find_map(Result::err);
        wrong.map(|(expected, found)| format!("{found:?} instead of {expected:?}"))
    }

    /// Returns what is wrong with how well they see it, if they see whom they should.
    pub(super) fn is_wrong_about_layers(&self, wish: &Wish, seen: &[Seen]) -> Option<String> {
        let mut views = Vec::new();
        for (who, seen) in self.shown(wish).into_iter().zip(seen) {
            let (Some(who), Some((_, layer))) = (who, seen) else {
                continue;
            };
            let performer = self.on_stage[&who];
            if !performer.has_video {
                continue;
            }
            let offered = performer.offers(wish.limit);
            let place = offered.iter().position(|l| *l == usize::from(*layer));
            let Some(place) = place else {
                return Some(format!("{seen:?} of {offered:?}"));
            };
            views.push(View { offered, place });
        }
        match wish.rate {
            None => views
                .iter()
                .any(|view| view.next_step().is_some())
                .then(|| format!("{seen:?} is less than there is")),
            Some(rate) => self.is_badly_shared(wish, rate, &views, seen),
        }
    }

    /// Returns what is wrong with what is shown over a narrow link: as much as fits, and nobody well before all are
    /// seen.
    fn is_badly_shared(
        &self,
        wish: &Wish,
        rate: u64,
        views: &[View],
        seen: &[Seen],
    ) -> Option<String> {
        let others = self.on_stage.keys().filter(|who| **who != wish.participant);
        let sounds = match wish.has_slots {
            true => (others.count() as u64).min(MOST_SOUNDS),
            false => 1,
        };
        let taken = sounds * SOUND + views.iter().map(View::bitrate).sum::<u64>();
        if taken * 100 > rate * MOST {
            return Some(format!("{seen:?} takes {taken} of {rate}"));
        }
        let would_fit = |step: u64| (taken + step) * 100 <= rate * LEAST;
        let rises = |view: &View| {
            let is_behind = views.iter().any(|other| view.is_behind(other));
            is_behind || view.next_step().is_some_and(would_fit)
        };
        views
            .iter()
            .any(rises)
            .then(|| format!("{seen:?} takes only {taken} of {rate}, or is badly shared"))
    }
}
