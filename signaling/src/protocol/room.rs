//! A room as its members see it, and the data channel `events`.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Layout, Look};

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
    /// Connected viewers: pages, also those that play HLS, and WHEP players. Other players of HLS are not counted.
    pub viewers: u32,
    /// Whether the room's HLS playlist is being written.
    pub hls: bool,
    /// Most participants on stage, the host included: 1 to 16.
    pub stage_size: u32,
    /// Who is sending, the host first, then by arrival.
    pub stage: Vec<StageMember>,
    /// The identity that the host has featured; the loudest speaker is shown large otherwise.
    pub featured: Option<String>,
    /// How the pictures of the stage are arranged where they are composed.
    pub layout: Layout,
    /// What is around and over them there.
    pub look: Box<Look>,
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
