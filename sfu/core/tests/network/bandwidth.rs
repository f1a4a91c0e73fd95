//! What viewers behind narrow links are sent, over a virtual network.

use std::{collections::BTreeMap, time::Duration};

use crate::world::{
    World,
    link::{Conditions, Link},
    ms,
    publisher::Publisher,
    viewer::{BOTH, Remb, offering_feedback, stage, with_feedback, with_red},
};
use sfu_core::{Codec, MediaKind, PeerStats};

impl World {
    /// Puts a link in front of a viewer who reports on every packet.
    fn watch_behind(&mut self, conditions: Conditions) -> usize {
        let index = self.watch(&with_feedback());
        let seed = self.next_random();
        self.links.insert(index, Link::new(conditions, seed));
        index
    }

    fn facts(&self, index: usize) -> PeerStats {
        let peer = self.members[index].peer;
        self.sfu.peer_stats(peer, self.now).unwrap()
    }

    /// Returns how many packets of each layer a viewer got within the last `ms` milliseconds before it is
    /// called, by the marks of the publisher.
    fn layers_within(&mut self, index: usize, ms: u64) -> BTreeMap<u8, usize> {
        let before = self.viewer(index).video.numbers.len();
        self.run(ms);
        let mut layers = BTreeMap::new();
        for packet in self.viewer(index).video.packets().iter().skip(before) {
            *layers.entry(packet.publisher / 100).or_default() += 1;
        }
        layers
    }

    /// Asserts that the estimate comes near what a link carries that changes under what is sent, and grows.
    fn assert_estimate_follows(seed: u64, mut conditions: Conditions, reports_lost: u64) {
        for (seed, rates) in (seed + 1..).zip([
            [400_000, 1_500_000, 400_000],
            [6_000_000, 800_000, 2_000_000],
            [2_000_000, 300_000, 1_500_000],
        ]) {
            let mut world = Self::live(seed, Publisher::ladder(1, Codec::Vp8), 1500);
            world.reports_lost = reports_lost;
            conditions.rate = rates[0];
            let viewer = world.watch_behind(conditions);
            for rate in rates {
                world.set_rate(viewer, rate);
                let label = format!("{conditions:?}, {reports_lost}, {rates:?}: {rate}");
                world.assert_estimate_comes_near(viewer, rate, &label);
            }
        }
    }

    /// Asserts that the estimate is within a fifth of the rate, or of what the best takes, within 5 s; that it stays
    /// near for 7 s more; and that it is never above the rate for longer than a second.
    fn assert_estimate_comes_near(&mut self, index: usize, rate: u64, label: &str) {
        let wanted = rate.min(2_600_000);
        let (mut above, mut sum, mut is_near) = (0, 0, false);
        for step in 0..1200 {
            self.run(10);
            let estimate = self.facts(index).estimate_bps.unwrap_or_default();
            // What jitters is measured to a few per cent.
            let most = rate + rate / 33;
            above = if estimate > most { above + 10 } else { 0 };
            assert!(above <= 1000, "{label}: {estimate} at {step}0 ms");
            is_near |= estimate * 10 >= wanted * 8 && estimate <= most;
            assert!(is_near || step < 500, "{label}: {estimate} after 5 s");
            sum += estimate;
            if step % 100 == 99 {
                let average = std::mem::take(&mut sum) / 100;
                assert!(
                    step < 500 || average * 10 >= wanted * 7,
                    "{label}: {average} at {step}0 ms"
                );
            }
        }
    }

    /// Asserts for so many hundredths of a second that the estimate is above the rate for 1.2 s at most.
    /// Returns for how many milliseconds it was.
    fn assert_never_long_above(&mut self, index: usize, rate: u64, steps: u64, label: &str) -> u64 {
        let (mut above, mut longest) = (0, 0);
        for step in 0..steps {
            self.run(10);
            let estimate = self.facts(index).estimate_bps.unwrap_or_default();
            above = if estimate > rate { above + 10 } else { 0 };
            longest = longest.max(above);
            assert!(above <= 1200, "{label}: {estimate} at {step}0 ms");
        }
        longest
    }

    /// Returns how long ago the newest picture that a viewer has was sent, at the viewer's.
    fn behind(&self, index: usize) -> Duration {
        let video = &self.viewer(index).video;
        let newest = video.arrivals.iter().map(|(_, packet)| packet.captured_ms);
        let newest = Duration::from_millis(newest.max().unwrap_or_default().into());
        (self.now - self.start).saturating_sub(newest)
    }

