//! The figures of the forwarding plane, each with its goal: a run against the `fanlight` program, and against
//! the floor of the same run.

mod capacity;

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use tokio::time::{Instant, sleep};

use crate::{
    child::{Process, Request},
    flood::Flood,
    load::default_server,
    media::{Clip, Encoding, Pacing, Schedule, encode},
    ramp,
    report::{Table, lost, p50_p99, within},
    scene::{Comparison, Scene, Span},
    server::{self, Server, Setup},
    usage::Usage,
};

/// Measures Fanlight's forwarding plane against the floor of the same run.
#[derive(Clone, Debug, Args)]
pub(crate) struct SuiteArgs {
    /// The server to measure [default: `fanlight` next to this program].
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,
    /// Viewers where the number is not what is measured.
    #[arg(long, default_value_t = 200)]
    viewers: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Measures these parts only.
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    only: Vec<Part>,
}

/// A part of the figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Connections a second, and memory of idle viewers.
    Connecting,
    /// Joins to a stream that runs.
    Joining,
    /// CPU per packet at once.
    AtOnce,
    /// CPU per packet holding, paced and in bursts.
    Holding,
    /// Delays under garbage.
    Garbage,
    /// Viewers per core in one room.
    Room,
    /// Viewers per core in many rooms.
    Rooms,
    /// Two shards against one.
    Shards,
}

impl SuiteArgs {
    fn measures(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}

/// What all measurements share.
struct Bench {
    program: PathBuf,
    /// The server's processor, when there is another one for everything else.
    processors: Vec<usize>,
    all_processors: Vec<usize>,
    viewers: usize,
    time: Duration,
    /// The media settings that the server has, of those that matter here.
    settings: Vec<&'static str>,
    high: Arc<Clip>,
    low: Arc<Clip>,
    synthetic: Arc<Clip>,
    table: Table,
}

/// Runs all measurements and prints the table.
///
/// # Errors
/// When the server or a connection fails.
pub(crate) async fn run_all(args: &SuiteArgs) -> anyhow::Result<()> {
    let mut bench = Bench::new(args)?;
    let mut outcomes = Vec::new();
    for part in Part::value_variants().iter().copied() {
        if args.measures(part) {
            outcomes.push(bench.part(part).await);
        }
    }
    bench.table.print()?;
    // What could be measured is shown, whatever else failed.
    outcomes.into_iter().collect()
}

/// Measures the cost of forwarding, of setting up connections, and of those that rest.
///
/// # Errors
/// When the server or a connection fails.
pub(crate) async fn run_floor(args: &SuiteArgs) -> anyhow::Result<()> {
    let mut bench = Bench::new(args)?;
    for part in [Part::Connecting, Part::AtOnce, Part::Holding] {
        bench.part(part).await?;
    }
    bench.table.print()?;
    Ok(())
}

impl Bench {
    fn new(args: &SuiteArgs) -> anyhow::Result<Self> {
        let clip = |bitrate| {
            encode(Encoding {
                bitrate,
                seconds: 10,
            })
            .map(Arc::new)
        };
        let (high, low) = (clip(2_500_000)?, clip(1_400_000 - AUDIO_BITRATE)?);
        let all = server::processors()?;
        let processors = match all.split_first() {
            Some((first, others)) if !others.is_empty() => {
                server::pin(others)?;
                vec![*first]
            }
            _ => vec![],
        };
        let program = args.server.clone().map_or_else(default_server, Ok)?;
        let settings = ["shards", "hold_ms", "hold_from_percent"];
        let is_known =
            |name: &&str| Server::understands(&program, &format!("[media]\n{name} = 1\n"));
        Ok(Self {
            settings: settings.into_iter().filter(is_known).collect(),
            program,
            processors,
            all_processors: all,
            viewers: args.viewers,
            time: Duration::from_secs(args.seconds),
            high,
            low,
            synthetic: Arc::new(Clip::synthetic()),
            table: Table::default(),
        })
    }

    async fn part(&mut self, part: Part) -> anyhow::Result<()> {
        match part {
            Part::Connecting => self.connecting().await,
            Part::Joining => self.joining().await,
            Part::AtOnce => self.at_once().await,
            Part::Holding => self.holding().await,
            Part::Garbage => self.flooded().await,
            Part::Room => self.capacity(1).await,
            Part::Rooms => self.capacity(ROOMS).await,
            Part::Shards => self.shards().await,
        }
    }

    /// Starts a server of one shard with a publisher that sends nothing yet, and these media settings where the
    /// server has them.
    async fn scene(&self, settings: &[(&str, u32)], sinks: usize) -> anyhow::Result<Scene> {
        let all = [&[("shards", 1)], settings].concat();
        self.scene_on(&self.processors, &all, sinks).await
    }

