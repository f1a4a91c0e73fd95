//! Small pictures for the seek bar: which ones, and the list that says where each is.

use std::fmt::Write as _;

use super::movie::Keyframe;

/// One small picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tile {
    pub(crate) from_ms: u64,
    pub(crate) to_ms: u64,
    /// What it shows.
    pub(crate) keyframe: Keyframe,
}

/// Chooses at most [`MOST`] pictures, evenly over the file.
pub(crate) fn plan(keyframes: &[Keyframe], duration_ms: u64) -> Vec<Tile> {
    let step = duration_ms.div_ceil(MOST).max(SHORTEST_MS);
    let steps = duration_ms.div_ceil(step);
    let tile = |number: u64| {
        let (from_ms, to_ms) = (number * step, ((number + 1) * step).min(duration_ms));
        // The picture that a player lands on when it seeks there.
        let before = keyframes.partition_point(|k| k.time_ms <= (from_ms + to_ms) / 2);
        let keyframe = keyframes.get(before.saturating_sub(1))?;
        Some(Tile {
            from_ms,
            to_ms,
            keyframe: *keyframe,
        })
    };
    (0..steps).filter_map(tile).collect()
}

/// Returns the size of a small picture of a file with pictures of this size.
pub(crate) fn tile(width: u16, height: u16) -> (u16, u16) {
    let scaled = u32::from(height) * u32::from(WIDTH) / u32::from(width.max(1));
    let even = scaled.clamp(60, 284) & !1;
    (WIDTH, u16::try_from(even).unwrap_or(90))
}

/// Returns the list in WebVTT, as players of every make read it: times and `image#xywh=…` (Media Fragments).
pub(crate) fn list(tiles: &[Tile], size: (u16, u16), image: &str) -> String {
    let mut text = String::from("WEBVTT\n");
    for (tile, number) in tiles.iter().zip(0..) {
        let (x, y) = (number % COLUMNS, number / COLUMNS);
        let (width, height) = (usize::from(size.0), usize::from(size.1));
        let _ = write!(
            text,
            "\n{} --> {}\n{image}#xywh={},{},{width},{height}\n",
            clock(tile.from_ms),
            clock(tile.to_ms),
            x * width,
            y * height,
        );
    }
    text
}

fn clock(ms: u64) -> String {
    let seconds = ms / 1000;
    format!(
        "{:02}:{:02}:{:02}.{:03}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        ms % 1000
    )
}

/// Pictures in a row of the sheet.
pub(crate) const COLUMNS: usize = 10;
const MOST: u64 = 100;
const SHORTEST_MS: u64 = 2000;
const WIDTH: u16 = 160;

#[cfg(test)]
mod tests {
    use super::*;

    fn keyframes(count: u64) -> Vec<Keyframe> {
        let keyframe = |number| Keyframe {
            time_ms: number * 2000,
            at: number,
            size: 1,
        };
        (0..count).map(keyframe).collect()
    }

    #[test]
    fn pictures_are_spread_over_the_file() {
        for (duration_ms, expected) in [
            (0, 0),
            (500, 1),
            (5000, 3),
            (200_000, 100),
            (3_600_000, 100),
        ] {
            let tiles = plan(&keyframes(duration_ms / 2000 + 1), duration_ms);
            assert_eq!(tiles.len(), expected, "{duration_ms} ms");
            assert!(tiles.windows(2).all(|w| w[0].to_ms == w[1].from_ms));
            assert!(tiles.last().is_none_or(|tile| tile.to_ms == duration_ms));
            let shown = tiles.iter().all(|tile| tile.keyframe.time_ms <= tile.to_ms);
            assert!(shown, "{tiles:?}");
        }
        assert!(plan(&[], 10_000).is_empty(), "sound alone");
    }

    #[test]
    fn the_list_maps_times_to_rectangles() {
        let tiles = plan(&keyframes(60), 40_000);
        let text = list(&tiles, tile(1280, 720), "a.jpg");
        assert!(text.starts_with(
            "WEBVTT\n\n00:00:00.000 --> 00:00:02.000\na.jpg#xywh=0,0,160,90\n\n00:00:02.000 --> "
        ));
        assert!(text.contains("00:00:22.000 --> 00:00:24.000\na.jpg#xywh=160,90,160,90\n"));
        assert_eq!(tile(720, 1280), (160, 284));
    }
}
