//! The WebSocket (`/ws/{room}`): what a page and the server say.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{ErrorCode, RoomInfo};

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
        /// Whether to receive what this participant publishes, too, as a player does and somebody on stage does not.
        #[serde(default)]
        #[ts(optional, as = "Option<bool>")]
        own: bool,
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
    /// What this participant's picture is: its layers, for the viewers' choice, and what it shows, for composed
    /// outputs. Sent for each connection that publishes, and when it changes.
    Layers {
        /// The heights of its layers in pixels, the lowest first; at most 4.
        heights: Vec<u32>,
        /// Whether it is a shared screen.
        #[serde(default)]
        screen: bool,
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
    /// A recording can be played; only to those who may see the room's outputs (grant `egress`).
    RecordingReady {
        /// As `GET /api/rooms/{room}/recordings/{id}` answers (`Recording`).
        #[ts(type = "unknown")]
        recording: serde_json::Value,
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
        /// By layer: in the order of the offer's rids, or of the spatial layers of a scalable stream, the lowest first.
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
