//! Whose tracks are recorded apart, and what their folders and files are called.

use serde::{Deserialize, Serialize};

use crate::{scene::Scene, status::Track};

/// A track of somebody on stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cast {
    /// The track's lane; unique within a run of the server.
    pub(crate) lane: u32,
    pub(crate) identity: String,
    pub(crate) name: String,
    pub(crate) track: Track,
}

/// A track of which there are files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Role {
    /// The name of the folder in which it was recorded.
    pub(crate) folder: String,
    pub(crate) identity: String,
    pub(crate) name: String,
    pub(crate) track: Track,
}

impl Cast {
    /// Returns the tracks of everybody on stage.
    pub(crate) fn of(scene: &Scene) -> Vec<Self> {
        let mut cast = Vec::new();
        for (n, tile) in scene.tiles.iter().enumerate() {
            // By position, as what jobs are asked to send: a camera that turns into a screen stays one file.
            let before = scene.tiles.iter().take(n);
            let is_second = before
                .map(|tile| &tile.identity)
                .any(|identity| *identity == tile.identity);
            let (picture, sound) = if is_second {
                (Track::Screen, Track::ScreenAudio)
            } else {
                (Track::Camera, Track::Microphone)
            };
            let lanes = tile.video.iter().map(|lane| (*lane, picture));
            let lanes = lanes.chain(tile.audio.iter().map(|lane| (*lane, sound)));
            cast.extend(lanes.map(|(lane, track)| Self {
                lane,
                identity: tile.identity.clone(),
                name: tile.name.clone(),
                track,
            }));
        }
        cast
    }
}

impl Role {
    /// Returns the role of what was recorded in a folder of this name.
    pub(super) fn of(folder: &str, cast: &[(String, Cast)], is_picture: bool) -> Self {
        let found = cast.iter().find(|(name, _)| name == folder);
        let (identity, name, track) = match found {
            Some((_, cast)) => (cast.identity.clone(), cast.name.clone(), cast.track),
            None if is_picture => (String::new(), String::new(), Track::Camera),
            None => (String::new(), String::new(), Track::Microphone),
        };
        Self {
            folder: folder.to_owned(),
            identity,
            name,
            track,
        }
    }

    /// Returns what the names of its files have in them.
    pub(super) fn label(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let identity: String = self.identity.chars().take(40).map(plain).collect();
        let track = match self.track {
            Track::Camera => "camera",
            Track::Screen => "screen",
            Track::Microphone => "microphone",
            Track::ScreenAudio => "screen_audio",
        };
        if identity.is_empty() {
            track.to_owned()
        } else {
            format!("{identity}-{track}")
        }
    }
}

/// Returns the name of the folder in which a track is recorded, beside the recording itself.
pub(crate) fn track_folder(run: &str, lane: u32) -> String {
    format!("{PREFIX}{run}-{lane}")
}

/// Returns whether a folder of this name is one of a track.
pub(super) fn is_track_folder(name: &str) -> bool {
    name.starts_with(PREFIX)
}

const PREFIX: &str = "track-";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::Tile;

    #[test]
    fn everybody_on_stage_is_known_by_lane() {
        let tile = |identity: &str, screen, video, audio: &[u32]| Tile {
            identity: identity.to_owned(),
            screen,
            video,
            audio: audio.to_vec(),
            ..Tile::default()
        };
        let scene = Scene {
            tiles: vec![
                tile("anna", false, Some(3), &[4]),
                tile("anna", true, Some(7), &[]),
                tile("bob ö/..", false, None, &[9]),
                tile("cid", true, Some(11), &[12]),
            ],
            ..Scene::default()
        };
        let cast = Cast::of(&scene).into_iter();
        let noted: Vec<_> = cast
            .map(|cast| (track_folder("r", cast.lane), cast))
            .collect();
        let label = |lane| Role::of(&track_folder("r", lane), &noted, true).label();
        assert_eq!(
            [3, 4, 7, 9, 11, 12, 1].map(label),
            [
                "anna-camera",
                "anna-microphone",
                "anna-screen",
                "bob_____-microphone",
                "cid-camera",
                "cid-microphone",
                "camera"
            ]
        );
    }
}