    fn assert_layer(&mut self, index: usize, layer: u8) {
        let layers = self.layers_within(index, 1000);
        let facts = self.facts(index);
        let mut tracks = facts.tracks.iter();
        let video = tracks.find(|track| track.kind == MediaKind::Video).unwrap();
        assert_eq!(
            video.target.map(|rung| rung.layer),
            Some(layer),
            "{facts:#?}"
        );
        let all: usize = layers.values().sum();
        let most = layers.get(&layer).copied().unwrap_or_default();
        assert!(all > 0 && most * 10 >= all * 9, "{layers:?}, {facts:#?}");
    }
}

#[test]
fn every_viewer_gets_the_layer_that_its_link_carries() {
    for (seed, codec) in [(1, Codec::Vp8), (2, Codec::H264)] {
        let mut world = World::live(seed, Publisher::ladder(1, codec), 1500);
        let slow = world.watch_behind(Conditions::of_rate(400_000));
        let middle = world.watch_behind(Conditions::of_rate(1_500_000));
        let free = world.watch_behind(Conditions::of_rate(0));
        world.run(4000);
        for (index, layer) in [(slow, 0), (middle, 1), (free, 2)] {
            world.assert_layer(index, layer);
        }
        world.run(20_000);
        for (index, layer) in [(slow, 0), (middle, 1), (free, 2)] {
            world.assert_layer(index, layer);
        }
        let stats = world.sfu.stats();
        assert_eq!((stats.viewers_limited, stats.viewers_paused), (2, 0));
        for index in [slow, middle] {
            world.set_rate(index, 0);
        }
        world.run(4500);
        for index in [slow, middle, free] {
            world.assert_layer(index, 2);
        }
    }
}

#[test]
fn a_viewer_on_a_good_link_sees_the_best_within_three_seconds() {
    for (seed, rate) in [(1, 0), (2, 10_000_000), (3, 5_000_000)] {
        let mut world = World::live(seed, Publisher::ladder(1, Codec::H264), 1500);
        let viewer = world.watch_behind(Conditions::of_rate(rate));
        world.run(3000);
        world.assert_layer(viewer, 2);
    }
}

#[test]
fn a_link_that_narrows_is_followed_and_its_queue_drains() {
    let mut world = World::new(5);
    world.publish(Publisher::ladder(1, Codec::Vp8));
    let viewer = world.watch_behind(Conditions::of_rate(6_000_000));
    world.run(5000);
    world.assert_layer(viewer, 2);
    world.set_rate(viewer, 800_000);
    world.run(5000);
    world.links.get_mut(&viewer).unwrap().longest_wait = Duration::ZERO;
    world.assert_layer(viewer, 1);
    let before = world.sfu.stats();
    assert!((1..9).contains(&before.layer_switches), "{before:?}");
    world.run(5000);
    assert_eq!(world.sfu.stats().layer_switches, before.layer_switches);
    let link = &world.links[&viewer];
    assert!(
        link.longest_wait < Duration::from_millis(200),
        "{:?}",
        link.longest_wait
    );
}

#[test]
fn audio_survives_where_no_picture_fits() {
    let mut world = World::live(6, Publisher::ladder(1, Codec::H264), 1000);
    let viewer = world.watch_behind(Conditions::of_rate(130_000));
    world.run(8000);
    let before = world.viewer(viewer).audio.packets().len();
    world.run(10_000);
    let heard = world.viewer(viewer).audio.packets().len() - before;
    assert!(heard >= 480, "{heard} of 500, {:#?}", world.facts(viewer));
}

#[test]
fn a_newcomers_burst_is_paced() {
    let mut world = World::live(7, Publisher::ladder(1, Codec::Vp8), 900);
    let viewer = world.watch_behind(Conditions::of_rate(20_000_000));
    world.run(1500);
    let link = &world.links[&viewer];
    // What arrives at once would wait for a quarter of a megabyte.
    assert!(
        link.longest_wait < Duration::from_millis(25),
        "{:?}",
        link.longest_wait
    );
    world.assert_layer(viewer, 2);
}

