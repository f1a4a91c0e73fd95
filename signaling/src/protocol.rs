//! The wire messages: WebSocket (`/ws/{room}`), and the data channels `chat` and `events`.
//!
//! The TypeScript types in `web/sdk/src/generated` are made from these; a test fails when they drift.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// Label of the data channel that carries [`ChatRequest`] up and [`ChatEvent`] down. Reliable, ordered.
pub const CHAT_CHANNEL: &str = "chat";
/// Label of the data channel that carries [`RoomEvent`] down. Reliable, ordered.
pub const EVENTS_CHANNEL: &str = "events";
/// Most characters (Unicode scalar values) of a chat message, after trimming.
pub const CHAT_TEXT_LIMIT: usize = 500;
/// Most characters of a shown name.
pub const NAME_LIMIT: usize = 40;
/// Most participants on a room's stage.
pub const STAGE_LIMIT: u32 = 16;
/// Participants on stage when a room does not say.
pub const STAGE_SIZE: u32 = 9;
/// Audio slots of a viewer that shows the stage: the loudest speakers.
pub const AUDIO_SLOTS: u32 = 3;

/// Why the server closed a WebSocket. Only [`close_code::RESTARTING`], [`close_code::TOO_SLOW`] and
/// [`close_code::SILENT`] are worth joining again for by itself.
pub mod close_code {
    /// A message was not valid UTF-8 (RFC 6455 §7.4.1).
    pub const NOT_UTF8: u16 = 1007;
    /// A message was longer than the server takes (RFC 6455 §7.4.1).
    pub const TOO_LONG: u16 = 1009;
    /// The server is stopping or restarting: join again soon (RFC 6455 registry).
    pub const RESTARTING: u16 = 1012;
    /// Too many messages that could not be understood.
    pub const BAD_MESSAGES: u16 = 4400;
    /// The token is missing where it is needed, invalid or expired; an `error` said which.
    pub const TOKEN: u16 = 4401;
    /// The token does not allow to enter this room; an `error` said why.
    pub const NOT_ALLOWED: u16 = 4403;
    /// There is no such room.
    pub const ROOM_UNKNOWN: u16 = 4404;
    /// No `join` within 10 s, or silence for 45 s.
    pub const SILENT: u16 = 4408;
    /// The client did not read fast enough: join again for a fresh picture.
    pub const TOO_SLOW: u16 = 4429;
    /// The server is full.
    pub const SERVER_FULL: u16 = 4503;
}

/// What a page sends over the WebSocket. The first message is `join`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ClientMessage {
    /// Enters the room of the URL. Answered by `joined` or `error`.
    Join {
        /// A token (JWT), or the `guest_token` of an earlier `joined`. Without one: a new guest, who may
        /// watch a public room.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        token: Option<String>,
        /// The name shown in chat, 1 to 40 characters; the server makes one up when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        name: Option<String>,
    },
    /// Offers to publish. Answered by `answer` or `error`, in the order of the offers. A session has at most
    /// one connection that publishes and one that watches: a new offer takes over from the one before of its
    /// kind.
    Publish {
        /// The SDP offer.
        sdp: String,
    },
    /// Offers to watch. Like `publish`.
    Watch {
        /// The SDP offer.
        sdp: String,
    },
    /// A trickled ICE candidate (RFC 8838). Accepted and not needed: the server learns addresses from checks.
    Candidate {
        /// The candidate line.
        candidate: String,
        /// The mid it belongs to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        sdp_mid: Option<String>,
    },
    /// The broadcaster pauses or goes on: viewers are told, outputs go on.
    SetPaused {
        /// Whether the broadcast is paused.
        paused: bool,
    },
    /// What the layers of this participant's picture are, for the viewers' choice.
    Layers {
        /// Their heights in pixels, the lowest first; at most 4.
        heights: Vec<u32>,
    },
    /// Limits what this participant's watching connection receives of every picture, or lifts the limit.
    Limit {
        /// The highest layer wanted, counted from 0, the lowest; no limit when `null`.
        layer: Option<u8>,
    },
    /// Begins a new ICE session of a media connection, which goes on meanwhile: the browser's way has changed.
    /// Answered by `ice_restarted`.
    RestartIce {
        /// Which.
        media: MediaRole,
        /// The lines of the new offer with its ICE credentials (RFC 8840), or the whole of it.
        fragment: String,
    },
    /// Ends this participant's media and leaves it in the room.
    Stop {
        /// Which; both when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        media: Option<MediaRole>,
    },
    /// Keeps the connection alive; answered by `pong`. The server closes a session silent for 45 s.
    Ping {},
}

