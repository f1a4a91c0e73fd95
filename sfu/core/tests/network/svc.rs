//! Streams with layers of their own, behind links of all kinds: what is sent can be decoded, whole and in order.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::world::{
    World,
    link::{Conditions, Link},
    ms,
    publisher::Publisher,
    svc::Svc,
    viewer::{AV1, Packet, Received, VP9, describing, offering_feedback, with_feedback},
};
use sfu_core::{Codec, Event};

impl World {
    /// Puts a link in front of a viewer of a stream with layers. What it has no room for waits, so that what is
    /// missing was not sent.
    fn watch_layers_behind(&mut self, codec: Codec, conditions: Conditions) -> usize {
        match codec {
            Codec::Av1 => self.watch_behind_link(&describing(AV1), conditions),
            _ => self.watch_behind_link(VP9, conditions),
        }
    }

    fn watch_behind_link(&mut self, media: &str, conditions: Conditions) -> usize {
        let index = self.watch(&offering_feedback(media));
        let seed = self.next_random();
        self.links.insert(index, Link::new(conditions, seed));
        index
    }

    /// Loses so many per cent on the way to the server, and on a link to a viewer.
    fn lose(&mut self, index: usize, before: u64, behind: u64) {
        self.network.loss = before;
        self.links.get_mut(&index).unwrap().conditions.loss = 10 * behind;
    }

    /// Lets time pass until a viewer gets a spatial layer as the highest of nearly all pictures.
    fn run_until_layer(&mut self, index: usize, layer: u8, label: &str) {
        let mut spatial = BTreeMap::new();
        for _ in 0..40 {
            (spatial, _) = self.shares_within(index, 500);
            if spatial.get(&layer).is_some_and(|share| *share > 85) {
                return;
            }
        }
        panic!("{label}: {spatial:?} after 20 s");
    }

    /// Lets time pass with a publisher who sends the spatial layers that it is told are wanted. Returns what it was
    /// told.
    fn run_obediently(&mut self, publisher: usize, ms: u64) -> Vec<Vec<bool>> {
        let mut told = Vec::new();
        for _ in 0..ms / 100 {
            let seen = self.events.len();
            self.run(100);
            let new = self.events[seen..].iter().filter_map(|event| match event {
                Event::LayersWanted { wanted, .. } => Some(wanted.clone()),
                _ => None,
            });
            told.extend(new);
            if let Some(wanted) = told.last() {
                let layers = wanted.iter().rposition(|wanted| *wanted).unwrap() + 1;
                self.publisher(publisher).set_spatial_layers(layers);
            }
        }
        told
    }

    /// Returns which of the simulcast layers a viewer got last.
    fn shown_layer(&mut self, index: usize) -> u8 {
        let (newest, _) = self.viewer(index).video.newest().unwrap();
        newest.publisher / 100
    }

    /// Returns the share of pictures, per cent of those published, that a viewer got with each layer as their
    /// highest within the last `ms` milliseconds before it is called, and of each temporal layer.
    fn shares_within(&mut self, index: usize, ms: u64) -> (BTreeMap<u8, u64>, BTreeMap<u8, u64>) {
        let before = self.viewer(index).video.packets().len();
        self.run(ms);
        let mut pictures = BTreeMap::new();
        for packet in self.viewer(index).video.packets().iter().skip(before) {
            let highest = pictures.entry(packet.timestamp).or_insert(packet.layers);
            *highest = (*highest).max(packet.layers);
        }
        let all = ms * 30 / 1000;
        let (mut spatial, mut temporal) = (BTreeMap::new(), BTreeMap::new());
        for (s, t) in pictures.into_values() {
            *spatial.entry(s).or_default() += 1;
            *temporal.entry(t).or_default() += 1;
        }
        for count in spatial.values_mut().chain(temporal.values_mut()) {
            *count = *count * 100 / all;
        }
        (spatial, temporal)
    }
}

fn deep(rate: u64) -> Conditions {
    Conditions {
        queue: ms(60_000),
        ..Conditions::of_rate(rate)
    }
}