    /// Starts a server of one shard with publishers in as many rooms.
    async fn rooms(&self, rooms: usize) -> anyhow::Result<Scene> {
        let setup = self.setup(&self.processors, &[("shards", 1)]);
        Scene::start_rooms(&setup, rooms, FLOOR_SINKS).await
    }

    async fn scene_on(
        &self,
        processors: &[usize],
        settings: &[(&str, u32)],
        sinks: usize,
    ) -> anyhow::Result<Scene> {
        Scene::start(&self.setup(processors, settings), sinks).await
    }

    fn setup(&self, processors: &[usize], settings: &[(&str, u32)]) -> Setup {
        let mut config = String::from("[media]\n");
        for (name, value) in settings
            .iter()
            .filter(|(name, _)| self.settings.contains(name))
        {
            config += &format!("{name} = {value}\n");
        }
        Setup {
            program: self.program.clone(),
            config,
            processors: processors.to_vec(),
        }
    }

    /// Connections a second, and memory.
    async fn connecting(&mut self) -> anyhow::Result<()> {
        let viewers = MANY;
        let mut scene = self.scene(&[], 0).await?;
        // The history of the room is filled before memory is compared.
        scene.play(&self.high, Pacing::Browser);
        sleep(Duration::from_secs(4)).await;
        scene.pause();
        sleep(Duration::from_millis(300)).await;
        let alone = scene.server.usage()?;
        let start = Instant::now();
        ramp::join_all(&mut scene.audience, viewers, u32::MAX).await?;
        let elapsed = start.elapsed();
        sleep(Duration::from_millis(500)).await;
        let idle = scene.server.usage()?;
        self.tell_connections(alone, idle, viewers, elapsed);
        Ok(())
    }

    /// Joins to a stream that runs.
    async fn joining(&mut self) -> anyhow::Result<()> {
        let mut scene = self.scene(&[], 0).await?;
        scene.play(&self.high, Pacing::Browser);
        // Anywhere within the run of frames since the keyframe.
        sleep(Duration::from_millis(3700)).await;
        let requests = scene.audience.keyframe_requests();
        ramp::join_all(&mut scene.audience, 200, 200).await?;
        sleep(Duration::from_secs(2)).await;
        let requests = scene.audience.keyframe_requests() - requests;
        let tally = scene.audience.crowd.take_tally();
        let keyframe = &tally.to_keyframe;
        let count = keyframe.len();
        self.table.note(
            "200 joins in a second: POST to connected",
            p50_p99(&tally.to_connected),
        );
        self.table.goal(
            "200 joins in a second: POST to first keyframe complete",
            format!("{} ({count} of 200)", p50_p99(keyframe)),
            "p50 40, p99 250 ms",
            count == 200 && within(keyframe, 50, 40.0) && within(keyframe, 99, 250.0),
        );
        let goal = "0 to 1";
        self.table.goal(
            "keyframe requests to the publisher meanwhile",
            requests.to_string(),
            goal,
            requests <= 1,
        );
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "memory of a small process")]
    fn tell_connections(&mut self, alone: Usage, idle: Usage, viewers: usize, elapsed: Duration) {
        let each = idle.cpu_since(alone).as_secs_f64() / viewers as f64;
        let value = format!("{:.0} ({:.2} ms of CPU each)", 1.0 / each, each * 1e3);
        self.table.goal(
            "connections a second and core, with data channel",
            value,
            "1200",
            each <= 1.0 / 1200.0,
        );
        self.table.note(
            &format!("{viewers} offers at once: all connected within"),
            format!("{:.2} s", elapsed.as_secs_f64()),
        );
        let grown = kilobytes(alone, idle, viewers);
        self.table.goal(
            &format!("memory per viewer with data channel, idle ({viewers} viewers)"),
            format!("{grown:.0} KB"),
            "35 KB",
            grown <= 35.0,
        );
    }

    /// CPU per forwarded packet against the floor of the same run, while nothing waits.
    async fn at_once(&mut self) -> anyhow::Result<()> {
        let mut floor = Process::start(&self.processors)?;
        let high = Arc::clone(&self.high);
        let scene = self.watched(&[("hold_ms", 0)]).await?;
        let paced = (&high, Pacing::Browser);
        let comparison = self.compare(&mut floor, &scene, paced, false).await?;
        self.tell_paced("paced, at once", &comparison, "1.10x", 1.1);
        Ok(())
    }