/// What the server sends over the WebSocket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage {
    /// The session is in the room.
    Joined {
        /// This participant's identity; stable for a token, made up for a guest.
        identity: String,
        /// The name shown in chat.
        name: String,
        /// What this participant may do.
        grants: Grants,
        /// The room.
        room: RoomInfo,
        /// STUN and TURN servers for the browser.
        ice_servers: Vec<IceServer>,
        /// Only to guests: joining with it as `token` keeps the identity over a reconnect.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        guest_token: Option<String>,
    },
    /// The SDP answer to `publish` or `watch`.
    Answer {
        /// The SDP answer.
        sdp: String,
    },
    /// The room has changed.
    Room {
        /// The room.
        room: RoomInfo,
    },
    /// The states of the room's egress jobs; only to those who may see them (grant `egress`).
    Outputs {
        /// As `GET /api/rooms/{room}/egress` answers (`EgressJob[]`).
        #[ts(type = "unknown[]")]
        jobs: serde_json::Value,
    },
    /// The answer to `restart_ice`.
    IceRestarted {
        /// Which connection.
        media: MediaRole,
        /// The server's credentials, which replace those of the last answer; `null` when there is no such
        /// connection any more, or the fragment was not usable: offer again.
        ice: Option<IceCredentials>,
    },
    /// Which layers of this participant's picture anybody wants has changed: the others need not be encoded.
    WantedLayers {
        /// By layer, in the order of the offer's rids.
        wanted: Vec<bool>,
    },
    /// A media connection of this participant is gone on the server's side: offer again.
    MediaClosed {
        /// Which.
        media: MediaRole,
        /// Stable word: `replaced`, `consent_expired`, `handshake_failed`, `left`, `requested`, `never_connected`;
        /// and of guests, who are not to offer again by themselves: `removed` (by the host), `stage_closed` (the
        /// host is gone).
        reason: String,
    },
    /// A request was refused. The session goes on unless the socket is closed after it.
    Error {
        /// Stable code, see [`ErrorCode`].
        code: ErrorCode,
        /// What happened and what to do, for people.
        message: String,
    },
    /// The answer to `ping`.
    Pong {},
}

/// A room as its members see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct RoomInfo {
    /// Its name in URLs: 1 to 64 of `a-z 0-9 -`.
    pub slug: String,
    /// Its title.
    pub title: String,
    /// Whether a broadcast is on air.
    pub live: bool,
    /// Whether the broadcaster has paused.
    pub paused: bool,
    /// When the broadcast started, Unix milliseconds.
    #[ts(type = "number | null")]
    pub live_since_ms: Option<u64>,
    /// Connected viewers.
    pub viewers: u32,
    /// Whether the room's HLS playlist is being written.
    pub hls: bool,
    /// Most participants on stage, the host included: 1 to 16.
    pub stage_size: u32,
    /// Who is sending, the host first, then by arrival.
    pub stage: Vec<StageMember>,
    /// The identity that the host has featured; the loudest speaker is shown large otherwise.
    pub featured: Option<String>,
}

/// Somebody who is sending into a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct StageMember {
    /// Identity.
    pub identity: String,
    /// The name shown.
    pub name: String,
    /// Whether it is the host, who brings the broadcast to its end by stopping.
    pub host: bool,
}

