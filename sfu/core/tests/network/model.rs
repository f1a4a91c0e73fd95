//! Random joins, reloads, pins, switches and departures on a stage that is watched at two shards, against a naive
//! reference of who is to be seen where, and how well.

mod reference;
mod watcher;

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use crate::world::{
    Network, ROOM, World,
    link::{Conditions, Link},
    ms,
    publisher::Publisher,
    viewer::{BOTH, offering_feedback, stage},
};
use reference::{LAYERS, Reference, Wish};
use sfu_core::{Codec, ParticipantId};
use watcher::Watcher;

#[test]
fn every_viewer_sees_what_a_naive_reference_says() {
    let mut switches = 0;
    let seeds = seeds();
    let least = 10 * seeds.clone().count();
    for seed in seeds {
        println!("seed {seed}");
        let mut run = Run::new(seed);
        // A room without anybody would be forgotten.
        for participant in 1..=3 {
            run.watch(participant);
            run.publish(participant);
        }
        run.world.run(1500);
        for step in 0..22 {
            run.step(step);
        }
        for watcher in &run.watchers {
            switches += watcher.check_streams(&run.world);
        }
        switches += run.switches;
    }
    println!("{switches} switches between layers");
    assert!(switches > least, "{switches} switches between layers");
}

/// `FANLIGHT_TEST_SEEDS`, such as `1-60`; a few if there is none.
fn seeds() -> RangeInclusive<u64> {
    let asked = std::env::var("FANLIGHT_TEST_SEEDS").ok();
    let asked = asked.as_deref().map(|seeds| seeds.split_once('-').unwrap());
    asked.map_or(1..=6, |(first, last)| {
        first.parse().unwrap()..=last.parse().unwrap()
    })
}

struct Run {
    world: World,
    reference: Reference,
    publishers: BTreeMap<u64, usize>,
    watchers: Vec<Watcher>,
    next_publisher: u8,
    /// Of those who have left.
    switches: usize,
}

/// What narrow links carry, bit/s: enough for the lowest layer of everybody.
const RATES: [u64; 3] = [800_000, 1_300_000, 2_000_000];

/// How long it may take until the right ones are seen, and until they are as they should be: over a narrow link what
/// was too much is waited for, and what more it carries is found out. A link that becomes wide is found out about as
/// late as a narrow one: after climbs that it did not carry, the longest pause is 12.8 s.
const TO_BE_SEEN: Duration = Duration::from_millis(1500);
const TO_BE_SEEN_WELL: Duration = Duration::from_millis(4000);
const OVER_A_NARROW_LINK: Duration = Duration::from_millis(15_000);

