//! The load command: publishes and watches at any WHIP and WHEP server, and tells how that went.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, bail, ensure};
use clap::Args;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use url::Url;

use crate::{
    audience::{Audience, Place, Tokens},
    crowd::Crowd,
    media::{Clip, Encoding, Pacing, encode},
    ramp::{self, Joins},
    report,
    server::{Server, Setup},
    tally::Tally,
    usage::Usage,
};

/// Puts load on a WHIP and WHEP server.
///
/// Starts a Fanlight server, or uses a server that runs (--whip, --whep). Publishes a clip of real H264 and Opus,
/// and watches it with many viewers that do on the wire what browsers do: connectivity and consent checks,
/// receiver reports, transport-wide feedback, retransmission requests for real losses.
///
/// Delays are measured by stamps in the H264 stream, which survive every server that does not transcode, and
/// by the kernel's time of arrival: the load of this program is not in them. Every fourth frame has a stamp. A
/// packet's delay is that of the first packet of a frame; a frame's delay is from the send call of its last packet until it is complete.
#[derive(Clone, Debug, Args)]
pub(crate) struct LoadArgs {
    /// Where to publish (WHIP). `{}` stands for the publisher's number, from 0.
    #[arg(long, value_name = "URL", requires = "whep", conflicts_with = "server")]
    whip: Option<String>,
    /// Where to watch (WHEP). `{}` stands for a publisher's number: viewers are spread over them.
    #[arg(long, value_name = "URL", conflicts_with = "server")]
    whep: Option<String>,
    /// Bearer token to publish with.
    #[arg(long, requires = "whip")]
    token: Option<String>,
    /// Bearer token to watch with; another one than the publisher's.
    #[arg(long, value_name = "TOKEN", requires = "whep")]
    viewer_token: Option<String>,
    /// The server to start when there is no --whep [default: `fanlight` next to this program].
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,
    /// Lines for the config file of the server that is started, such as `[media]`; may be repeated.
    #[arg(long, value_name = "TOML", conflicts_with = "whep")]
    config: Vec<String>,
    /// Process id of a running server on this machine, to measure its CPU time and memory.
    #[arg(long, value_name = "PID", requires = "whep")]
    server_pid: Option<u32>,
    /// Publishers; none, to watch what somebody else publishes.
    #[arg(long, default_value_t = 1)]
    publishers: usize,
    /// Viewers.
    #[arg(long, default_value_t = 100)]
    viewers: usize,
    /// Joins a second until all are there.
    #[arg(long, default_value_t = 100)]
    ramp: u32,
    /// Viewers a second that leave and are replaced, while measuring.
    #[arg(long, default_value_t = 0)]
    churn: u32,
    /// Seconds to measure once all are there.
    #[arg(long, default_value_t = 10)]
    duration: u64,
    /// Threads that drive viewers; one is good for a thousand.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Viewers open a data channel too.
    #[arg(long)]
    channel: bool,
    /// Viewers offer no transport-wide feedback.
    #[arg(long)]
    no_transport_cc: bool,
    #[command(flatten)]
    clip: ClipArgs,
}

/// What is published.
#[derive(Clone, Debug, Args)]
struct ClipArgs {
    /// Kilobits per second of the 720p30 clip that ffmpeg makes.
    #[arg(long, default_value_t = 2500)]
    bitrate: u64,
    /// Seconds of that clip: from one keyframe to the next, when nobody asks for one.
    #[arg(long, default_value_t = 10)]
    clip_seconds: u32,
    /// Send each frame's packets at once, not spread as a browser does.
    #[arg(long)]
    bursts: bool,
    /// H264 byte stream to publish instead: 30 frames a second, no B-frames.
    #[arg(long, value_name = "FILE", requires = "audio")]
    video: Option<PathBuf>,
    /// Ogg file with Opus in packets of 20 ms to publish instead.
    #[arg(long, value_name = "FILE", requires = "video")]
    audio: Option<PathBuf>,
}

impl ClipArgs {
    fn clip(&self) -> anyhow::Result<Clip> {
        let (Some(video), Some(audio)) = (&self.video, &self.audio) else {
            return encode(Encoding {
                bitrate: self.bitrate * 1000,
                seconds: self.clip_seconds,
            });
        };
        let read = |path: &PathBuf| {
            std::fs::read(path).with_context(|| format!("read {}", path.display()))
        };
        Clip::parse(&read(video)?, &read(audio)?)
    }

    fn pacing(&self) -> Pacing {
        if self.bursts {
            Pacing::Bursts
        } else {
            Pacing::Browser
        }
    }
}

/// What a run of the load command showed.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// How the joins of the ramp, and those of the churn, went.
    pub(crate) joins: Joins,
    /// Viewers that had everything they asked for at the end of the ramp.
    pub(crate) settled: usize,
    /// Viewers present at the end.
    pub(crate) present: usize,
    /// What was counted until the measurement began.
    pub(crate) ramp: Tally,
    /// What was counted while measuring.
    pub(crate) steady: Tally,
    /// For how long.
    pub(crate) time: Duration,
    /// Keyframe requests that the publishers got during the ramp, and while measuring.
    pub(crate) keyframe_requests: (u64, u64),
    /// The server before anybody joined, at the begin and at the end of the measurement.
    pub(crate) usage: Option<[Usage; 3]>,
}

