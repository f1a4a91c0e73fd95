//! Platforms that take RTMP, so that a request needs no more than the key.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// A platform whose address is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, TS)]
#[serde(rename_all = "snake_case")]
#[ts(rename = "EgressPlatform")]
pub enum Platform {
    /// YouTube.
    Youtube,
    /// Facebook.
    Facebook,
    /// Twitch.
    Twitch,
    /// Vimeo.
    Vimeo,
}

impl Platform {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Youtube, Self::Facebook, Self::Twitch, Self::Vimeo];

    /// Returns where it takes streams, as `web/app/src/platforms.ts` has it, too.
    pub fn url(self) -> &'static str {
        match self {
            Self::Youtube => "rtmps://a.rtmps.youtube.com/live2",
            Self::Facebook => "rtmps://live-api-s.facebook.com:443/rtmp",
            Self::Twitch => "rtmp://live.twitch.tv/app",
            Self::Vimeo => "rtmps://rtmp-global.cloud.vimeo.com:443/live",
        }
    }
}
