//! Reads request bodies; whatever is wrong with one has its own code.

use axum::{
    body::Body,
    extract::{FromRequest, Request},
    http::{HeaderMap, header},
};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;

use crate::{Problem, Service, protocol::ErrorCode};

/// A JSON body. Without any it is `{}`, for what has nothing that must be said.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Service> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, service: &Service) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let mut bytes = read(body, service.config().max_body_bytes).await?;
        if bytes.is_empty() {
            bytes.extend(b"{}");
        } else {
            expect_type(&parts.headers, "application/json")?;
        }
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            Problem::new(
                ErrorCode::BadMessage,
                format!("The body cannot be understood: {error}."),
            )
        })
    }
}

/// Refuses another content type. Parameters such as `charset` do not matter.
pub(crate) fn expect_type(headers: &HeaderMap, expected: &str) -> Result<(), Problem> {
    let found = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = found
        .and_then(|value| value.split(';').next())
        .unwrap_or_default()
        .trim();
    if essence.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    Err(Problem::new(
        ErrorCode::UnsupportedMediaType,
        format!("Send the body as {expected}."),
    ))
}

/// Reads a whole body, unless it is longer than `limit` bytes.
pub(crate) async fn read(body: Body, limit: usize) -> Result<Vec<u8>, Problem> {
    let mut whole = Vec::new();
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk
            .map_err(|_| Problem::new(ErrorCode::BadMessage, "The body did not arrive whole."))?;
        if whole.len() + chunk.len() > limit {
            return Err(Problem::new(
                ErrorCode::BodyTooLarge,
                format!("The body is longer than {limit} bytes."),
            ));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole)
}
