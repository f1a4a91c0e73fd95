//! What forwarding allocates once everything has its size.

use crate::world::{
    World,
    publisher::Publisher,
    viewer::{BOTH, with_feedback},
};
use sfu_core::Codec;

#[test]
fn forwarding_allocates_nothing() {
    for (label, codec, is_simulcast) in [
        ("one layer", Codec::H264, false),
        ("simulcast", Codec::Vp8, true),
    ] {
        let mut world = World::remembering(64, 1);
        world.publish(match is_simulcast {
            true => Publisher::ladder(1, codec),
            false => Publisher::new(1, codec),
        });
        let reports = with_feedback();
        for n in 0..VIEWERS {
            world.watch(if n % 2 == 0 { &reports } else { BOTH });
        }
        world.run(4000);
        let (before, sent) = (world.costs, world.sfu.stats().packets_out);
        world.run(TIME);
        let (after, sent) = (world.costs, world.sfu.stats().packets_out - sent);
        let packets = after.packets - before.packets;
        println!(
            "{label}: {packets} packets in, {} allocations; {} flushes, {sent} packets out, {} allocations",
            after.taking - before.taking,
            after.flushes - before.flushes,
            after.flushing - before.flushing,
        );
        assert!(
            packets > 200 && sent > VIEWERS * packets / 2,
            "{label}: {sent}"
        );
        assert!(
            after.taking - before.taking <= packets / 100,
            "{label}: taking"
        );
        let most = VIEWERS * (TIME / ALLOTS_EVERY + 1) * ALLOTMENT;
        assert!(
            after.flushing - before.flushing <= most,
            "{label}: flushing"
        );
    }
}

const VIEWERS: u64 = 40;

/// Milliseconds.
const TIME: u64 = 2000;

/// Milliseconds after which the qualities of a viewer are chosen again, in a flush, and what that allocates however
/// many packets there are.
const ALLOTS_EVERY: u64 = 300;
const ALLOTMENT: u64 = 6;
