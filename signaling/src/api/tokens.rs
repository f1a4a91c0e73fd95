//! `/api/rooms/{room}/tokens`: tokens for guests, and for broadcasting software.

use std::time::Duration;

use axum::{
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::body::Json;
use crate::{
    Grant, Problem, Service, TokenRequest,
    clock::unix_seconds,
    protocol::{CreateToken, CreatedToken, ErrorCode, Grants},
    token::claims,
};

/// Makes a token for the room; needs `admin` there, so nobody hands on more than they have.
pub(super) async fn create(
    State(service): State<Service>,
    Path(slug): Path<String>,
    headers: HeaderMap,
    Json(request): Json<CreateToken>,
) -> Result<Response, Problem> {
    let room = service.authorize(&headers, &slug, Grant::Admin).await?;
    let ttl = check_ttl(request.ttl_seconds.unwrap_or(DEFAULT_TTL))?;
    let CreateToken {
        identity,
        name,
        publish,
        stage,
        chat,
        egress,
        admin,
        ..
    } = request;
    let grants = Grants {
        publish,
        stage,
        subscribe: true,
        chat,
        egress,
        admin,
    };
    let request = TokenRequest {
        room: room.slug,
        identity,
        name,
        grants,
        ttl,
    };
    let claims = claims(request, unix_seconds())?;
    let answer = CreatedToken {
        token: service.keys().sign(&claims),
        expires_at_ms: claims.exp.saturating_mul(1000),
        identity: claims.sub,
    };
    let headers = [(header::CACHE_CONTROL, "no-store")];
    Ok((StatusCode::CREATED, headers, axum::Json(answer)).into_response())
}

/// Checks how long something is to be valid.
pub(super) fn check_ttl(seconds: u64) -> Result<Duration, Problem> {
    if TTL.contains(&seconds) {
        return Ok(Duration::from_secs(seconds));
    }
    Err(Problem::new(
        ErrorCode::BadMessage,
        "A token is valid for 60 seconds to 365 days.",
    ))
}

const DEFAULT_TTL: u64 = 12 * 3600;
const TTL: std::ops::RangeInclusive<u64> = 60..=365 * 24 * 3600;