/// What a media connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum MediaRole {
    /// It sends.
    Publish,
    /// It receives, or carries the data channels alone.
    Watch,
}

/// The credentials of an ICE session (RFC 8839 §5.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct IceCredentials {
    /// Username fragment.
    pub ufrag: String,
    /// Password.
    pub pwd: String,
}

/// What a participant may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct Grants {
    /// Send media as the room's host.
    pub publish: bool,
    /// Send media as a guest, beside a host who is on air.
    pub stage: bool,
    /// Receive media.
    pub subscribe: bool,
    /// Write in chat.
    pub chat: bool,
    /// Start, see and end outputs.
    pub egress: bool,
    /// Create and change rooms.
    pub admin: bool,
}

/// A server for the browser's `RTCConfiguration.iceServers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct IceServer {
    /// `stun:` and `turn:` URLs.
    pub urls: Vec<String>,
    /// TURN user name: expiry and identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub username: Option<String>,
    /// TURN credential: base64 of an HMAC-SHA1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub credential: Option<String>,
}

/// What a participant sends on the `chat` channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ChatRequest {
    /// Says something.
    Say {
        /// 1 to 500 characters.
        text: String,
        /// Chosen by the sender, returned in `refused` and in the sender's own `message`; at most 64 characters.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        nonce: Option<String>,
    },
}

/// What the server sends on the `chat` channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ChatEvent {
    /// The last messages, oldest first, at most 100, when the channel opens. A long history comes in
    /// several of these: merge them by id.
    History {
        /// The messages.
        messages: Vec<ChatMessage>,
    },
    /// Somebody said something.
    Message {
        /// The message.
        message: ChatMessage,
        /// The sender's nonce; only to the sender, who gets the message twice: with the nonce, then as
        /// everybody does. Ids tell that it is the same.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        nonce: Option<String>,
    },
    /// A message was not taken.
    Refused {
        /// `chat_rate_limited`, `chat_too_long`, `chat_empty`, `chat_not_allowed`, `bad_message`.
        code: ErrorCode,
        /// What happened, for people.
        message: String,
        /// When to try again, for `chat_rate_limited`.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[ts(optional, type = "number")]
        retry_after_ms: Option<u64>,
        /// The refused message's nonce.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        nonce: Option<String>,
    },
}

/// One chat message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct ChatMessage {
    /// Increases within a room.
    #[ts(type = "number")]
    pub id: i64,
    /// Who wrote it.
    pub identity: String,
    /// The name shown.
    pub name: String,
    /// Whether the writer is the room's broadcaster (may publish).
    pub host: bool,
    /// The text.
    pub text: String,
    /// When, Unix milliseconds.
    #[ts(type = "number")]
    pub at_ms: u64,
}

/// What the server sends on the `events` channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RoomEvent {
    /// The room has changed (viewers, live, paused, stage).
    Room {
        /// The room.
        room: RoomInfo,
    },
    /// What the slots of a viewer that shows the stage carry. Slot `n` of a kind is the viewer's `n`-th m-line
    /// of that kind; a viewer with one m-line of a kind receives the program on it instead.
    Stage {
        /// By slot; `null` for one that carries nothing.
        video: Vec<Option<Slot>>,
        /// By slot: the loudest speakers.
        audio: Vec<Option<Slot>>,
        /// The identity whose picture is to be shown large.
        program: Option<String>,
    },
}

/// What a slot carries. Nobody receives what they send themselves: their own slots stay silent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Slot {
    /// Its number, from 0.
    pub slot: u32,
    /// Whose it is.
    pub identity: String,
    /// The name shown.
    pub name: String,
    /// Picture or sound.
    pub kind: TrackKind,
    /// How high the layers of a picture are in pixels, the lowest first; empty when its sender did not say.
    pub heights: Vec<u32>,
}

/// Picture or sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum TrackKind {
    /// Picture.
    Video,
    /// Sound.
    Audio,
}

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

