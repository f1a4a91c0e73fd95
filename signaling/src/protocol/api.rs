//! Bodies and answers of the HTTP API.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{ChangeLook, Layout, RoomInfo};

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
    /// How the pictures of its stage are arranged where they are composed; the host may change it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layout: Option<Layout>,
    /// What is around and over them; the host may change it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub look: Option<ChangeLook>,
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