#[test]
fn streams_with_layers_are_seen_before_these_are_measured() {
    for (codec, media) in [(Codec::Vp9, VP9.to_owned()), (Codec::Av1, describing(AV1))] {
        let mut world = World::new(1);
        // Much of a key picture is there before any of it is forwarded.
        world.hold = ms(4);
        world.publish(Publisher::svc(1, codec, Svc::L3T3));
        let viewer = world.watch(&media);
        world.run(1000);
        let first = world.first_picture(viewer, world.start).unwrap();
        assert!(first < ms(150), "{codec:?}: {first:?}");
        assert_decodable(&world.viewer(viewer).video.complete(), "from the start");
    }
}

/// Asserts that every frame is whole and that all came before it that it needs: layers were entered where they
/// can be, and none was left that another still needs. Only a keyframe may cut off what was before it.
fn assert_decodable(packets: &[Packet], label: &str) {
    let mut decoded = BTreeSet::from([0]);
    let mut pictures = 0;
    for (position, packet) in packets.iter().enumerate() {
        let before = position.checked_sub(1).map(|before| packets[before]);
        let continues = before.filter(|before| before.frame == packet.frame);
        if let Some(before) = continues {
            assert_eq!(packet.content, before.content + 1, "{label}: {packet:?}");
        } else {
            let is_cut = before.is_some_and(|before| !before.ends);
            assert!(!is_cut || packet.starts_keyframe, "{label}: {packet:?}");
            for needed in packet.needs {
                assert!(
                    decoded.contains(&needed),
                    "{label}: {needed} is missing before {packet:?}"
                );
            }
        }
        if packet.starts_keyframe {
            decoded = BTreeSet::from([0]);
        }
        if packet.ends {
            decoded.insert(packet.frame);
        }
        let is_new = before.is_some_and(|before| before.timestamp != packet.timestamp);
        if let Some(before) = before {
            let is_marked = before.marker == is_new || packet.starts_keyframe;
            assert!(is_marked, "{label}: {before:?} {packet:?}");
            let step = packet.timestamp.wrapping_sub(before.timestamp);
            assert!(step.cast_signed() >= 0, "{label}: {step} ticks");
        }
        pictures += u32::from(is_new);
    }
    assert!(pictures > 0, "{label}");
}

/// Asserts that every packet says the number of its frame, and that frames are as far from those that they need as
/// their publisher said.
fn assert_described(packets: &[Packet], svc: Svc, label: &str) {
    // What the publisher's descriptor said of a frame.
    let original = |frame: u32| {
        let (picture, spatial) = ((frame - 1) / 4, (frame - 1) % 4);
        (picture * svc.spatial + spatial) as u16
    };
    let mut numbers = BTreeMap::new();
    for packet in packets {
        let described = packet
            .described
            .unwrap_or_else(|| panic!("{label}: {packet:?}"));
        let known = *numbers.entry(packet.frame).or_insert(described);
        assert_eq!(known, described, "{label}: {packet:?}");
        for needed in packet.needs.into_iter().filter(|needed| *needed > 0) {
            let distance = described.wrapping_sub(numbers[&needed]);
            let expected = original(packet.frame).wrapping_sub(original(needed));
            assert_eq!(distance, expected, "{label}: {packet:?}");
        }
    }
    let frames = numbers.values().collect::<BTreeSet<_>>();
    assert_eq!(
        frames.len(),
        numbers.len(),
        "{label}: a number for two frames"
    );
}

impl Received {
    /// Returns the longest time without another picture that is whole, all before it being there, since the first.
    fn longest_freeze(&self) -> Duration {
        let mut next = self.numbers.keys().next().copied().unwrap_or_default();
        let mut came = BTreeSet::new();
        let mut last = None;
        let mut longest = Duration::ZERO;
        for (at, number) in &self.came {
            came.insert(*number);
            while came.remove(&next) {
                let packet = self.numbers.get(&next).copied().flatten();
                if packet.is_some_and(|packet| packet.marker) {
                    longest = longest.max(last.map_or(Duration::ZERO, |last| *at - last));
                    last = Some(*at);
                }
                next += 1;
            }
        }
        let open = self.came.last().zip(last).map(|((at, _), last)| *at - last);
        longest.max(open.unwrap_or_default())
    }
}