impl Run {
    fn new(seed: u64) -> Self {
        Self {
            world: World::new(seed),
            reference: Reference::default(),
            publishers: BTreeMap::new(),
            watchers: Vec::new(),
            next_publisher: 0,
            switches: 0,
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.world.next_random() % below
    }

    fn step(&mut self, step: u32) {
        let participant = 1 + self.random(5);
        let action = self.random(16);
        println!("step {step}: {action} of participant {participant}");
        match action {
            0..=2 => self.publish(participant),
            3 => self.unpublish(participant),
            4..=5 if self.watchers.len() < 5 => self.watch(participant),
            6 if self.watchers.len() > 2 => {
                let position = self.random(self.watchers.len() as u64) as usize;
                let watcher = self.watchers.remove(position);
                self.switches += watcher.check_streams(&self.world);
                self.world.leave(watcher.index);
            }
            7 => self.feature(Some(participant)),
            8 => self.feature(None),
            9..=11 => self.limit(),
            12 => self.change_link(),
            13 => self.mute(participant),
            14..=15 => self.stop_or_start_layer(participant),
            _ => {}
        }
        self.world.run(300);
        self.world.network = Network {
            loss: self.random(2) * 5,
            duplicate: self.random(3),
            jitter: self.random(8),
        };
        let time = 100 + self.random(500);
        self.world.run(time);
        self.world.network = Network::default();
        self.settle(step);
    }

    /// Lets time pass until everybody sees what the reference says, and does for a while.
    fn settle(&mut self, step: u32) {
        let start = self.world.now;
        let mut good = 0;
        while good < 4 {
            self.world.run(100);
            good += 1;
            for watcher in &self.watchers {
                let Watcher { index, wish, .. } = watcher;
                let seen = watcher.sees(&self.world);
                let is_narrow = wish.rate.is_some();
                let whom = self.reference.is_wrong_about_whom(wish, &seen);
                let layers = || self.reference.is_wrong_about_layers(wish, &seen);
                let settled = watcher.changed.map_or(start, |at| at + OVER_A_NARROW_LINK);
                let settled = settled.saturating_duration_since(start);
                let (wrong, within) = match whom {
                    Some(whom) if !is_narrow => (Some(whom), TO_BE_SEEN),
                    None if !is_narrow => (layers(), TO_BE_SEEN_WELL.max(settled)),
                    whom => (whom.or_else(layers), OVER_A_NARROW_LINK),
                };
                if let Some(wrong) = wrong {
                    good = 0;
                    let waited = self.world.now - start;
                    let label = format!("step {step}, viewer {index}, {wish:?}");
                    assert!(waited < within, "{label}: {wrong} after {waited:?}");
                }
            }
        }
    }

    fn publish(&mut self, participant: u64) {
        self.next_publisher += 1;
        let codec = [Codec::H264, Codec::Vp8][self.random(2) as usize];
        let layers = [1, 3, 3, 3][self.random(4) as usize];
        let publisher = Publisher::layered(self.next_publisher, codec, &LAYERS[..layers]);
        let index = self.world.publish_as(participant, publisher);
        if let Some(before) = self.publishers.insert(participant, index) {
            // A browser that reloads is gone before its server side is.
            self.world.members[before].silent = self.random(2) == 0;
        }
        self.reference
            .join(participant, self.next_publisher, layers);
    }

    fn unpublish(&mut self, participant: u64) {
        if let Some(index) = self.publishers.remove(&participant) {
            self.world.leave(index);
            self.reference.leave(participant);
        }
    }

    fn feature(&mut self, participant: Option<u64>) {
        self.reference.feature(participant);
        let participant = participant.map(ParticipantId);
        self.world.sfu.feature(ROOM, participant, self.world.now);
    }

    fn watch(&mut self, participant: u64) {
        let has_slots = self.random(4) > 0;
        let mut media = if has_slots {
            stage(9, 3)
        } else {
            BOTH.to_owned()
        };
        let is_narrow = self.random(3) == 0;
        if is_narrow || self.random(2) == 0 {
            media = offering_feedback(&media);
        }
        // Some of those on stage watch, too.
        let participant = participant + 100 * self.random(2);
        self.world.joins_elsewhere = self.random(2) == 0;
        let index = self.world.watch_as(participant, &media);
        self.world.joins_elsewhere = false;
        let wish = Wish {
            participant,
            has_slots,
            limit: None,
            rate: is_narrow.then(|| RATES[self.random(3) as usize]),
        };
        if let Some(rate) = wish.rate {
            // What there is no room for waits: nothing is missing but what was not sent.
            let conditions = Conditions {
                queue: ms(60_000),
                ..Conditions::of_rate(rate)
            };
            let link = Link::new(conditions, self.world.next_random());
            self.world.links.insert(index, link);
        }
        self.watchers.push(Watcher {
            index,
            wish,
            changed: None,
        });
    }

    /// Some choose from the menu of qualities.
    fn limit(&mut self) {
        for watcher in &mut self.watchers {
            if !self.world.next_random().is_multiple_of(3) {
                let limits = [None, Some(0), Some(1)];
                watcher.wish.limit = limits[self.world.next_random() as usize % 3];
                let (peer, now) = (self.world.members[watcher.index].peer, self.world.now);
                let sfu = self.world.sfu_of(watcher.index);
                sfu.limit(peer, watcher.wish.limit, now);
            }
        }
    }

    /// The link of somebody who had a narrow one carries more or less, or anything.
    fn change_link(&mut self) {
        let rate = [None, Some(RATES[0]), Some(RATES[1]), Some(RATES[2])];
        let rate = rate[self.random(4) as usize];
        let has_link = |watcher: &&mut Watcher| self.world.links.contains_key(&watcher.index);
        if let Some(watcher) = self.watchers.iter_mut().find(has_link) {
            watcher.wish.rate = rate;
            watcher.changed = Some(self.world.now);
            let index = watcher.index;
            self.world.set_rate(index, rate.unwrap_or(0));
        }
    }

    /// The camera of somebody goes off, or on again.
    fn mute(&mut self, participant: u64) {
        if let Some(performer) = self.reference.performer(participant) {
            performer.has_video = !performer.has_video;
            let publisher = self.world.publisher(self.publishers[&participant]);
            publisher.has_video = performer.has_video;
        }
    }

    /// A sender's processor or path does not suffice for an upper layer, or does again.
    fn stop_or_start_layer(&mut self, participant: u64) {
        let layer = 1 + self.random(2) as usize;
        let Some(performer) = self.reference.performer(participant) else {
            return;
        };
        let publisher = self.world.publisher(self.publishers[&participant]);
        if let Some(stream) = publisher.layers.get_mut(layer) {
            stream.enabled = !stream.enabled;
            performer.sends[layer] = stream.enabled;
        }
    }
}
