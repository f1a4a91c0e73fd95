//! [`Problem`]: a refusal, the same on every channel; over HTTP as `application/problem+json` (RFC 9457).

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::protocol::{ErrorCode, ProblemBody};

/// A refused request: a stable code, and what to tell its maker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Stable code.
    pub code: ErrorCode,
    /// What happened and what to do, for people.
    pub detail: String,
}

impl Problem {
    /// Makes a problem.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
        }
    }

    /// Logs the cause, which callers are not to see, and makes the problem that they see.
    pub(crate) fn internal(cause: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(cause = %Chain(cause), "request failed");
        Self::new(
            ErrorCode::Internal,
            "Something failed on the server. Try again in a moment.",
        )
    }

    /// Returns the HTTP status of its code.
    pub fn status(&self) -> StatusCode {
        match self.code {
            ErrorCode::TokenMissing | ErrorCode::TokenInvalid | ErrorCode::TokenExpired => {
                StatusCode::UNAUTHORIZED
            }
            ErrorCode::TokenWrongRoom
            | ErrorCode::NotAllowed
            | ErrorCode::ChatNotAllowed
            | ErrorCode::RemovedFromStage => StatusCode::FORBIDDEN,
            ErrorCode::RoomUnknown
            | ErrorCode::SessionUnknown
            | ErrorCode::ParticipantUnknown
            | ErrorCode::ImageUnknown
            | ErrorCode::NotFound => StatusCode::NOT_FOUND,
            ErrorCode::RoomExists
            | ErrorCode::RoomHasPublisher
            | ErrorCode::StageFull
            | ErrorCode::StageClosed => StatusCode::CONFLICT,
            ErrorCode::RoomNameInvalid
            | ErrorCode::BadMessage
            | ErrorCode::SdpInvalid
            | ErrorCode::ChatTooLong
            | ErrorCode::ChatEmpty => StatusCode::BAD_REQUEST,
            ErrorCode::LookInvalid | ErrorCode::ImageInvalid | ErrorCode::ImageTooLarge => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            ErrorCode::NoCommonMedia => StatusCode::NOT_ACCEPTABLE,
            ErrorCode::IceSessionMismatch => StatusCode::PRECONDITION_FAILED,
            ErrorCode::PreconditionRequired => StatusCode::PRECONDITION_REQUIRED,
            ErrorCode::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ErrorCode::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorCode::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            ErrorCode::ChatRateLimited => StatusCode::TOO_MANY_REQUESTS,
            ErrorCode::ServerFull => StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Counts it. Whoever sends a problem calls this once; the HTTP answer does by itself.
    pub(crate) fn count(&self) {
        metrics::counter!("fanlight_refusals_total", "code" => code_word(self.code)).increment(1);
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.count();
        let status = self.status();
        let body = ProblemBody {
            r#type: format!("urn:fanlight:problem:{}", code_word(self.code)),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: self.detail,
            code: self.code,
        };
        let mut response = (status, axum::Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::UNAUTHORIZED {
            let challenge = if self.code == ErrorCode::TokenMissing {
                "Bearer realm=\"fanlight\""
            } else {
                "Bearer realm=\"fanlight\", error=\"invalid_token\""
            };
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(challenge),
            );
        }
        if self.code == ErrorCode::ServerFull {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

/// Returns the code as it is on the wire.
pub(crate) fn code_word(code: ErrorCode) -> String {
    match serde_json::to_value(code) {
        Ok(serde_json::Value::String(word)) => word,
        _ => unreachable!("a code is a JSON string"),
    }
}

/// Writes an error with its sources.
struct Chain<'a>(&'a (dyn std::error::Error + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answer_is_a_problem_document() {
        let response = Problem::new(ErrorCode::TokenExpired, "Ask for a new link.").into_response();
        assert_eq!(response.status(), 401);
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json"
        );
        let challenge = response.headers()["www-authenticate"].to_str().unwrap();
        assert!(challenge.starts_with("Bearer"), "{challenge}");
        let body = axum::body::to_bytes(response.into_body(), 4096)
            .await
            .unwrap();
        let body: ProblemBody = serde_json::from_slice(&body).unwrap();
        assert_eq!(body.r#type, "urn:fanlight:problem:token_expired");
        assert_eq!((body.title.as_str(), body.status), ("Unauthorized", 401));
        assert_eq!(body.code, ErrorCode::TokenExpired);
    }
}