#[test]
fn every_viewer_gets_the_spatial_layer_that_its_link_carries() {
    for (seed, codec, svc) in [
        (1, Codec::Av1, Svc::L3T3_KEY),
        (2, Codec::Vp9, Svc::L3T3_KEY),
        (3, Codec::Vp9, Svc::L3T3),
        (4, Codec::Av1, Svc::L3T3),
    ] {
        let label = format!("{codec:?} {svc:?}");
        let mut world = World::live(seed, Publisher::svc(1, codec, svc), 1500);
        let rates = [(250_000, 0), (800_000, 1), (0, 2)];
        let viewers = rates.map(|(rate, layer)| {
            let viewer = world.watch_layers_behind(codec, deep(rate));
            (viewer, layer)
        });
        world.run(6000);
        for (viewer, layer) in viewers {
            let (spatial, _) = world.shares_within(viewer, 3000);
            let share = spatial.get(&layer).copied().unwrap_or_default();
            assert!(share > 85, "{label}: {spatial:?} of {layer}");
        }
        for (viewer, _) in viewers {
            world.set_rate(viewer, 0);
        }
        world.run(5000);
        for (viewer, _) in viewers {
            let (spatial, _) = world.shares_within(viewer, 1000);
            let share = spatial.get(&2).copied().unwrap_or_default();
            assert!(share > 90, "{label}: {spatial:?} of the highest");
            let packets = world.viewer(viewer).video.complete();
            assert_decodable(&packets, &label);
        }
    }
}

/// Half of the pictures of a large size are as good as all of a smaller one, and cost no keyframe; a quarter of them
/// is not.
#[test]
fn a_large_picture_is_kept_at_half_its_frame_rate_and_given_up_at_a_quarter() {
    for (seed, rate, layer, share) in [(70, 1_600_000, 2, 50), (71, 1_200_000, 1, 98)] {
        let mut world = World::live(seed, Publisher::temporal_ladder(1), 1500);
        let viewer = world.watch(&with_feedback());
        world.links.insert(viewer, Link::new(deep(rate), seed));
        // The largest picture fits, and takes more and more.
        world.publisher(0).layers[2].packets_per_frame = 3;
        world.run(6000);
        for packets in 4..=8 {
            world.publisher(0).layers[2].packets_per_frame = packets;
            world.run(1500);
        }
        let (keyframes, _) = (world.publisher(0).keyframes, world.run(5000));
        let (_, temporal) = world.shares_within(viewer, 5000);
        let pictures: u64 = temporal.values().sum();
        assert!(
            (share - 5..=share + 5).contains(&pictures),
            "{rate}: {temporal:?}"
        );
        assert_eq!(world.shown_layer(viewer), layer, "{rate}");
        let keyframes = world.publisher(0).keyframes - keyframes;
        assert!(keyframes <= 1, "{rate}: {keyframes} keyframes");
        world.set_rate(viewer, 0);
        world.run(6000);
        let (_, temporal) = world.shares_within(viewer, 1000);
        let pictures: u64 = temporal.values().sum();
        assert!(pictures > 95, "{rate}, then free: {temporal:?}");
        assert_eq!(world.shown_layer(viewer), 2, "{rate}, then free");
        let packets = world.viewer(viewer).video.complete();
        assert_decodable(&packets, "VP8");
    }
}

#[test]
fn temporal_layers_of_av1_are_left_and_entered() {
    let mut world = World::live(5, Publisher::svc(1, Codec::Av1, Svc::L1T3), 1500);
    let viewer = world.watch_layers_behind(Codec::Av1, deep(0));
    for (rate, most, least) in [
        (0, 100, 95),
        (450_000, 55, 45),
        (250_000, 30, 20),
        (450_000, 55, 45),
        (0, 100, 95),
    ] {
        world.set_rate(viewer, rate);
        world.run(6000);
        let (_, temporal) = world.shares_within(viewer, 3000);
        let share: u64 = temporal.values().sum();
        assert!((least..=most).contains(&share), "{rate}: {temporal:?}");
    }
    let packets = world.viewer(viewer).video.complete();
    assert_decodable(&packets, "L1T3");
}

