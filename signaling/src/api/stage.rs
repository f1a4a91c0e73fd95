//! What a host does with the stage: invites guests, features one, takes one off.

use std::time::{Duration, Instant};

use axum::{
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{body::Json, tokens};
use crate::{
    Grant, Problem, Service,
    clock::unix_seconds,
    protocol::{CreateInvite, CreatedInvite, Feature},
    token::invite_claims,
};

/// Makes an invitation; needs `publish`, as the host has.
pub(super) async fn invite(
    State(service): State<Service>,
    Path(slug): Path<String>,
    headers: HeaderMap,
    Json(request): Json<CreateInvite>,
) -> Result<Response, Problem> {
    let room = service.authorize(&headers, &slug, Grant::Publish).await?;
    let ttl = tokens::check_ttl(request.ttl_seconds.unwrap_or(DEFAULT_TTL))?;
    let claims = invite_claims(&room.slug, ttl, unix_seconds());
    let token = service.keys().sign(&claims);
    let answer = CreatedInvite {
        path: format!("/stage/{}#token={token}", room.slug),
        token,
        expires_at_ms: claims.exp.saturating_mul(1000),
    };
    let headers = [(header::CACHE_CONTROL, "no-store")];
    Ok((StatusCode::CREATED, headers, axum::Json(answer)).into_response())
}

/// Features somebody on stage, or nobody; needs `publish`.
pub(super) async fn feature(
    State(service): State<Service>,
    Path(slug): Path<String>,
    headers: HeaderMap,
    Json(request): Json<Feature>,
) -> Result<StatusCode, Problem> {
    let room = service.authorize(&headers, &slug, Grant::Publish).await?;
    service
        .feature(room.id, request.identity.as_deref())
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a guest off the stage; needs `publish`.
pub(super) async fn remove(
    State(service): State<Service>,
    Path((slug, identity)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let room = service.authorize(&headers, &slug, Grant::Publish).await?;
    let peers = service
        .directory()
        .remove_guest(room.id, &identity, Instant::now())?;
    service.close_peers(peers).await;
    tracing::info!(room = %slug, %identity, "guest removed");
    Ok(StatusCode::NO_CONTENT)
}

const DEFAULT_TTL: u64 = Duration::from_secs(24 * 3600).as_secs();
