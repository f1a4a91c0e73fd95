//! What is asked for while a job runs.

use serde::{Deserialize, Deserializer, Serialize};
use ts_rs::TS;

use super::{Destination, Layout, Preset, StreamKey};

/// The body of `PATCH /api/rooms/{room}/egress/{id}`: all of it happens, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, TS)]
#[serde(deny_unknown_fields, default)]
#[ts(rename = "EgressChange")]
pub struct Change {
    /// Destinations to add.
    pub add: Vec<Destination>,
    /// Ids of destinations to end and remove. When none is left, the job ends.
    pub remove: Vec<String>,
    /// Ids of destinations to try again now, even given up ones.
    pub retry: Vec<String>,
    /// Another arrangement of a composed picture; `null` for the one that the host sets.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[ts(optional = nullable, as = "Option<Layout>")]
    pub layout: Option<Option<Layout>>,
    /// Another preset of a composed picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub preset: Option<Preset>,
}

/// Tells `null` from what is not there.
fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<Layout>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// The body of `PATCH /api/rooms/{room}/egress/{id}/destinations/{destination}`. With neither, it is tried
/// again now, even a given up one. With one, it is replaced: it gets a new id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, TS)]
#[serde(deny_unknown_fields, default)]
#[ts(rename = "EgressDestinationChange")]
pub struct DestinationChange {
    /// Another URL.
    #[ts(optional)]
    pub url: Option<String>,
    /// Another stream key; with SRT, another stream id.
    #[ts(optional, as = "Option<String>")]
    pub key: Option<StreamKey>,
}

impl DestinationChange {
    /// Returns whether it is only to be tried again.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns what `destination` becomes; `None` when it has no address.
    pub(crate) fn apply(self, destination: Destination) -> Option<Destination> {
        match destination {
            Destination::Rtmp { url, platform, key } => Some(Destination::Rtmp {
                platform: platform.filter(|_| self.url.is_none()),
                url: self.url.unwrap_or(url),
                key: self.key.unwrap_or(key),
            }),
            Destination::Srt {
                url,
                stream_id,
                passphrase,
                latency_ms,
            } => Some(Destination::Srt {
                url: self.url.unwrap_or(url),
                stream_id: self.key.or(stream_id),
                passphrase,
                latency_ms,
            }),
            Destination::Hls { .. } | Destination::Recording(_) | Destination::Thumbnails(_) => {
                None
            }
        }
    }
}
