//! What an operator asks: is it alive, is it ready, how is it doing.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::{ConnectInfo, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use egress::status::word;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;

/// What the operator's routes need to know.
#[derive(Clone)]
pub(crate) struct Operations {
    pub(crate) sfu: sfu::Handle,
    pub(crate) egress: egress::Service,
    pub(crate) signaling: signaling::Service,
    pub(crate) prometheus: PrometheusHandle,
    pub(crate) public_metrics: bool,
    pub(crate) stopping: CancellationToken,
}

/// Routes `/healthz`, `/readyz` and `/metrics`.
pub(crate) fn routes(operations: Operations) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(operations))
}

async fn readyz(State(operations): State<Arc<Operations>>) -> Response {
    if operations.stopping.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    if operations.sfu.stats().await.is_err() {
        return (StatusCode::SERVICE_UNAVAILABLE, "media is down\n").into_response();
    }
    "ready\n".into_response()
}

async fn metrics(
    State(operations): State<Arc<Operations>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    // Behind a proxy on the same machine everybody seems to be local.
    let local = from.ip().to_canonical().is_loopback() && !headers.contains_key("x-forwarded-for");
    if !local
        && !operations.public_metrics
        && let Err(problem) = operations.signaling.authorize_owner(&headers)
    {
        return problem.into_response();
    }
    let Ok(stats) = operations.sfu.stats().await else {
        return (StatusCode::SERVICE_UNAVAILABLE, "media is down\n").into_response();
    };
    record(&stats, &operations.egress.gauges());
    record_recordings(&operations.egress);
    let text = operations.prometheus.render();
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        text,
    )
        .into_response()
}

/// Puts what is counted elsewhere next to what the crates record themselves.
#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus gauges are floating point"
)]
fn record(
    stats: &sfu::Stats,
    outputs: &[(
        egress::status::DestinationType,
        egress::status::DestinationState,
        u64,
    )],
) {
    for (name, help, value) in [
        (
            "fanlight_rooms",
            "Rooms with somebody connected",
            stats.rooms,
        ),
        (
            "fanlight_publishers",
            "Connected broadcasters",
            stats.publishers,
        ),
        ("fanlight_viewers", "Connected viewers", stats.viewers),
        (
            "fanlight_viewers_limited",
            "Viewers whose path carries less than the best",
            stats.viewers_limited,
        ),
        (
            "fanlight_viewers_paused",
            "Viewers whose path carries sound only",
            stats.viewers_paused,
        ),
    ] {
        metrics::describe_gauge!(name, help);
        metrics::gauge!(name).set(value as f64);
    }
    for (name, help, value) in [
        (
            "fanlight_rtp_packets_received_total",
            "RTP packets from broadcasters",
            stats.packets_in,
        ),
        (
            "fanlight_rtp_bytes_received_total",
            "Bytes of those",
            stats.bytes_in,
        ),
        (
            "fanlight_rtp_packets_sent_total",
            "RTP packets to viewers",
            stats.packets_out,
        ),
        (
            "fanlight_rtp_bytes_sent_total",
            "Bytes of those",
            stats.bytes_out,
        ),
        (
            "fanlight_rtp_packets_lost_total",
            "RTP packets from broadcasters that never came",
            stats.packets_lost,
        ),
        (
            "fanlight_rtp_packets_retransmitted_total",
            "RTP packets sent again to viewers",
            stats.retransmitted,
        ),
        (
            "fanlight_rtp_retransmissions_missed_total",
            "RTP packets asked for again that were not kept any more",
            stats.retransmit_missed,
        ),
        (
            "fanlight_keyframe_requests_total",
            "Keyframe requests to broadcasters",
            stats.keyframe_requests,
        ),
        (
            "fanlight_layer_switches_total",
            "Changes of the quality that a viewer is sent of a video",
            stats.layer_switches,
        ),
        (
            "fanlight_video_gaps_total",
            "Times at which a viewer's path had no room for pictures",
            stats.gaps,
        ),
    ] {
        metrics::describe_counter!(name, help);
        metrics::counter!(name).absolute(value);
    }
    metrics::describe_counter!(
        "fanlight_datagrams_dropped_total",
        "Hostile or broken datagrams, by reason"
    );
    for (reason, count) in &stats.dropped {
        metrics::counter!("fanlight_datagrams_dropped_total", "reason" => *reason).absolute(*count);
    }
    record_paths(stats);
    metrics::describe_gauge!(
        "fanlight_egress_destinations",
        "Destinations by type and state"
    );
    for (kind, state, count) in outputs {
        metrics::gauge!("fanlight_egress_destinations", "type" => word(kind), "state" => word(state))
            .set(*count as f64);
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus gauges are floating point"
)]
fn record_recordings(egress: &egress::Service) {
    let (states, bytes) = egress.recording_totals();
    metrics::describe_gauge!("fanlight_recordings", "Recordings, by state");
    for (state, count) in states {
        metrics::gauge!("fanlight_recordings", "state" => word(&state)).set(count as f64);
    }
    metrics::describe_gauge!("fanlight_recordings_bytes", "Bytes of all recordings");
    metrics::gauge!("fanlight_recordings_bytes").set(bytes as f64);
}

/// Puts how viewers are reached, and what their paths carry.
#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus gauges are floating point"
)]
fn record_paths(stats: &sfu::Stats) {
    metrics::describe_gauge!("fanlight_peers", "Connected peers, by transport");
    for (transport, count) in [("udp", stats.peers_udp), ("tcp", stats.peers_tcp)] {
        metrics::gauge!("fanlight_peers", "transport" => transport).set(count as f64);
    }
    metrics::describe_gauge!(
        "fanlight_video_slots",
        "Slots of viewers in which a video is sent, by the layer chosen, 0 being the lowest"
    );
    for (layer, count) in stats.slots_by_layer.iter().enumerate() {
        metrics::gauge!("fanlight_video_slots", "layer" => layer.to_string()).set(*count as f64);
    }
    metrics::describe_gauge!(
        "fanlight_viewers_by_estimate",
        "Viewers whose path is thought to carry at most so many bit/s"
    );
    let bounds = sfu::ESTIMATE_STEPS.iter().map(u64::to_string);
    let bounds = bounds.chain(std::iter::once("+Inf".to_owned()));
    let mut below = 0;
    for (bound, count) in bounds.zip(stats.estimates) {
        below += count;
        metrics::gauge!("fanlight_viewers_by_estimate", "le" => bound).set(below as f64);
    }
}
