//! Refusals.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// Stable codes of refusals, on every channel and in `application/problem+json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// This needs a token, and there was none.
    TokenMissing,
    /// The token cannot be read, or this server's secret did not sign it.
    TokenInvalid,
    /// The token is past its expiry.
    TokenExpired,
    /// The token is for another room.
    TokenWrongRoom,
    /// The token lacks the grant for this.
    NotAllowed,
    /// There is no such room.
    RoomUnknown,
    /// There is such a room already.
    RoomExists,
    /// Another identity is broadcasting in the room.
    RoomHasPublisher,
    /// As many are on stage as the room allows.
    StageFull,
    /// A guest cannot join: the host is not on air.
    StageClosed,
    /// The host has taken this guest off the stage.
    RemovedFromStage,
    /// There is nobody of this identity.
    ParticipantUnknown,
    /// The room's name is not 1 to 64 of `a-z 0-9 -`.
    RoomNameInvalid,
    /// A text of the room's look is too long, or its colour is none.
    LookInvalid,
    /// The room has no such image.
    ImageUnknown,
    /// The upload is no PNG or JPEG image that can be read, or is smaller than 16 x 16 pixels.
    ImageInvalid,
    /// The image has an edge longer than 4096 pixels.
    ImageTooLarge,
    /// The request could not be understood.
    BadMessage,
    /// The SDP offer is not usable.
    SdpInvalid,
    /// No codec in common.
    NoCommonMedia,
    /// No such session, or it has ended.
    SessionUnknown,
    /// The entity tag does not match the ICE session.
    IceSessionMismatch,
    /// The content type is not the expected one.
    UnsupportedMediaType,
    /// The body is larger than allowed.
    BodyTooLarge,
    /// The server is full or stopping.
    ServerFull,
    /// Too many chat messages; wait a little.
    ChatRateLimited,
    /// The chat message is longer than 500 characters.
    ChatTooLong,
    /// The chat message is empty.
    ChatEmpty,
    /// This participant may not write in chat.
    ChatNotAllowed,
    /// A `PATCH` without `If-Match` (RFC 9725 §4.3.1).
    PreconditionRequired,
    /// The method is not one of this resource's.
    MethodNotAllowed,
    /// There is nothing at this path.
    NotFound,
    /// Something failed on the server's side; details are in its log.
    Internal,
}

/// The body of every HTTP refusal, `application/problem+json` (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(rename = "Problem")]
pub struct ProblemBody {
    /// `urn:fanlight:problem:` and the code.
    pub r#type: String,
    /// The HTTP status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened and what to do, for people.
    pub detail: String,
    /// Stable code.
    pub code: ErrorCode,
}