#[test]
fn spatial_layers_that_nobody_wants_are_told_to_their_publisher() {
    for (seed, codec, svc) in [
        (40, Codec::Vp9, Svc::L3T3_KEY),
        (41, Codec::Vp9, Svc::L3T3),
        (42, Codec::Av1, Svc::L3T3_KEY),
    ] {
        for elsewhere in [false, true] {
            let label = format!("{codec:?} {svc:?}, at another shard: {elsewhere}");
            let mut world = World::new(seed);
            let publisher = world.publish(Publisher::svc(1, codec, svc));
            world.run(1500);
            world.joins_elsewhere = elsewhere;
            let viewer = world.watch_layers_behind(codec, deep(0));
            let told = world.run_obediently(publisher, 12_000);
            assert!(told.is_empty(), "{label}: the highest is seen: {told:?}");
            let peer = world.members[viewer].peer;
            let now = world.now;
            world.sfu_of(viewer).limit(peer, Some(0), now);
            let told = world.run_obediently(publisher, 30_000);
            assert_eq!(told, [[true, false, false]], "{label}: once and for good");
            let (spatial, _) = world.shares_within(viewer, 1000);
            assert!(spatial[&0] > 95, "{label}: {spatial:?}");
            // Another viewer changes nothing, as long as nobody's link is known to carry more.
            let second = world.watch_layers_behind(codec, deep(250_000));
            let told = world.run_obediently(publisher, 9000);
            assert!(told.is_empty(), "{label}: {told:?}");
            world.leave(second);
            let now = world.now;
            world.sfu_of(viewer).limit(peer, None, now);
            let told = world.run_obediently(publisher, 8000);
            assert_eq!(told.last(), Some(&vec![true; 3]), "{label}: {told:?}");
            let (spatial, _) = world.shares_within(viewer, 1000);
            assert!(spatial[&2] > 90, "{label}: {spatial:?}");
            let packets = world.viewer(viewer).video.complete();
            assert_decodable(&packets, &label);
        }
    }
}

#[test]
fn a_shard_that_begins_to_follow_wants_no_more_than_its_viewers_can_be_sent() {
    for (seed, codec, svc) in [(60, Codec::Vp9, Svc::L3T3_KEY), (61, Codec::Av1, Svc::L3T3)] {
        let label = format!("{codec:?} {svc:?}");
        let mut world = World::new(seed);
        let publisher = world.publish(Publisher::svc(1, codec, svc));
        let viewer = world.watch_layers_behind(codec, deep(0));
        let (peer, now) = (world.members[viewer].peer, world.now);
        world.sfu.limit(peer, Some(0), now);
        let told = world.run_obediently(publisher, 15_000);
        assert_eq!(told, [[true, false, false]], "{label}");
        let keyframes = world.publisher(publisher).keyframes;
        world.joins_elsewhere = true;
        let there = world.watch_layers_behind(codec, deep(250_000));
        let told = world.run_obediently(publisher, 9000);
        assert!(told.is_empty(), "{label}: {told:?}");
        let more = world.publisher(publisher).keyframes - keyframes;
        assert!(more <= 1, "{label}: {more} keyframes for a newcomer");
        // Its link carries all, and it has never seen what that is.
        world.set_rate(there, 0);
        let told = world.run_obediently(publisher, 15_000);
        assert_eq!(told.last(), Some(&vec![true; 3]), "{label}: {told:?}");
        let (spatial, _) = world.shares_within(there, 1000);
        assert!(spatial[&2] > 90, "{label}: {spatial:?}");
        world.viewer(there).video.complete();
    }
}

/// The viewer's limit changes at random, and the link, or packets are lost.
#[test]
fn what_is_sent_of_layers_can_be_decoded_whatever_happens() {
    for (seed, codec, svc, loss) in [
        (10, Codec::Av1, Svc::L3T3_KEY, 0),
        (11, Codec::Av1, Svc::L1T3, 0),
        (12, Codec::Vp9, Svc::L3T3_KEY, 0),
        (13, Codec::Av1, Svc::L3T3_KEY, 30),
        (14, Codec::Vp9, Svc::L3T3, 30),
        (15, Codec::Av1, Svc::L3T3, 30),
        (16, Codec::Av1, Svc::L1T3, 100),
    ] {
        let label = format!("seed {seed}, {codec:?}, loss {loss}, {svc:?}");
        let mut world = World::live(seed, Publisher::svc(1, codec, svc), 1000);
        let viewer = world.watch_layers_behind(codec, deep(0));
        world.run(2000);
        for _ in 0..25 {
            let rates = [0, 200_000, 400_000, 700_000, 2_500_000];
            let rate = rates[world.next_random() as usize % rates.len()];
            let link = world.links.get_mut(&viewer).unwrap();
            link.conditions.rate = if loss == 0 { rate } else { 0 };
            link.conditions.loss = loss;
            let limit = [Some(0), Some(1), None, None][world.next_random() as usize % 4];
            let peer = world.members[viewer].peer;
            world.sfu.limit(peer, limit, world.now);
            let pause = 200 + world.next_random() % 1500;
            world.run(pause);
        }
        let link = world.links.get_mut(&viewer).unwrap();
        (link.conditions.rate, link.conditions.loss) = (0, 0);
        let peer = world.members[viewer].peer;
        let now = world.now;
        world.sfu_of(viewer).limit(peer, None, now);
        world.run(5000);
        let packets = world.viewer(viewer).video.complete();
        assert_decodable(&packets, &label);
        let mut qualities: Vec<_> = packets.iter().map(|packet| packet.layers).collect();
        qualities.sort();
        qualities.dedup();
        let most = (svc.spatial * svc.temporal) as usize;
        assert_eq!(qualities.len(), most, "{label}: {qualities:?}");
    }
}