/// Runs the command and prints its outcome.
///
/// # Errors
/// When the server or the clip is not usable, or nobody can join.
pub(crate) async fn run(args: LoadArgs) -> anyhow::Result<()> {
    ensure!(args.publishers <= 256, "at most 256 publishers");
    let server = match (&args.whep, &args.server) {
        (Some(_), _) => None,
        (None, program) => Some(Server::start(&Setup {
            program: program.clone().map_or_else(default_server, Ok)?,
            config: args.config.join("\n"),
            processors: vec![],
        })?),
    };
    let (place, tokens) = match &server {
        Some(server) => own_place(server, &args)?,
        None => (
            foreign_place(&args)?,
            Tokens {
                publisher: args.token.clone(),
                viewer: args.viewer_token.clone(),
            },
        ),
    };
    let pid = server.as_ref().map(Server::pid).or(args.server_pid);
    let crowd = Crowd::start(args.threads, 0, Vec::new())?;
    let mut audience = Audience::new(place, tokens, crowd)?;
    if args.publishers > 0 {
        let clip = Arc::new(args.clip.clip()?);
        for _ in 0..args.publishers {
            let publisher = audience.publish().await?;
            publisher.play(Some((Arc::clone(&clip), args.clip.pacing())));
        }
        sleep(WARM_UP).await;
    }
    let outcome = measure(&args, pid, &mut audience).await?;
    if audience
        .publishers
        .iter()
        .any(|publisher| publisher.is_closed())
    {
        bail!("the server has ended a publisher's session");
    }
    audience.unpublish().await;
    report::print_load(&outcome)?;
    Ok(())
}

async fn measure(
    args: &LoadArgs,
    pid: Option<u32>,
    audience: &mut Audience,
) -> anyhow::Result<Outcome> {
    let usage = || pid.map(Usage::of).transpose();
    let alone = usage()?;
    let requests = audience.keyframe_requests();
    let mut joins = ramp::join(audience, args.viewers, args.ramp).await?;
    let settled = audience.crowd.settled();
    sleep(SETTLE).await;
    let ramp = audience.crowd.take_tally();
    let requests_joining = audience.keyframe_requests() - requests;
    let before = usage()?;
    let start = Instant::now();
    churn(audience, args, &mut joins).await?;
    let steady = audience.crowd.take_tally();
    let after = usage()?;
    let usage = match (alone, before, after) {
        (Some(alone), Some(before), Some(after)) => Some([alone, before, after]),
        _ => None,
    };
    Ok(Outcome {
        settled,
        present: audience.crowd.present(),
        ramp,
        steady,
        time: start.elapsed(),
        keyframe_requests: (
            requests_joining,
            audience.keyframe_requests() - requests - requests_joining,
        ),
        usage,
        joins,
    })
}

/// Lets viewers leave and join until the time is over.
async fn churn(audience: &mut Audience, args: &LoadArgs, joins: &mut Joins) -> anyhow::Result<()> {
    let end = Instant::now() + Duration::from_secs(args.duration);
    if args.churn == 0 {
        tokio::time::sleep_until(end).await;
        return Ok(());
    }
    let mut tick = interval(Duration::from_secs(1) / args.churn);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut arriving = JoinSet::new();
    let mut leaving = JoinSet::new();
    while tick.tick().await < end {
        if let Some(farewell) = audience.leave() {
            leaving.spawn(farewell);
        }
        arriving.spawn(audience.arriving()?.join());
        while let Some(done) = arriving.try_join_next() {
            if let Some(joined) = joins.note(done?) {
                audience.joined(joined);
            }
        }
        while let Some(done) = leaving.try_join_next() {
            joins.note_farewell(done?);
        }
    }
    Ok(())
}

/// Returns the rooms of a server of our own, and a token to publish there.
fn own_place(server: &Server, args: &LoadArgs) -> anyhow::Result<(Place, Tokens)> {
    let rooms: Vec<String> = (0..args.publishers.max(1))
        .map(|n| format!("bench-{n}"))
        .collect();
    for room in &rooms {
        // Makes the room.
        server.token(room, "bench")?;
    }
    let urls = |protocol| -> anyhow::Result<Vec<Url>> {
        rooms
            .iter()
            .map(|room| server.url(protocol, room))
            .collect()
    };
    let place = Place {
        whip: urls("whip")?,
        whep: urls("whep")?,
        transport_cc: !args.no_transport_cc,
        channel: args.channel,
    };
    let tokens = Tokens {
        publisher: Some(server.token("*", "bench")?),
        viewer: None,
    };
    Ok((place, tokens))
}

/// Returns the addresses that were given.
fn foreign_place(args: &LoadArgs) -> anyhow::Result<Place> {
    let urls = |template: &Option<String>| -> anyhow::Result<Vec<Url>> {
        let Some(template) = template else {
            return Ok(vec![]);
        };
        let count = if template.contains("{}") {
            args.publishers.max(1)
        } else {
            1
        };
        (0..count)
            .map(|number| template.replace("{}", &number.to_string()))
            .map(|url| Url::parse(&url).with_context(|| format!("read the address {url}")))
            .collect()
    };
    Ok(Place {
        whip: urls(&args.whip)?,
        whep: urls(&args.whep)?,
        transport_cc: !args.no_transport_cc,
        channel: args.channel,
    })
}

/// Returns the server that was built next to this program.
///
/// # Errors
/// When there is none.
pub(crate) fn default_server() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("find this program")?;
    let server = program.with_file_name("fanlight");
    ensure!(
        server.is_file(),
        "there is no server at {}: build it (cargo build --release), or name it with --server",
        server.display()
    );
    Ok(server)
}

/// From a publisher's start until the server has a keyframe of it.
const WARM_UP: Duration = Duration::from_secs(1);

/// Until newcomers are at the live edge for certain.
const SETTLE: Duration = Duration::from_millis(2200);
