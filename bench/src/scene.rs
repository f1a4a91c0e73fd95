//! One server with its audience, and what a span of time showed of them.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use crate::{
    audience::{Audience, Place, Tokens},
    crowd::Crowd,
    media::{Clip, Pacing},
    pulse::Pulse,
    report::{cpu_per_packet, lost},
    server::{self, Server, Setup},
    tally::Tally,
};

/// A server of our own, and everybody at it.
pub(crate) struct Scene {
    /// The audience; ends before the server does.
    pub(crate) audience: Audience,
    /// The server.
    pub(crate) server: Server,
}

/// What a span of time showed.
pub(crate) struct Span {
    /// What the viewers counted.
    pub(crate) tally: Tally,
    /// CPU time of the server.
    pub(crate) cpu: Duration,
    /// How long it was.
    pub(crate) time: Duration,
}

/// The server against a floor, over some rounds.
#[derive(Default)]
pub(crate) struct Comparison {
    /// The server's rounds.
    pub(crate) server: Vec<Span>,
    /// CPU time and packets of the floor's.
    pub(crate) floor: (Duration, u64),
}

impl Scene {
    /// Starts a server with a publisher that sends nothing yet, and with these bare sockets for the floor.
    ///
    /// # Errors
    /// When the server does not start, or refuses the publisher.
    pub(crate) async fn start(setup: &Setup, sinks: usize) -> anyhow::Result<Self> {
        Self::start_rooms(setup, 1, sinks).await
    }

    /// Like [`Scene::start`], with this many rooms, each with a publisher of its own. Viewers are spread over them.
    ///
    /// # Errors
    /// When the server does not start, or refuses a publisher.
    pub(crate) async fn start_rooms(
        setup: &Setup,
        rooms: usize,
        sinks: usize,
    ) -> anyhow::Result<Self> {
        let server = Server::start(setup)?;
        let rooms: Vec<String> = (0..rooms).map(|n| format!("{ROOM}-{n}")).collect();
        for room in &rooms {
            // Makes the room.
            server.token(room, "bench")?;
        }
        let tokens = Tokens {
            publisher: Some(server.token("*", "bench")?),
            viewer: None,
        };
        let urls = |protocol| -> anyhow::Result<Vec<_>> {
            rooms
                .iter()
                .map(|room| server.url(protocol, room))
                .collect()
        };
        let place = Place {
            whip: urls("whip")?,
            whep: urls("whep")?,
            transport_cc: true,
            channel: true,
        };
        // The server's, and those of the publishers: what these could not send in time comes all at once.
        let processors = [&*setup.processors, &server::processors()?].concat();
        let pulses = Pulse::start_all(&processors);
        let crowd = Crowd::start(1, sinks, pulses)?;
        let mut audience = Audience::new(place, tokens, crowd)?;
        for _ in &rooms {
            audience.publish().await?;
        }
        Ok(Self { audience, server })
    }

    /// Publishes a clip from its start, each publisher a little later than the one before: cameras do not take
    /// their pictures at the same time.
    pub(crate) async fn play_apart(&self, clip: &Arc<Clip>, pacing: Pacing) {
        let publishers = &self.audience.publishers;
        let apart = Clip::FRAME / u32::try_from(publishers.len().max(1)).unwrap_or(u32::MAX);
        for publisher in publishers {
            publisher.play(Some((Arc::clone(clip), pacing)));
            sleep(apart).await;
        }
    }

    /// Publishes a clip from its start.
    pub(crate) fn play(&self, clip: &Arc<Clip>, pacing: Pacing) {
        for publisher in &self.audience.publishers {
            publisher.play(Some((Arc::clone(clip), pacing)));
        }
    }

    /// Publishes nothing.
    pub(crate) fn pause(&self) {
        for publisher in &self.audience.publishers {
            publisher.play(None);
        }
    }

    /// Watches for so long.
    ///
    /// # Errors
    /// When the server has ended.
    pub(crate) async fn measure(&self, time: Duration) -> anyhow::Result<Span> {
        let before = self.server.usage()?;
        self.audience.crowd.take_tally();
        let start = Instant::now();
        sleep(time).await;
        let tally = self.audience.crowd.take_tally();
        let after = self.server.usage()?;
        Ok(Span {
            tally,
            cpu: after.cpu_since(before),
            time: start.elapsed(),
        })
    }
}

impl Span {
    /// Returns the CPU time per forwarded packet in microseconds.
    pub(crate) fn per_packet(&self) -> f64 {
        cpu_per_packet(self.cpu, self.tally.packets).unwrap_or(f64::NAN)
    }

    /// Returns the share of a core.
    pub(crate) fn share(&self) -> f64 {
        self.cpu.as_secs_f64() / self.time.as_secs_f64()
    }
}

impl Comparison {
    /// Returns what the server's viewers counted.
    pub(crate) fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        self.server.iter().for_each(|span| tally.merge(&span.tally));
        tally
    }

    /// Returns the server's CPU time per packet in microseconds.
    pub(crate) fn server_cost(&self) -> f64 {
        let cpu = self.server.iter().map(|span| span.cpu).sum();
        cpu_per_packet(cpu, self.tally().packets).unwrap_or(f64::NAN)
    }

    /// Returns the floor's CPU time per packet in microseconds.
    pub(crate) fn floor_cost(&self) -> f64 {
        cpu_per_packet(self.floor.0, self.floor.1).unwrap_or(f64::NAN)
    }

    /// Writes how much of what the server sent was lost.
    pub(crate) fn lost(&self) -> String {
        lost(&self.tally())
    }
}

const ROOM: &str = "bench";