/// Both ways lose packets while the link becomes narrower and wider. Who does not read descriptors goes by what the
/// payload says.
#[test]
fn layers_of_vp9_with_descriptors_are_left_and_entered_while_packets_are_lost() {
    for (seed, svc, media) in [
        (50, Svc::L3T3_KEY, describing(VP9)),
        (51, Svc::L3T3, describing(VP9)),
        (52, Svc::L3T3_KEY, VP9.to_owned()),
    ] {
        let is_described = media != VP9;
        let label = format!("seed {seed}, {svc:?}, described: {is_described}");
        let publisher = Publisher::svc(1, Codec::Vp9, svc).with_descriptor();
        let mut world = World::live(seed, publisher, 1500);
        let viewer = world.watch_behind_link(&media, deep(0));
        world.run(500);
        for (rate, limit, layer) in [
            (0, None, 2),
            (250_000, None, 0),
            (800_000, None, 1),
            (0, None, 2),
            (0, Some(0), 0),
            (0, Some(1), 1),
            (250_000, None, 0),
            (0, None, 2),
        ] {
            let at = format!("{label}, {rate} bit/s, limit {limit:?}");
            let peer = world.members[viewer].peer;
            world.sfu.limit(peer, limit, world.now);
            // What a full link loses is not sent again once there is a keyframe behind it.
            world.lose(viewer, 3, if rate == 0 { 3 } else { 0 });
            world.set_rate(viewer, rate);
            world.run(1000);
            world.run_until_layer(viewer, layer, &at);
            world.lose(viewer, 3, 2);
            let (spatial, _) = world.shares_within(viewer, 1500);
            let share = spatial.get(&layer).copied().unwrap_or_default();
            // Over a narrow link every second picture may be left out.
            let all: u64 = spatial.values().sum();
            assert!(all > 45 && share * 4 > all * 3, "{at}: {spatial:?}");
        }
        world.lose(viewer, 0, 0);
        world.run(1500);
        let packets = world.viewer(viewer).video.complete();
        assert_decodable(&packets, &label);
        if is_described {
            assert_described(&packets, svc, &label);
        } else {
            assert!(packets.iter().all(|packet| packet.described.is_none()));
        }
        let retransmissions = world.viewer(viewer).retransmissions;
        assert!(retransmissions > 30, "{label}: {retransmissions}");
    }
}

/// A newcomer is sent what was before at once, but not more than a narrow link's queue holds.
#[test]
fn a_narrow_link_does_not_freeze_the_picture() {
    let (mut frozen, mut dropped) = (Vec::new(), 0);
    for (svc, jitter, loss) in [
        (Svc::L3T3, 0, 0),
        (Svc::L3T3_KEY, 0, 0),
        (Svc::L3T3_KEY, 10, 5),
    ] {
        for seed in 20..26 {
            let mut world = World::live(seed, Publisher::svc(1, Codec::Vp9, svc), 1500);
            let conditions = Conditions {
                delay: ms(30),
                queue: ms(300),
                jitter: ms(jitter),
                loss,
                ..Conditions::of_rate(400_000)
            };
            let viewer = world.watch_layers_behind(Codec::Vp9, conditions);
            world.run(8000);
            dropped += world.links[&viewer].dropped;
            frozen.push(world.viewer(viewer).video.longest_freeze());
        }
    }
    frozen.sort();
    println!("{dropped} packets dropped, {frozen:?}");
    assert!(dropped < 100, "{dropped} packets dropped");
    assert!(frozen.last() < Some(&ms(600)), "{frozen:?}");
}