#[test]
fn random_loss_keeps_the_layer() {
    let mut world = World::new(8);
    world.publish(Publisher::ladder(1, Codec::H264));
    let mut conditions = Conditions::of_rate(8_000_000);
    conditions.loss = 50;
    conditions.jitter = Duration::from_millis(5);
    let viewer = world.watch_behind(conditions);
    world.run(5000);
    for _ in 0..10 {
        world.assert_layer(viewer, 2);
    }
}

#[test]
fn a_paused_picture_comes_back() {
    let mut world = World::live(9, Publisher::ladder(1, Codec::Vp8), 1000);
    let viewer = world.watch_behind(Conditions::of_rate(110_000));
    world.run(10_000);
    let target = |world: &World| {
        let facts = world.facts(viewer);
        let mut tracks = facts.tracks.into_iter();
        let video = tracks.find(|track| track.kind == MediaKind::Video).unwrap();
        video.target.map(|rung| rung.layer)
    };
    assert_eq!(target(&world), None, "{:#?}", world.facts(viewer));
    assert!(world.sfu.stats().gaps > 0, "a pause is a gap");
    world.set_rate(viewer, 8_000_000);
    world.run(5000);
    world.assert_layer(viewer, 2);
}

#[test]
fn viewers_without_retransmission_are_not_probed_and_climb_too() {
    let mut world = World::live(10, Publisher::ladder(1, Codec::Vp8), 1000);
    let viewer = world.watch(&without_rtx(&with_feedback()));
    let conditions = Conditions::of_rate(400_000);
    world.links.insert(viewer, Link::new(conditions, 3));
    world.run(6000);
    world.assert_layer(viewer, 0);
    assert_eq!(world.facts(viewer).padding_out, 0);
    world.set_rate(viewer, 0);
    world.run(60_000);
    world.assert_layer(viewer, 2);
}

#[test]
fn viewers_who_only_report_loss_are_judged_by_the_lasting_part_of_it() {
    for (seed, loss) in [(20, 50), (21, 50), (22, 80), (23, 200)] {
        let mut world = World::live(seed, Publisher::rung(1, Codec::H264, 1), 1000);
        let viewer = world.watch(BOTH);
        let mut conditions = Conditions::of_rate(0);
        conditions.loss = loss;
        world.links.insert(viewer, Link::new(conditions, seed));
        world.run(10_000);
        for _ in 0..10 {
            world.assert_layer(viewer, 0);
        }
    }
}

#[test]
fn viewers_who_only_report_loss_get_what_their_link_carries() {
    let mut world = World::live(24, Publisher::ladder(1, Codec::Vp8), 1500);
    let viewer = world.watch(BOTH);
    let link = Link::new(Conditions::of_rate(1_000_000), 24);
    world.links.insert(viewer, link);
    world.run(15_000);
    let mut below_top = 0;
    for _ in 0..20 {
        let layers = world.layers_within(viewer, 1000);
        below_top += u32::from(!layers.contains_key(&2));
    }
    assert!(below_top >= 15, "{below_top} of 20 seconds");
    world.set_rate(viewer, 0);
    world.run(30_000);
    world.assert_layer(viewer, 2);
}

#[test]
fn viewers_who_name_a_bitrate_climb_on_good_links_and_stay_below_slow_ones() {
    for (seed, codec, rate, layer) in [
        (30, Codec::Vp8, 0, 2),
        (31, Codec::H264, 400_000, 0),
        (32, Codec::Vp8, 1_500_000, 1),
    ] {
        let mut world = World::live(seed, Publisher::ladder(1, codec), 1500);
        let viewer = world.watch(BOTH);
        world.viewer_mut(viewer).remb = Some(Remb::new(300_000.0));
        let link = Link::new(Conditions::of_rate(rate), seed);
        world.links.insert(viewer, link);
        world.run(20_000);
        let mut as_it_should = 0;
        for _ in 0..20 {
            let layers = world.layers_within(viewer, 1000);
            let highest = layers.keys().next_back().copied();
            as_it_should += u32::from(highest == Some(layer));
        }
        assert!(as_it_should >= 12, "{rate}: {as_it_should} of 20 seconds");
        if layer != 1 {
            continue;
        }
        world.set_rate(viewer, 0);
        world.run(90_000);
        world.assert_layer(viewer, 2);
    }
}

