//! What outputs look like: the presets by name, and what may be asked for.

use serde::{Deserialize, Serialize};

use crate::{
    config::Config,
    overload::Level,
    status::{CustomPreset, PresetName},
};

/// The video that a composed job makes. The sound is always AAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Preset {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) frame_rate: u32,
    pub(crate) bitrate_bps: u32,
    pub(crate) keyframe_interval_ms: u32,
}

/// Where a job's video comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Mode {
    /// The publisher's own, as it is; a codec that outputs do not take is transcoded.
    PassThrough,
    /// Composed and encoded here, once for all destinations.
    Composed(Preset),
}

impl Mode {
    /// Returns what a preset's name stands for.
    pub(crate) fn named(name: PresetName) -> Self {
        let (width, height, frame_rate, bitrate_bps) = match name {
            PresetName::PassThrough => return Self::PassThrough,
            PresetName::P480p30 => (854, 480, 30, 1_500_000),
            PresetName::P720p30 => (1280, 720, 30, 3_000_000),
            PresetName::P720p60 => (1280, 720, 60, 4_500_000),
            PresetName::P1080p30 => (1920, 1080, 30, 4_500_000),
            PresetName::P1080p60 => (1920, 1080, 60, 6_000_000),
        };
        Self::Composed(Preset {
            width,
            height,
            frame_rate,
            bitrate_bps,
            keyframe_interval_ms: KEYFRAME_INTERVAL_MS,
        })
    }

    /// Returns how the sound of many is mixed: with a picture that costs next to nothing, and is left out.
    pub(crate) fn sound() -> Self {
        Self::Composed(Preset {
            width: 160,
            height: 90,
            frame_rate: 15,
            bitrate_bps: 100_000,
            keyframe_interval_ms: KEYFRAME_INTERVAL_MS,
        })
    }

    /// Returns for how long sessions are held open while nothing arrives; `None` where a slate goes out instead.
    pub(crate) fn hold_ms(self, config: &Config) -> Option<u64> {
        match self {
            Self::PassThrough => Some(config.hold_ms),
            Self::Composed(_) => None,
        }
    }

    /// Returns what somebody's own preset asks for; `None` when it is out of range.
    pub(crate) fn custom(custom: &CustomPreset) -> Option<Self> {
        let keyframe_interval_ms = custom.keyframe_interval_ms.unwrap_or(KEYFRAME_INTERVAL_MS);
        let is_size = |n: u32| (64..=3840).contains(&n) && n.is_multiple_of(2);
        let fits = is_size(custom.width)
            && is_size(custom.height)
            && (1..=60).contains(&custom.frame_rate)
            && (100_000..=20_000_000).contains(&custom.bitrate_bps)
            && (500..=10_000).contains(&keyframe_interval_ms);
        fits.then_some(Self::Composed(Preset {
            width: custom.width,
            height: custom.height,
            frame_rate: custom.frame_rate,
            bitrate_bps: custom.bitrate_bps,
            keyframe_interval_ms,
        }))
    }
}

impl Preset {
    /// Returns it as the API shows it.
    pub(crate) fn shown(self) -> CustomPreset {
        CustomPreset {
            width: self.width,
            height: self.height,
            frame_rate: self.frame_rate,
            bitrate_bps: self.bitrate_bps,
            keyframe_interval_ms: Some(self.keyframe_interval_ms),
        }
    }

    /// Returns what it becomes while the machine has not enough for it.
    pub(crate) fn at(self, level: Level) -> Self {
        let fewer = Self {
            frame_rate: (self.frame_rate / 2).max(1),
            bitrate_bps: self.bitrate_bps / 3 * 2,
            ..self
        };
        let smaller = |n: u32| (n / 3 * 2).next_multiple_of(2);
        match level {
            Level::Full => self,
            Level::FewerFrames | Level::Paused => fewer,
            Level::Smaller => Self {
                width: smaller(self.width),
                height: smaller(self.height),
                bitrate_bps: self.bitrate_bps / 2,
                ..fewer
            },
        }
    }
}

/// What the platforms and HLS want.
const KEYFRAME_INTERVAL_MS: u32 = 2000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slate_goes_out_for_as_long_as_its_job_runs() {
        let config = Config::default();
        assert_eq!(Mode::PassThrough.hold_ms(&config), Some(60_000));
        assert_eq!(Mode::named(PresetName::P720p30).hold_ms(&config), None);
    }
}