    /// CPU per forwarded packet against the floors of the same run, while beginnings of frames wait.
    async fn holding(&mut self) -> anyhow::Result<()> {
        let mut floor = Process::start(&self.processors)?;
        let (high, synthetic) = (Arc::clone(&self.high), Arc::clone(&self.synthetic));
        let paced = (&high, Pacing::Browser);
        let scene = self
            .watched(&[("hold_ms", 4), ("hold_from_percent", 0)])
            .await?;
        if self.settings.contains(&"hold_ms") {
            let comparison = self.compare(&mut floor, &scene, paced, false).await?;
            self.tell_paced("paced, holding", &comparison, "0.65x", 0.65);
        } else {
            let reason = "skipped: this server has no setting `media.hold_ms`".to_owned();
            self.table
                .note("CPU per packet, 2.5 Mb/s paced, holding", reason);
        }
        let comparison = self
            .compare(&mut floor, &scene, (&synthetic, Pacing::Bursts), true)
            .await?;
        let (cost, floor) = (comparison.server_cost(), comparison.floor_cost());
        let ratio = cost / floor;
        self.table.note(
            "  floor of bursts: AES-128-GCM + GSO",
            format!("{floor:.2} us"),
        );
        self.table.goal(
            &format!(
                "CPU per packet, 300/s in bursts of a frame, {} viewers",
                self.viewers
            ),
            format!("{cost:.2} us = {ratio:.2}x{}", comparison.lost()),
            "1.40x",
            ratio <= 1.4,
        );
        Ok(())
    }

    /// Starts a server whose viewers have their first keyframe, and pauses its publisher.
    async fn watched(&self, settings: &[(&str, u32)]) -> anyhow::Result<Scene> {
        let mut scene = self.scene(settings, self.viewers).await?;
        scene.play(&self.high, Pacing::Browser);
        sleep(Duration::from_secs(1)).await;
        ramp::join_all(&mut scene.audience, self.viewers, 400).await?;
        sleep(Duration::from_millis(500)).await;
        scene.pause();
        Ok(scene)
    }

    async fn compare(
        &self,
        floor: &mut Process,
        scene: &Scene,
        (clip, pacing): (&Arc<Clip>, Pacing),
        offload: bool,
    ) -> anyhow::Result<Comparison> {
        let mut comparison = Comparison::default();
        for _ in 0..ROUNDS {
            let (cpu, packets) = self.floor(floor, scene, (clip, pacing), offload)?;
            comparison.floor.0 += cpu;
            comparison.floor.1 += packets;
            comparison
                .server
                .push(self.forward(scene, clip, pacing).await?);
        }
        Ok(comparison)
    }

    fn tell_paced(&mut self, name: &str, comparison: &Comparison, goal: &'static str, most: f64) {
        let (cost, floor) = (comparison.server_cost(), comparison.floor_cost());
        let ratio = cost / floor;
        let tally = comparison.tally();
        self.table.note(
            "  floor of the paced stream: AES-128-GCM + sendmmsg",
            format!("{floor:.2} us"),
        );
        self.table.goal(
            &format!("CPU per packet, 2.5 Mb/s {name}, {} viewers", self.viewers),
            format!("{cost:.2} us = {ratio:.2}x{}", comparison.lost()),
            goal,
            ratio <= most,
        );
        self.table.note(
            "  delay meanwhile: whole frames",
            p50_p99(&tally.frame_delay),
        );
        self.table.note(
            "  delay meanwhile: first packets of frames",
            p50_p99(&tally.packet_delay),
        );
    }

    /// Delays while somebody throws garbage at the media port.
    async fn flooded(&mut self) -> anyhow::Result<()> {
        let scene = self.watched(&[]).await?;
        let target = scene
            .audience
            .media
            .context("the server's media port is not known")?;
        scene.play(&self.high, Pacing::Browser);
        sleep(WARM_UP).await;
        // The generator and the viewers share a processor: what that alone does to delays.
        let bare = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("open a socket")?;
        let (_, elsewhere) = self.under_garbage(&scene, bare.local_addr()?).await?;
        self.table.note(
            "  delay of whole frames with the garbage at another socket",
            p50_p99(&elsewhere.tally.frame_delay),
        );
        let (rate, span) = self.under_garbage(&scene, target).await?;
        let delay = &span.tally.frame_delay;
        self.table.goal(
            &format!("delay of whole frames under {rate},000 garbage datagrams a second"),
            format!(
                "{}{}, {:.0} % of a core",
                p50_p99(delay),
                lost(&span.tally),
                span.share() * 100.0
            ),
            "p99 5 ms",
            within(delay, 99, 5.0),
        );
        Ok(())
    }