#[test]
fn the_estimate_follows_a_changed_link_and_is_never_long_above_it() {
    let disturbances = [(0, 0), (10, 0), (15, 10)].map(|(jitter, loss)| Conditions {
        jitter: ms(jitter),
        loss,
        ..Conditions::of_rate(0)
    });
    for (seed, conditions) in (40..).step_by(3).zip(disturbances) {
        World::assert_estimate_follows(seed, conditions, 0);
    }
}

/// What is lost took its time on the link, too: no less is to be sent for it.
#[test]
fn the_estimate_follows_where_a_tenth_or_a_fifth_is_lost() {
    for (seed, loss) in (140..).step_by(3).zip([100, 200]) {
        let conditions = Conditions {
            jitter: ms(5),
            loss,
            ..Conditions::of_rate(0)
        };
        World::assert_estimate_follows(seed, conditions, 0);
    }
}

/// Some browsers report on video only: sound takes its part of the link all the same, and is not taken for lost.
#[test]
fn sound_that_is_not_reported_on_is_neither_lost_nor_forgotten() {
    let media = with_red();
    let (audio, video) = media.split_at(media.find("m=video").unwrap());
    let media = without_feedback(audio) + video;
    for (seed, rate, layer) in [(95, 400_000, 0), (96, 1_500_000, 1), (97, 0, 2)] {
        let mut world = World::live(seed, Publisher::ladder(1, Codec::Vp8), 1500);
        let viewer = world.watch(&media);
        world.viewer_mut(viewer).reports_video_only = true;
        let link = Link::new(Conditions::of_rate(rate), seed);
        world.links.insert(viewer, link);
        world.run(6000);
        for _ in 0..5 {
            world.assert_layer(viewer, layer);
        }
        let estimate = world.facts(viewer).estimate_bps.unwrap_or_default();
        let wanted = if rate == 0 { 2_300_000 } else { rate * 8 / 10 };
        assert!(estimate >= wanted, "{rate}: {estimate}");
        assert!(rate == 0 || estimate <= rate, "{rate}: {estimate}");
        let viewer = world.viewer(viewer);
        assert!(viewer.audio.packets().len() > 400);
        assert!(viewer.repeated_audio.is_empty(), "as if much were lost");
    }
}

/// Reports on sound alone, or on one of two pictures, say too little: the viewer is judged by what else it says.
#[test]
fn who_does_not_report_on_all_video_is_neither_tracked_nor_probed() {
    let both = with_feedback();
    let (audio, video) = both.split_at(both.find("m=video").unwrap());
    let second = video.replace("a=mid:1", "a=mid:2");
    for media in [
        audio.to_owned() + &without_feedback(video),
        audio.to_owned() + video + &without_feedback(&second),
        audio.to_owned() + &without_feedback(video) + &second,
    ] {
        let mut world = World::live(98, Publisher::ladder(1, Codec::Vp8), 1500);
        let viewer = world.watch(&media);
        let link = Link::new(Conditions::of_rate(0), 98);
        world.links.insert(viewer, link);
        world.run(6000);
        let facts = world.facts(viewer);
        assert_eq!((facts.probes, facts.padding_out), (0, 0), "{media}");
        world.assert_layer(viewer, 2);
    }
}

/// Returns m-lines without transport-wide feedback.
fn without_feedback(media: &str) -> String {
    let lines = media.split_inclusive("\r\n");
    lines.filter(|line| !line.contains("transport")).collect()
}

/// How many reports are lost, and how many packets are overtaken: per mille each.
const DISTURBED: [(u64, u64); 4] = [(100, 0), (0, 20), (100, 10), (300, 20)];

#[test]
fn every_viewer_gets_its_layer_with_lost_reports_and_in_disorder() {
    for (reports_lost, reordered) in DISTURBED {
        for (seed, codec) in [(1, Codec::Vp8), (2, Codec::H264)] {
            let mut world = World::live(seed, Publisher::ladder(1, codec), 1500);
            world.reports_lost = reports_lost;
            let viewers = [(400_000, 0), (1_500_000, 1), (0, 2)].map(|(rate, layer)| {
                let mut conditions = Conditions::of_rate(rate);
                conditions.reordered = reordered;
                (world.watch_behind(conditions), layer)
            });
            world.run(6000);
            for _ in 0..5 {
                for (index, layer) in viewers {
                    world.assert_layer(index, layer);
                }
            }
        }
    }
}

