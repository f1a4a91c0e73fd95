//! `/api/rooms/{room}/participants`: who is there, and how their connections do.

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};

use crate::{
    Grant, Problem, Service,
    protocol::{ErrorCode, ParticipantStats},
};

/// Lists who has a media connection; needs `publish` or `admin`.
pub(super) async fn list(
    State(service): State<Service>,
    Path(slug): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let room = service.authorize(&headers, &slug, Grant::Publish).await?;
    let list = service
        .directory()
        .room(room.id)
        .map(|room| room.participants(LISTED))
        .ok_or_else(unknown)?;
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(list)).into_response())
}

/// Shows how somebody's connections do; needs `publish` or `admin`.
pub(super) async fn stats(
    State(service): State<Service>,
    Path((slug, identity)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let room = service.authorize(&headers, &slug, Grant::Publish).await?;
    let peers = service
        .directory()
        .room(room.id)
        .map(|room| room.peers_of(&identity))
        .unwrap_or_default();
    let mut connections = Vec::with_capacity(peers.len());
    for peer in peers.into_iter().take(CONNECTIONS) {
        let found = service.sfu().peer_stats(peer).await;
        connections.extend(found.map_err(|error| Problem::internal(&error))?);
    }
    if connections.is_empty() {
        return Err(unknown());
    }
    let stats = ParticipantStats {
        identity,
        connections,
    };
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(stats)).into_response())
}

fn unknown() -> Problem {
    Problem::new(
        ErrorCode::ParticipantUnknown,
        "There is nobody of this identity with a media connection in the room.",
    )
}

const LISTED: usize = 1000;
/// Most connections shown of one participant: a shared token may be in many hands.
const CONNECTIONS: usize = 32;
