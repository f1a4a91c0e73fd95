//! Wiring: opens every part, joins their routes and events, supervises the tasks, drains on shutdown.

use std::{
    io::Write,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::Context;
use metrics_exporter_prometheus::PrometheusBuilder;
use sfu::RoomId;
use signaling::protocol::{Corner, ImageKind, Layout};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    config::Config,
    http::{self, Listener},
    lock::DataLock,
    operations::Operations,
    sources::RoomSources,
    tls,
};

/// Runs the server until it is told to stop (SIGINT, SIGTERM), then drains.
///
/// # Errors
/// When something cannot be opened, or when a part of the running server fails.
pub(crate) async fn serve(config: Config) -> anyhow::Result<()> {
    if let Err(error) = egress::hide_memory() {
        warn!(%error, "the server's memory, and stream keys in it, may be in core dumps");
    }
    std::fs::create_dir_all(&config.data_dir)
        .with_context(|| format!("create the data folder {}", config.data_dir.display()))?;
    let _lock = DataLock::take(&config.data_dir)?;
    let prometheus = PrometheusBuilder::new()
        .install_recorder()
        .context("start the metrics")?;

    let (driver, sfu, events) = sfu::bind(&config.media)?;
    let (advertised, reach) = (driver.advertised().to_vec(), driver.reach());
    info!(udp = ?driver.ports(), tcp = ?driver.advertised_tcp().first().map(SocketAddr::port), "media ports");
    let signaling =
        signaling::Service::open(config.signaling.clone(), &config.data_dir, sfu.clone()).await?;
    let program = std::env::current_exe().context("find the server's own program")?;
    let egress = egress::Service::open(
        config.egress.clone(),
        RoomSources { sfu: sfu.clone() },
        program,
        &config.data_dir,
    )?;
    let addresses: Vec<IpAddr> = advertised.iter().map(SocketAddr::ip).collect();
    let certificate = tls::load(&config.http.tls()?, &config.data_dir, &addresses).await?;
    let listener = Listener::bind(config.http.listen, certificate)?;

    let cancel = CancellationToken::new();
    let routes = http::routes(Operations {
        sfu,
        egress: egress.clone(),
        signaling: signaling.clone(),
        prometheus: prometheus.clone(),
        public_metrics: config.http.public_metrics,
        stopping: cancel.clone(),
    });
    log_start(&config, &listener, &advertised, reach)?;
    print_links(&config, &listener, &addresses).await?;

    let drain = Duration::from_secs(config.http.drain_seconds);
    // Media outlives the rest, so that outputs end with their last packets and sessions say goodbye.
    let media_cancel = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn({
        let (signaling, cancel) = (signaling.clone(), cancel.clone());
        async move {
            signaling.run(events, cancel).await;
            anyhow::Ok("signaling")
        }
    });
    tasks.spawn(tell_outputs(egress.events(), signaling.clone()));
    tasks.spawn(tell_scenes(
        signaling.clone(),
        egress.clone(),
        cancel.clone(),
    ));
    tasks.spawn(tell_recordings(egress.clone(), signaling, cancel.clone()));
    tasks.spawn({
        let cancel = cancel.clone();
        async move {
            egress.run(cancel).await;
            anyhow::Ok("egress")
        }
    });
    tasks.spawn({
        let cancel = cancel.clone();
        async move { listener.serve(routes, drain, cancel).await.map(|()| "http") }
    });
    tasks.spawn(upkeep(prometheus, cancel.clone()));
    let mut media = JoinSet::new();
    media.spawn(driver.run(media_cancel.clone()));

    let ended = tokio::select! {
        reason = stop_signal() => { info!(reason, "stopping"); Ok(()) }
        ended = tasks.join_next() => unexpected_end(ended),
        ended = media.join_next() => {
            Err(anyhow::anyhow!("media ended unexpectedly: {ended:?}"))
        }
    };
    cancel.cancel();
    let drained = timeout(drain + Duration::from_secs(2), async {
        while tasks.join_next().await.is_some() {}
    });
    tokio::select! {
        drained = drained => if drained.is_err() { warn!("not everything finished in time") },
        reason = stop_signal() => warn!(reason, "stopping at once"),
    }
    media_cancel.cancel();
    if timeout(Duration::from_secs(2), async {
        while media.join_next().await.is_some() {}
    })
    .await
    .is_err()
    {
        warn!("media did not finish in time");
    }
    info!("stopped");
    ended
}

