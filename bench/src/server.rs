//! The SFU under test: the library's driver and nothing else.

use std::{
    io,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Context;
use sfu::{Config, Event, Handle, Join, ParticipantId, Role, RoomId};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    child::{Reply, Request, Totals, requests, write_line},
    usage::Usage,
};

/// Runs an SFU on a free port of 127.0.0.1 until the parent has gone.
///
/// # Errors
/// When the port cannot be opened, or a message cannot be understood.
pub(crate) fn run() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(serve())
}

async fn serve() -> anyhow::Result<()> {
    let config = Config {
        udp_port: 0,
        public_ips: vec![Ipv4Addr::LOCALHOST.into()],
        ..Config::default()
    };
    let (driver, handle, events) = sfu::bind(&config).context("open the media port")?;
    let channels = Arc::new(AtomicU64::new(0));
    let (asked, mut to_answer) = mpsc::channel(1);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { driver.run(CancellationToken::new()).await });
    tasks.spawn(count_channels(events, Arc::clone(&channels)));
    std::thread::spawn(move || {
        for request in requests() {
            if asked.blocking_send(request).is_err() {
                break;
            }
        }
    });
    loop {
        tokio::select! {
            ended = tasks.join_next() => {
                return ended.context("the driver has no task")?.context("the driver panicked")?
                    .context("run the driver");
            }
            request = to_answer.recv() => {
                let Some(request) = request else { return Ok(()) };
                let reply = answer(&handle, &channels, request?).await;
                write_line(io::stdout().lock(), &reply.unwrap_or_else(|e| Reply::Failed(format!("{e:#}"))))?;
            }
        }
    }
}

async fn count_channels(
    mut events: mpsc::Receiver<Event>,
    channels: Arc<AtomicU64>,
) -> io::Result<()> {
    while let Some(event) = events.recv().await {
        if matches!(event, Event::ChannelOpened { .. }) {
            channels.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

async fn answer(handle: &Handle, channels: &AtomicU64, request: Request) -> anyhow::Result<Reply> {
    match request {
        Request::Negotiate {
            publishes,
            participant,
            offer,
        } => {
            let join = Join {
                room: RoomId(1),
                participant: ParticipantId(participant),
                role: if publishes {
                    Role::Publisher
                } else {
                    Role::Viewer
                },
            };
            let answer = handle.negotiate(join, offer).await?;
            Ok(Reply::Answer(answer.sdp))
        }
        Request::Totals => {
            let stats = handle.stats().await?;
            Ok(Reply::Totals(Totals {
                usage: Usage::of_this_process()?,
                packets_in: stats.packets_in,
                packets_out: stats.packets_out,
                channels: channels.load(Ordering::Relaxed),
            }))
        }
        Request::Send { .. } => anyhow::bail!("the SFU sends what a publisher publishes"),
    }
}
