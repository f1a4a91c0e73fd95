//! Refusals as `application/problem+json` (RFC 9457).

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::{
    admission::Shortage,
    refusal::StartError,
    status::{ErrorCode, Instead, Needed, ProblemBody},
};

/// A refused request.
#[derive(Debug)]
pub(crate) struct Problem {
    code: ErrorCode,
    detail: String,
    shortage: Option<Shortage>,
}

impl Problem {
    pub(crate) fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            shortage: None,
        }
    }
}

impl From<StartError> for Problem {
    fn from(error: StartError) -> Self {
        let code = match &error {
            StartError::NoDestinations => ErrorCode::DestinationsEmpty,
            StartError::TooManyDestinations(_) => ErrorCode::DestinationsTooMany,
            StartError::Destination { reason, .. } => reason.code(),
            StartError::NoAddress => ErrorCode::DestinationUrlInvalid,
            StartError::Source => ErrorCode::SourceInvalid,
            StartError::Preset | StartError::Layout => ErrorCode::PresetInvalid,
            StartError::NoPicture => ErrorCode::ThumbnailsOptionsInvalid,
            StartError::PresetFixed => ErrorCode::PresetFixed,
            StartError::HlsActive => ErrorCode::HlsActive,
            StartError::Duplicate(_) | StartError::SentElsewhere { .. } => {
                ErrorCode::DestinationDuplicate
            }
            StartError::UnknownDestination(_) => ErrorCode::DestinationUnknown,
            StartError::Capacity(_) => ErrorCode::EgressCapacity,
            StartError::KeyReused => ErrorCode::IdempotencyKeyReused,
            StartError::UnknownJob => ErrorCode::EgressUnknown,
            StartError::Over => ErrorCode::EgressOver,
            StartError::DiskFull => ErrorCode::DiskFull,
            StartError::Stopping => ErrorCode::Stopping,
            StartError::Store => ErrorCode::Internal,
        };
        let shortage = if let StartError::Capacity(shortage) = &error {
            Some(*shortage)
        } else {
            None
        };
        Self {
            code,
            detail: format!("{error}."),
            shortage,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = status_of(self.code);
        let body = ProblemBody {
            r#type: format!("urn:fanlight:problem:{}", name(self.code)),
            title: status.canonical_reason().unwrap_or_default().to_owned(),
            status: status.as_u16(),
            detail: self.detail,
            code: self.code,
            needed: self.shortage.map(|shortage| Needed {
                cpu_percent: shortage.needed_percent,
            }),
            free: self.shortage.map(|shortage| shortage.free),
            instead: self.shortage.and_then(|shortage| shortage.instead).map(
                |(preset, cpu_percent)| Instead {
                    preset,
                    cpu_percent,
                },
            ),
        };
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        let media_type = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, media_type);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.code == ErrorCode::EgressCapacity {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("30"));
        }
        response
    }
}

fn status_of(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::BadRequest => StatusCode::BAD_REQUEST,
        ErrorCode::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::EgressUnknown
        | ErrorCode::DestinationUnknown
        | ErrorCode::HlsUnknown
        | ErrorCode::RecordingUnknown
        | ErrorCode::ThumbnailUnknown => StatusCode::NOT_FOUND,
        ErrorCode::LinkInvalid => StatusCode::FORBIDDEN,
        ErrorCode::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        ErrorCode::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        ErrorCode::HlsActive
        | ErrorCode::DestinationDuplicate
        | ErrorCode::EgressOver
        | ErrorCode::RecordingActive
        | ErrorCode::PresetFixed => StatusCode::CONFLICT,
        ErrorCode::DestinationsEmpty
        | ErrorCode::DestinationsTooMany
        | ErrorCode::DestinationUrlInvalid
        | ErrorCode::PresetInvalid
        | ErrorCode::SourceInvalid
        | ErrorCode::DestinationNotAllowed
        | ErrorCode::IdempotencyKeyReused
        | ErrorCode::RecordingOptionsInvalid
        | ErrorCode::ThumbnailsOptionsInvalid
        | ErrorCode::DestinationKeyInvalid => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorCode::TokenMissing => StatusCode::UNAUTHORIZED,
        ErrorCode::TokenInvalid | ErrorCode::TokenExpired => StatusCode::FORBIDDEN,
        ErrorCode::EgressCapacity
        | ErrorCode::Stopping
        | ErrorCode::HlsLate
        | ErrorCode::StorageUnavailable
        | ErrorCode::DiskFull => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Returns the code as JSON has it.
fn name(code: ErrorCode) -> String {
    match serde_json::to_value(code) {
        Ok(serde_json::Value::String(name)) => name,
        Ok(_) | Err(_) => String::new(),
    }
}
