//! Tells members what has changed in their rooms: what matters at once, counts a few times a second.

use std::time::Duration;

use sfu::{PeerId, RoomId};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use crate::{Service, protocol::EVENTS_CHANNEL, room::Change};

/// Works until the queue of newcomers ends.
pub(crate) async fn run(service: &Service, mut newcomers: mpsc::Receiver<(PeerId, RoomId)>) {
    let mut counts_at: Option<Instant> = None;
    let mut sweep = interval(SWEEP_EVERY);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stages = interval(STAGES_EVERY);
    stages.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let counts = async {
            match counts_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = service.changed().notified() => {
                service.notice_performances();
                announce(service, Change::Now).await;
                let waiting = service.directory().change() != Change::None;
                counts_at = waiting.then(|| counts_at.unwrap_or_else(|| Instant::now() + COUNTS_EVERY));
            }
            () = counts => {
                counts_at = None;
                announce(service, Change::Soon).await;
            }
            newcomer = newcomers.recv() => match newcomer {
                Some((peer, room)) => greet(service, peer, room).await,
                None => return,
            },
            _ = sweep.tick() => service.directory().sweep(std::time::Instant::now()),
            _ = stages.tick() => {
                let guests = service.directory().abandoned_guests(std::time::Instant::now());
                service.close_peers(guests).await;
            }
        }
    }
}

async fn announce(service: &Service, at_least: Change) {
    let told = service.directory().announce(at_least);
    for (room, event) in told {
        service.sfu().broadcast(room, EVENTS_CHANNEL, event).await;
    }
}

async fn greet(service: &Service, peer: PeerId, room: RoomId) {
    let greeting = service.directory().greeting(room);
    for event in greeting {
        service.sfu().send(peer, EVENTS_CHANNEL, event).await;
    }
}

const COUNTS_EVERY: Duration = Duration::from_millis(250);
/// How soon guests are sent away once their host's grace is over.
const STAGES_EVERY: Duration = Duration::from_secs(1);
const SWEEP_EVERY: Duration = Duration::from_secs(30);