/// Tells rooms what their outputs do, until the outputs end.
async fn tell_outputs(
    mut changes: mpsc::Receiver<egress::Changed>,
    signaling: signaling::Service,
) -> anyhow::Result<&'static str> {
    while let Some(change) = changes.recv().await {
        let jobs = serde_json::to_value(&change.jobs).context("write the states of outputs")?;
        // Jobs that were resumed may be all that goes on in it; their pictures are as its host has chosen.
        signaling.find_room(&change.room.slug).await;
        signaling.outputs_changed(change.room.id, jobs, change.hls);
    }
    Ok("output states")
}

/// Tells outputs whom to compose, until cancelled.
async fn tell_scenes(
    signaling: signaling::Service,
    egress: egress::Service,
    cancel: CancellationToken,
) -> anyhow::Result<&'static str> {
    loop {
        let changed = tokio::select! {
            changed = signaling.performances() => changed,
            () = cancel.cancelled() => return Ok("scenes"),
        };
        for (room, performance) in changed {
            let look = look(&signaling, room, &performance.look);
            egress.stage_changed(room, scene(&performance, look));
        }
    }
}

fn scene(performance: &signaling::Performance, look: egress::Look) -> egress::Scene {
    let mut tiles = Vec::new();
    for performer in &performance.performers {
        // The camera goes with the microphone, a screen beside it with what it plays.
        let tracks = performer.video.len().max(performer.audio.len());
        tiles.extend((0..tracks).map(|n| {
            egress::Tile {
                video: performer.video.get(n).map(|id| id.lane()),
                audio: performer
                    .audio
                    .get(n)
                    .map(|id| id.lane())
                    .into_iter()
                    .collect(),
                identity: performer.identity.clone(),
                name: performer.name.clone(),
                screen: n > 0 || performer.screen,
            }
        }));
    }
    egress::Scene {
        tiles,
        main: performance.main.map(sfu::PublicationId::lane),
        layout: layout(performance.layout),
        look,
    }
}

fn layout(layout: Layout) -> egress::Layout {
    match layout {
        Layout::Grid => egress::Layout::Grid,
        Layout::Speaker => egress::Layout::Speaker,
        Layout::PictureInPicture => egress::Layout::PictureInPicture,
        Layout::Screen => egress::Layout::Screen,
        Layout::Single => egress::Layout::Single,
    }
}

fn look(signaling: &signaling::Service, room: RoomId, look: &signaling::Look) -> egress::Look {
    let image = |kind| {
        let path = signaling.image_file(room, look, kind)?;
        Some(egress::Image { path })
    };
    egress::Look {
        names: look.names,
        title: look.title.clone(),
        background: look.background,
        slate: look.slate.clone(),
        background_image: image(ImageKind::Background),
        logo: image(ImageKind::Logo),
        logo_corner: match look.logo_corner {
            Corner::UpperLeft => egress::Corner::UpperLeft,
            Corner::UpperRight => egress::Corner::UpperRight,
            Corner::LowerLeft => egress::Corner::LowerLeft,
            Corner::LowerRight => egress::Corner::LowerRight,
        },
        slate_image: image(ImageKind::Slate),
    }
}

/// Tells rooms which recordings have become ready.
async fn tell_recordings(
    egress: egress::Service,
    signaling: signaling::Service,
    cancel: CancellationToken,
) -> anyhow::Result<&'static str> {
    loop {
        let ready = tokio::select! {
            ready = egress.recordings_ready() => ready,
            () = cancel.cancelled() => return Ok("recordings"),
        };
        for ready in ready {
            let recording = serde_json::to_value(&ready.recording).context("write a recording")?;
            signaling.recording_ready(ready.room.id, recording);
        }
    }
}

/// Keeps the memory of histograms bounded.
async fn upkeep(
    prometheus: metrics_exporter_prometheus::PrometheusHandle,
    cancel: CancellationToken,
) -> anyhow::Result<&'static str> {
    let mut ticks = tokio::time::interval(Duration::from_secs(5));
    loop {
        tokio::select! {
            _ = ticks.tick() => prometheus.run_upkeep(),
            () = cancel.cancelled() => return Ok("metrics"),
        }
    }
}