    /// Measures while garbage is sent; returns how many thousand datagrams a second that were, too.
    async fn under_garbage(
        &self,
        scene: &Scene,
        target: SocketAddr,
    ) -> anyhow::Result<(u64, Span)> {
        let flood = Flood::start(target, GARBAGE)?;
        sleep(Duration::from_millis(300)).await;
        let (sent, start) = (flood.sent(), Instant::now());
        let span = scene.measure(self.time).await?;
        let sent = flood.sent().saturating_sub(sent);
        Ok((
            sent / u64::try_from(start.elapsed().as_millis())?.max(1),
            span,
        ))
    }

    /// Packets a second with two shards against one, with more viewers than one can serve.
    #[expect(clippy::cast_precision_loss, reason = "counts of a run")]
    async fn shards(&mut self) -> anyhow::Result<()> {
        let name = "packets a second, 2 shards to 1";
        if !self.settings.contains(&"shards") {
            self.table.note(
                name,
                "skipped: this server has no setting `media.shards`".to_owned(),
            );
            return Ok(());
        }
        let mut spans = Vec::new();
        for shards in [1, 2] {
            // Everything shares the processors: who sends also does the receivers' work on loopback.
            let all = self.all_processors.clone();
            let mut scene = self.scene_on(&all, &[("shards", shards)], 0).await?;
            scene.play(&self.high, Pacing::Browser);
            ramp::join_all(&mut scene.audience, OVERLOAD, 500).await?;
            sleep(Duration::from_secs(2)).await;
            spans.push(scene.measure(self.time).await?);
        }
        if let [one, two] = spans.as_slice() {
            let rate = |span: &Span| span.tally.packets as f64 / span.time.as_secs_f64();
            let ratio = rate(two) / rate(one);
            for (shards, span) in [(1, one), (2, two)] {
                let value = format!(
                    "{:.0} packets/s, {:.2} cores, {:.2} us{}",
                    rate(span),
                    span.share(),
                    span.per_packet(),
                    lost(&span.tally)
                );
                self.table.note(
                    &format!("  {OVERLOAD} viewers at 2.5 Mb/s, shards: {shards}"),
                    value,
                );
            }
            self.table
                .goal(name, format!("{ratio:.2}x"), "1.8x", ratio >= 1.8);
        }
        Ok(())
    }

    async fn forward(
        &self,
        scene: &Scene,
        clip: &Arc<Clip>,
        pacing: Pacing,
    ) -> anyhow::Result<Span> {
        scene.play(clip, pacing);
        sleep(WARM_UP).await;
        let span = scene.measure(self.time).await?;
        scene.pause();
        sleep(Duration::from_millis(100)).await;
        Ok(span)
    }

    fn floor(
        &self,
        floor: &mut Process,
        scene: &Scene,
        (clip, pacing): (&Arc<Clip>, Pacing),
        offload: bool,
    ) -> anyhow::Result<(Duration, u64)> {
        let crowd = &scene.audience.crowd;
        let before = crowd.sunk();
        let (cpu, packets) = floor.send(&Request {
            schedule: Schedule::of(clip, pacing),
            to: crowd.sinks().to_vec(),
            offload,
            time: self.time,
        })?;
        std::thread::sleep(Duration::from_millis(50));
        let lost = packets.saturating_sub(crowd.sunk() - before);
        ensure!(
            lost < packets / 100,
            "the floor's receivers lost {lost} of {packets} packets: the machine is too busy"
        );
        Ok((cpu, packets))
    }
}

/// Returns by how many kilobytes a server has grown for each viewer.
#[expect(clippy::cast_precision_loss, reason = "memory of a process")]
fn kilobytes(before: Usage, after: Usage, viewers: usize) -> f64 {
    (after.resident as f64 - before.resident as f64) / viewers.max(1) as f64 / 1e3
}

/// Viewers that offer at once.
const MANY: usize = 1000;

const AUDIO_BITRATE: u64 = 64_000;

/// Floor and server alternate, so that a machine that becomes slower or faster changes both.
const ROUNDS: usize = 2;

/// From a stream's start until everything is in the caches.
const WARM_UP: Duration = Duration::from_millis(1500);

/// Garbage datagrams a second.
const GARBAGE: u32 = 100_000;

/// Whom the floor sends to where only its cost per packet matters.
const FLOOR_SINKS: usize = 100;

/// Over how many rooms viewers are spread where they are not in one.
const ROOMS: usize = 30;

/// Viewers at 2.5 Mb/s that are too many for one core.
const OVERLOAD: usize = 900;
