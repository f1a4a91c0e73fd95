//! Random joins, reloads, pins and departures on a stage, against a naive reference of who is to be seen where.

use std::collections::BTreeMap;

use crate::world::{
    Network, ROOM, World,
    publisher::Publisher,
    viewer::{BOTH, Packet, Received, stage},
};
use sfu_core::{Codec, ParticipantId};

#[test]
fn every_viewer_sees_what_a_naive_reference_says() {
    for seed in 1..=4 {
        let mut run = Run::new(seed);
        // A room without anybody would be forgotten.
        run.watch(1);
        for step in 0..30 {
            run.step(step);
        }
        for watcher in &run.watchers {
            watcher.check_streams(&run.world);
        }
    }
}

/// Who is where, by the simplest rules: nobody speaks, and the stage has room for everybody.
#[derive(Default)]
struct Reference {
    /// By participant: the number their publisher writes into its packets, and when they came.
    on_stage: BTreeMap<u64, (u8, u32)>,
    slots: [Slot; 9],
    featured: Option<u64>,
    program: Option<u64>,
    arrivals: u32,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    shown: Option<u64>,
    last: Option<u64>,
}

impl Reference {
    fn join(&mut self, participant: u64, publisher: u8) {
        self.arrivals += 1;
        let before = self
            .on_stage
            .insert(participant, (publisher, self.arrivals));
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

    fn leave(&mut self, participant: u64) {
        self.on_stage.remove(&participant);
        for slot in &mut self.slots {
            slot.shown.take_if(|shown| *shown == participant);
        }
        self.choose();
    }

    fn feature(&mut self, participant: Option<u64>) {
        self.featured = participant;
        self.choose();
    }

    fn choose(&mut self) {
        let is_there = |who: &u64| self.on_stage.contains_key(who);
        let newest = self.on_stage.iter().max_by_key(|(_, (_, at))| *at);
        self.program = self
            .featured
            .filter(is_there)
            .or(self.program.filter(is_there))
            .or(newest.map(|(who, _)| *who));
    }

    /// Returns the publisher that a viewer is to see in a slot, or in the program.
    fn sees(&self, viewer: u64, slot: Option<usize>) -> Option<u8> {
        let shown = match slot {
            Some(slot) => self.slots[slot].shown,
            None => self.program,
        };
        let shown = shown.filter(|who| *who != viewer)?;
        Some(self.on_stage[&shown].0)
    }
}

struct Run {
    world: World,
    reference: Reference,
    publishers: BTreeMap<u64, usize>,
    watchers: Vec<Watcher>,
    next_publisher: u8,
}

struct Watcher {
    index: usize,
    participant: u64,
    has_slots: bool,
}

impl Run {
    fn new(seed: u64) -> Self {
        Self {
            world: World::new(seed),
            reference: Reference::default(),
            publishers: BTreeMap::new(),
            watchers: Vec::new(),
            next_publisher: 0,
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.world.next_random() % below
    }

    fn step(&mut self, step: u32) {
        let participant = 1 + self.random(5);
        let action = self.random(10);
        println!("step {step}: {action} of participant {participant}");
        match action {
            0..=3 => self.publish(participant),
            4 => self.unpublish(participant),
            5..=6 if self.watchers.len() < 5 => self.watch(participant),
            7 if self.watchers.len() > 1 => {
                let position = self.random(self.watchers.len() as u64) as usize;
                let watcher = self.watchers.remove(position);
                watcher.check_streams(&self.world);
                self.world.leave(watcher.index);
            }
            8 => {
                self.reference.feature(Some(participant));
                let participant = Some(ParticipantId(participant));
                self.world.sfu.feature(ROOM, participant, self.world.now);
            }
            9 => {
                self.reference.feature(None);
                self.world.sfu.feature(ROOM, None, self.world.now);
            }
            _ => {}
        }
        self.world.run(700);
        self.world.network = Network {
            loss: self.random(2) * 5,
            duplicate: self.random(3),
            jitter: self.random(8),
        };
        let time = 200 + self.random(600);
        self.world.run(time);
        self.world.network = Network::default();
        self.world.run(500);
        for watcher in &self.watchers {
            watcher.check_present(&self.world, &self.reference, step);
        }
    }

    fn publish(&mut self, participant: u64) {
        self.next_publisher += 1;
        let codec = [Codec::H264, Codec::Vp8][self.random(2) as usize];
        let publisher = Publisher::new(self.next_publisher, codec);
        let index = self.world.publish_as(participant, publisher);
        if let Some(before) = self.publishers.insert(participant, index) {
            // A browser that reloads is gone before its server side is.
            self.world.members[before].silent = self.random(2) == 0;
        }
        self.reference.join(participant, self.next_publisher);
    }

    fn unpublish(&mut self, participant: u64) {
        if let Some(index) = self.publishers.remove(&participant) {
            self.world.leave(index);
            self.reference.leave(participant);
        }
    }

    fn watch(&mut self, participant: u64) {
        let has_slots = self.random(3) > 0;
        let media = if has_slots {
            stage(9, 3)
        } else {
            BOTH.to_owned()
        };
        // Some of those on stage watch, too.
        let participant = participant + 100 * self.random(2);
        let index = self.world.watch_as(participant, &media);
        self.watchers.push(Watcher {
            index,
            participant,
            has_slots,
        });
    }
}

impl Watcher {
    /// Asserts that exactly what the reference says is arriving.
    fn check_present(&self, world: &World, reference: &Reference, step: u32) {
        let viewer = world.viewer(self.index);
        let views = match self.has_slots {
            true => (0..9).map(Some).collect(),
            false => vec![None],
        };
        for slot in views {
            let received = viewer.slot(true, slot.unwrap_or(0));
            let newest = received.newest();
            let lately = |at| world.now - at < std::time::Duration::from_millis(150);
            let seen = newest
                .filter(|(_, at)| lately(*at))
                .map(|(p, _)| p.publisher);
            let expected = reference.sees(self.participant, slot);
            assert_eq!(
                seen, expected,
                "step {step}, viewer {}, {slot:?}",
                self.index
            );
        }
    }

    /// Asserts that nothing is missing, repeated or out of order in what came.
    fn check_streams(&self, world: &World) {
        let viewer = world.viewer(self.index);
        let slots = if self.has_slots { 9 } else { 1 };
        for slot in 0..slots {
            let video = viewer.slot(true, slot);
            if !video.numbers.is_empty() {
                assert_continuous(&video.complete());
            }
        }
        for slot in 0..slots.min(3) {
            assert_in_order(viewer.slot(false, slot));
        }
    }
}

/// Asserts that a stream starts at a keyframe, changes its source only there, has ascending timestamps and
/// every packet of each source.
fn assert_continuous(packets: &[Packet]) {
    assert!(packets[0].starts_keyframe);
    for pair in packets.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        let step = b.timestamp.wrapping_sub(a.timestamp).cast_signed();
        if a.publisher == b.publisher && b.content == a.content + 1 {
            assert_eq!(step > 0, a.marker, "{a:?} {b:?}");
            assert!(step >= 0);
        } else {
            assert!(b.starts_keyframe, "{a:?} {b:?}");
            assert!(a.publisher != b.publisher || b.content > a.content);
            assert!(step > 0);
        }
    }
}

fn assert_in_order(audio: &Received) {
    for pair in audio.packets().windows(2) {
        let step = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
        assert!((1..1 << 31).contains(&step), "{pair:?}");
        let is_same = pair[0].publisher == pair[1].publisher;
        assert!(!is_same || pair[1].content > pair[0].content, "{pair:?}");
    }
}