#[test]
fn the_estimate_follows_with_lost_reports_and_in_disorder() {
    let disturbances = [(50, 0, 0), (0, 20, 0), (50, 10, 20)];
    for (seed, (reports_lost, reordered, duplicated)) in (90..).step_by(3).zip(disturbances) {
        let conditions = Conditions {
            reordered,
            duplicated,
            ..Conditions::of_rate(0)
        };
        World::assert_estimate_follows(seed, conditions, reports_lost);
    }
}

#[test]
fn a_link_that_dies_for_a_while_is_used_again() {
    let mut world = World::live(11, Publisher::ladder(1, Codec::Vp8), 1000);
    let viewer = world.watch_behind(Conditions::of_rate(6_000_000));
    world.run(4000);
    world.assert_layer(viewer, 2);
    world.links.get_mut(&viewer).unwrap().conditions.loss = 1000;
    world.run(4000);
    let facts = world.facts(viewer);
    assert!(facts.estimate_bps.unwrap() < 2_000_000, "{facts:#?}");
    world.links.get_mut(&viewer).unwrap().conditions.loss = 0;
    world.run(5000);
    world.assert_layer(viewer, 2);
}

#[test]
fn a_stage_is_shown_whole_before_anybody_is_shown_well() {
    let mut world = World::new(12);
    for id in 1..=3 {
        world.publish_as(id.into(), Publisher::ladder(id, Codec::Vp8));
    }
    world.run(1500);
    let viewer = world.watch(&offering_feedback(&stage(3, 3)));
    let link = Link::new(Conditions::of_rate(1_000_000), 5);
    world.links.insert(viewer, link);
    let targets = |world: &World| -> Vec<_> {
        let facts = world.facts(viewer);
        let tracks = facts.tracks.iter();
        let videos = tracks.filter(|track| track.kind == MediaKind::Video);
        let mut layers: Vec<_> = videos.map(|v| v.target.map(|rung| rung.layer)).collect();
        layers.sort();
        layers
    };
    world.run(8000);
    assert_eq!(targets(&world), [Some(0); 3], "{:#?}", world.facts(viewer));
    world.set_rate(viewer, 12_000_000);
    world.run(5000);
    assert_eq!(targets(&world), [Some(2); 3], "{:#?}", world.facts(viewer));
}

#[test]
fn a_viewer_may_want_less_than_the_link_carries() {
    let mut world = World::live(13, Publisher::ladder(1, Codec::H264), 1000);
    let viewer = world.watch_behind(Conditions::of_rate(0));
    world.run(3000);
    world.assert_layer(viewer, 2);
    let peer = world.members[viewer].peer;
    let now = world.now;
    world.sfu.limit(peer, Some(1), now);
    world.run(1000);
    world.assert_layer(viewer, 1);
    let now = world.now;
    world.sfu.limit(peer, None, now);
    world.run(1000);
    world.assert_layer(viewer, 2);
}

#[test]
fn the_only_picture_is_not_paused_for_jitter() {
    for (seed, jitter) in [(14, 60), (15, 120), (16, 250)] {
        let mut world = World::live(seed, Publisher::rung(1, Codec::H264, 1), 1000);
        let mut conditions = Conditions::of_rate(20_000_000);
        conditions.jitter = Duration::from_millis(jitter);
        let viewer = world.watch_behind(conditions);
        world.run(2000);
        for _ in 0..20 {
            world.assert_layer(viewer, 0);
        }
    }
}

#[test]
fn a_quiet_moment_is_no_reason_to_climb() {
    let mut world = World::new(17);
    let publisher = world.publish(Publisher::ladder(1, Codec::Vp8));
    world.run(1500);
    let viewer = world.watch_behind(Conditions::of_rate(1_500_000));
    world.run(4000);
    for _ in 0..4 {
        // The picture moves less for two seconds.
        world.publisher(publisher).layers[2].packets_per_frame = 3;
        world.run(1000);
        world.assert_layer(viewer, 1);
        world.publisher(publisher).layers[2].packets_per_frame = 8;
        for _ in 0..3 {
            world.assert_layer(viewer, 1);
        }
    }
}

#[test]
fn who_loses_packets_from_the_first_one_on_sees_the_best_too() {
    for seed in 100..130 {
        let mut world = World::live(seed, Publisher::ladder(1, Codec::Vp8), 1500);
        let mut conditions = Conditions::of_rate(3_500_000);
        conditions.loss = 10;
        conditions.jitter = Duration::from_millis(15);
        let viewer = world.watch_behind(conditions);
        world.run(8000);
        world.assert_layer(viewer, 2);
    }
}