/// The body of `POST /api/rooms`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct CreateRoom {
    /// Its name in URLs: 1 to 64 of `a-z 0-9 -`.
    pub slug: String,
    /// Its title, 1 to 100 characters; the slug when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub title: Option<String>,
    /// Most participants on stage, 1 to 16; 9 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub stage_size: Option<u32>,
}

/// The body of `PATCH /api/rooms/{room}`: what is to change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields, default)]
#[ts(optional_fields)]
pub struct ChangeRoom {
    /// Its title, 1 to 100 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Most participants on stage, 1 to 16. Who is on stage stays; viewers show more of them after joining again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage_size: Option<u32>,
}

/// The answer of `GET /api/rooms`: the public rooms, live ones first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct RoomList {
    /// The rooms, at most 200.
    pub rooms: Vec<RoomInfo>,
}

/// The body of `POST /api/rooms/{room}/tokens`. Every token may watch; the rest is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields, default)]
#[ts(optional_fields)]
pub struct CreateToken {
    /// Who it is for, 1 to 64 characters; a new identity when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// The name shown in chat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// May broadcast.
    #[ts(optional, as = "Option<bool>")]
    pub publish: bool,
    /// May join the stage as a guest.
    #[ts(optional, as = "Option<bool>")]
    pub stage: bool,
    /// May write in chat.
    #[ts(optional, as = "Option<bool>")]
    pub chat: bool,
    /// May start, see and end outputs.
    #[ts(optional, as = "Option<bool>")]
    pub egress: bool,
    /// May do everything in the room.
    #[ts(optional, as = "Option<bool>")]
    pub admin: bool,
    /// How long it is valid, 60 s to 365 days; 12 h when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
}

/// The answer of `POST /api/rooms/{room}/tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct CreatedToken {
    /// The token: for `Authorization: Bearer`, and for the bearer field of OBS.
    pub token: String,
    /// Whose it is.
    pub identity: String,
    /// When it expires, Unix milliseconds.
    #[ts(type = "number")]
    pub expires_at_ms: u64,
}

/// The body of `POST /api/rooms/{room}/invites`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields, default)]
#[ts(optional_fields)]
pub struct CreateInvite {
    /// How long it is valid, 60 s to 365 days; 24 h when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
}

/// The answer of `POST /api/rooms/{room}/invites`: an invitation for any number of guests. Each who joins with it
/// is somebody of their own, who may join the stage and write in chat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct CreatedInvite {
    /// The token: for the page, and for `Authorization: Bearer` of WHIP.
    pub token: String,
    /// Path and fragment of the page that guests open.
    pub path: String,
    /// When it expires, Unix milliseconds.
    #[ts(type = "number")]
    pub expires_at_ms: u64,
}

/// The body of `PUT /api/rooms/{room}/featured`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct Feature {
    /// Who is shown large, and to viewers with one picture alone; `null`: the loudest speaker.
    pub identity: Option<String>,
}

/// The answer of `GET /api/rooms/{room}/participants`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct ParticipantList {
    /// Everybody with a media connection, those on stage first; at most 1000.
    pub participants: Vec<Participant>,
    /// How many there are.
    pub total: u32,
}

/// Somebody with a media connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Participant {
    /// Identity.
    pub identity: String,
    /// The name shown.
    pub name: String,
    /// Whether they are the host.
    pub host: bool,
    /// Whether they are on stage: the host or a guest.
    pub on_stage: bool,
    /// Connections that send.
    pub publishing: u32,
    /// Connections that receive.
    pub watching: u32,
}

/// The answer of `GET /api/rooms/{room}/participants/{identity}/stats`.
#[derive(Clone, Debug, PartialEq, Serialize, TS)]
pub struct ParticipantStats {
    /// Whose they are.
    pub identity: String,
    /// Each of their connections, as the server sees it; the fields are described in `docs/api.md`.
    #[ts(type = "Record<string, unknown>[]")]
    pub connections: Vec<sfu::PeerStats>,
}