async fn stop_signal() -> &'static str {
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        // Without handlers the signals end the process at once, which is what they mean.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => "interrupt",
        _ = terminate.recv() => "terminate",
    }
}

fn unexpected_end(
    ended: Option<Result<anyhow::Result<&'static str>, tokio::task::JoinError>>,
) -> anyhow::Result<()> {
    match ended {
        Some(Ok(Ok(part))) => anyhow::bail!("{part} ended unexpectedly"),
        Some(Ok(Err(error))) => Err(error),
        Some(Err(error)) => Err(error).context("a task failed"),
        None => anyhow::bail!("nothing is running"),
    }
}

fn log_start(
    config: &Config,
    listener: &Listener,
    advertised: &[SocketAddr],
    reach: sfu::Reach,
) -> anyhow::Result<()> {
    info!(
        http = %listener.address()?,
        scheme = listener.scheme(),
        data_dir = %config.data_dir.display(),
        "serving"
    );
    for address in advertised {
        info!(%address, "media is reached at");
    }
    match reach {
        sfu::Reach::Internet => {}
        sfu::Reach::LocalNetwork => warn!(
            "media is advertised with private or example addresses only: people outside this network \
             cannot watch. In a cloud or behind NAT, give the public address with --public-ip"
        ),
        sfu::Reach::ThisMachine => warn!(
            "media is advertised with loopback addresses only: nobody but this machine can watch. \
             Give the address others reach it by with --public-ip"
        ),
    }
    Ok(())
}

/// Prints the link that makes its opener the owner: the one thing a newcomer needs.
async fn print_links(
    config: &Config,
    listener: &Listener,
    advertised: &[IpAddr],
) -> anyhow::Result<()> {
    let address = listener.address()?;
    let token = signaling::mint_token(
        &config.signaling,
        &config.data_dir,
        signaling::TokenRequest::owner(OWNER_LINK_VALID),
    )
    .await
    .context("make the owner's link")?;
    let scheme = listener.scheme();
    let port = address.port();
    let host = match (address.ip(), config.media.public_ips.first()) {
        (ip, Some(public)) if ip.is_unspecified() && !public.is_loopback() => host(*public),
        (ip, _) if ip.is_unspecified() || ip.is_loopback() => "localhost".to_owned(),
        (ip, _) => host(ip),
    };
    let mut text = format!(
        "\nFanlight is running. Open this link to be its owner and go live:\n\n    \
         {scheme}://{host}:{port}/#token={token}\n\n"
    );
    // Browsers give the camera to secure origins only: localhost, or HTTPS.
    if scheme == "http" && host != "localhost" {
        text += "Browsers give the camera to HTTPS pages only: serve it with --tls-cert and --tls-key, or \
                 behind a proxy that does.\n\n";
    }
    if address.ip().is_unspecified() && scheme == "https" && host == "localhost" {
        for ip in advertised
            .iter()
            .filter(|ip| ip.is_ipv4() && !ip.is_loopback())
        {
            text += &format!("From a phone:\n\n    https://{ip}:{port}/#token={token}\n\n");
        }
    }
    let mut out = std::io::stdout().lock();
    // Nobody may be reading; the server runs all the same.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    Ok(())
}

fn host(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// A new link is printed at every start; this one serves a browser that keeps it.
const OWNER_LINK_VALID: Duration = Duration::from_secs(30 * 24 * 3600);

#[cfg(test)]
mod tests {
    use sfu::PublicationId;
    use signaling::{Performance, Performer};

    use super::*;

    #[test]
    fn screens_are_those_beside_a_camera_and_those_in_its_place() {
        for (label, pictures, screen, expected) in [
            ("a camera", 1, false, vec![false]),
            ("a screen in its place", 1, true, vec![true]),
            ("a screen beside it", 2, false, vec![false, true]),
        ] {
            let performer = Performer {
                video: (1..=pictures).map(PublicationId).collect(),
                screen,
                ..Performer::default()
            };
            let performance = Performance {
                performers: vec![performer],
                ..Performance::default()
            };
            let scene = scene(&performance, egress::Look::default());
            let screens: Vec<_> = scene.tiles.iter().map(|tile| tile.screen).collect();
            assert_eq!(screens, expected, "{label}");
        }
    }
}
