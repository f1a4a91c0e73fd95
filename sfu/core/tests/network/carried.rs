//! What packets say besides their media reaches every viewer, over a virtual network.

use crate::world::{
    Network, World,
    publisher::Publisher,
    viewer::{BOTH, with_feedback},
};
use sfu_core::Codec;

/// Other numbers than the publisher's.
const CAPTURE_ID: u8 = 12;
const DELAY_ID: u8 = 13;

#[test]
fn capture_times_and_playout_delays_are_forwarded_with_every_packet() {
    let [(capture_id, capture_uri), (delay_id, delay_uri)] = Publisher::CARRIED;
    // The long form says the offset of the clock, too.
    for capture in [vec![1, 2, 3, 4, 5, 6, 7, 8], (1..17).collect()] {
        let delay = vec![0x00, 0x50, 0xc8];
        let mut publisher = Publisher::new(1, Codec::H264);
        publisher.has_audio = false;
        publisher.layers[0].carried =
            vec![(capture_id, capture.clone()), (delay_id, delay.clone())];
        let mut world = World::live(3, publisher, 900);
        world.network = Network {
            loss: 5,
            ..Network::default()
        };
        let asks = [(CAPTURE_ID, capture_uri), (DELAY_ID, delay_uri)];
        let asks = asks.map(|(id, uri)| format!("a=extmap:{id} {uri}\r\n"));
        let viewer = world.watch(&(with_feedback() + &asks.concat()));
        let other = world.watch(BOTH);
        world.joins_elsewhere = true;
        let elsewhere = world.watch(&(with_feedback() + &asks.concat()));
        world.run(4000);
        for viewer in [viewer, elsewhere] {
            let got = world.viewer(viewer);
            assert!(got.retransmissions > 5, "{}", got.retransmissions);
            let packets = got.video.packets().len();
            assert!(packets > 300, "{packets}");
            for said in [(CAPTURE_ID, capture.clone()), (DELAY_ID, delay.clone())] {
                let count = got.carried.get(&said).copied().unwrap_or_default();
                // What is sent again may come twice.
                assert!(count as usize >= packets, "{said:?}: {count} of {packets}");
            }
            assert_eq!(got.carried.len(), 2, "{:?}", got.carried);
        }
        let other = world.viewer(other);
        assert!(other.carried.is_empty(), "it did not ask");
        assert!(other.video.packets().len() > 300);
    }
}