/// Its handshake was held up, by its processor or by ours: that says nothing about the link.
#[test]
fn who_is_held_up_in_the_handshake_alone_is_not_left_behind() {
    let reports = with_feedback();
    let without_rtx = without_rtx(&reports);
    for (media, within) in [(&*reports, 1600), (&*without_rtx, 2000), (BOTH, 3000)] {
        for (seed, age) in [(80, 300), (81, 900), (82, 1500), (83, 1900)] {
            for rate in [100_000, 300_000, 500_000] {
                let mut world = World::live(seed, Publisher::rung(1, Codec::H264, 2), age);
                let viewer = world.watch(media);
                let link = Link::new(Conditions::of_rate(rate), seed);
                world.links.insert(viewer, link);
                while !world.is_connected(viewer) {
                    world.run(1);
                }
                world.set_rate(viewer, 0);
                world.run(within);
                for _ in 0..30 {
                    world.run(100);
                    let behind = world.behind(viewer);
                    assert!(
                        behind < ms(50),
                        "{age} ms, {rate} bit/s: {behind:?} behind, {:#?}",
                        world.facts(viewer)
                    );
                }
                // It may have been taken to the next keyframe.
                assert!(world.sfu.stats().gaps <= 1, "{age} ms, {rate} bit/s");
            }
        }
    }
}

/// Returns an offer of viewers that cannot be probed.
fn without_rtx(media: &str) -> String {
    let lines = media.split_inclusive("\r\n");
    let media: String = lines
        .filter(|line| !line.contains("rtx") && !line.contains("apt="))
        .collect();
    media.replace("120 121 126 127", "120 126")
}

/// Less is sent than the link carries before and after it falls: no queue tells of it.
#[test]
fn a_fall_that_makes_no_queue_is_noticed_soon() {
    let mut worst = 0;
    for (from, to) in [
        (2_000_000, 700_000),
        (1_000_000, 700_000),
        (2_500_000, 1_800_000),
    ] {
        for (seed, jitter, loss) in [(60, 0, 0), (61, 10, 0), (62, 15, 10), (63, 5, 50)] {
            let mut world = World::live(seed, Publisher::ladder(1, Codec::Vp8), 1500);
            let mut conditions = Conditions::of_rate(from);
            conditions.jitter = Duration::from_millis(jitter);
            conditions.loss = loss;
            let viewer = world.watch_behind(conditions);
            let until = 6000 + world.next_random() % 1000;
            world.run(until);
            world.set_rate(viewer, to);
            let label = format!("{from} to {to}, jitter {jitter}, loss {loss}");
            worst = worst.max(world.assert_never_long_above(viewer, to, 400, &label));
        }
    }
    println!("above the link for {worst} ms at most");
}

#[test]
fn who_sees_the_best_is_not_probed() {
    let mut world = World::live(70, Publisher::ladder(1, Codec::Vp8), 1500);
    let viewer = world.watch_behind(Conditions::of_rate(6_000_000));
    world.run(5000);
    world.assert_layer(viewer, 2);
    let before = world.facts(viewer).padding_out;
    world.run(10_000);
    assert_eq!(world.facts(viewer).padding_out, before);
}

/// What shows again and again that the link is as it was takes little of it.
#[test]
fn probes_take_a_tenth_of_a_narrow_link_at_most() {
    for (seed, rate) in [(71, 400_000), (72, 1_500_000)] {
        let mut world = World::live(seed, Publisher::ladder(1, Codec::Vp8), 1500);
        let viewer = world.watch_behind(Conditions::of_rate(rate));
        world.run(5000);
        let padding = |world: &World| {
            let viewer = world.viewer(viewer);
            viewer.padding_bytes as u64 + u64::from(viewer.paddings) * HEADERS
        };
        let before = padding(&world);
        world.run(20_000);
        let bitrate = (padding(&world) - before) * 8 / 20;
        println!("{bitrate} of {rate} bit/s");
        assert!(bitrate * 10 <= rate, "{bitrate} of {rate}");
    }
}

/// What the layers below RTP add to a packet: IPv4, UDP, and the tag of AES-GCM.
const HEADERS: u64 = 44;
