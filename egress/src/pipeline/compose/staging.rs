//! Who is shown where at which time. Pure.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    layout::{Canvas, Picture, Place, arrange},
    scene::{Layout, Scene, Tile},
};

/// Decides, for every picture that goes out, what is in it: whose media has come, and for how long.
#[derive(Debug)]
pub(crate) struct Staging {
    canvas: Canvas,
    frame: Duration,
    scene: Scene,
    showing: BTreeMap<u32, Showing>,
    /// Who was large last.
    large: Option<u32>,
    /// The time of the last plan.
    at: Duration,
}

/// What has come in a lane.
#[derive(Debug, Clone, Copy)]
struct Showing {
    /// When it may be shown from.
    from: Duration,
    /// The time of its newest frame.
    last: Duration,
}

/// What one picture that goes out consists of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Nobody is shown when empty: then it is the slate.
    pub(crate) places: Vec<Place>,
}

impl Staging {
    /// `frame` is how long each picture that goes out is shown.
    pub(crate) fn new(canvas: Canvas, frame: Duration) -> Self {
        Self {
            canvas,
            frame,
            scene: Scene::default(),
            showing: BTreeMap::new(),
            large: None,
            at: Duration::ZERO,
        }
    }

    pub(crate) fn canvas(&self) -> Canvas {
        self.canvas
    }

    pub(crate) fn scene(&self) -> &Scene {
        &self.scene
    }

    pub(crate) fn set_scene(&mut self, scene: Scene) {
        self.showing
            .retain(|lane, _| scene.tiles.iter().any(|tile| tile.video == Some(*lane)));
        self.scene = scene;
    }

    /// Takes in that a frame has been decoded, to be shown at `time`.
    pub(crate) fn handle_frame(&mut self, lane: u32, time: Duration) {
        // One that comes late must be with the mixer before it is waited for.
        let from = time.max(self.at + 2 * self.frame);
        let at = self.at;
        let showing = self
            .showing
            .entry(lane)
            .or_insert(Showing { from, last: time });
        if !showing.is_on(at) && at >= showing.from {
            showing.from = from;
        }
        showing.last = showing.last.max(time);
    }

    /// Forgets a lane: nothing will come of it.
    pub(crate) fn remove(&mut self, lane: u32) {
        self.showing.remove(&lane);
    }

    /// Returns the lanes that would be shown if all had come: those worth decoding.
    pub(crate) fn wanted(&self) -> Vec<Place> {
        let everybody: Vec<Picture> = self.scene.tiles.iter().filter_map(picture).collect();
        arrange(
            self.scene.layout,
            self.canvas,
            &everybody,
            self.scene.main.or(self.large),
        )
    }

    /// Returns what is shown at `at`. Those times only grow.
    pub(crate) fn plan(&mut self, at: Duration) -> Plan {
        self.at = at;
        let is_on = |lane: u32| self.showing.get(&lane).is_some_and(|s| s.is_on(at));
        let present: Vec<Picture> = self
            .scene
            .tiles
            .iter()
            .filter_map(picture)
            .filter(|picture| is_on(picture.lane))
            .collect();
        // Until the one that is to be large has come, who was stays.
        let main = self.scene.main.filter(|main| is_on(*main)).or(self.large);
        let places = arrange(self.scene.layout, self.canvas, &present, main);
        if self.scene.layout != Layout::Grid {
            self.large = places.first().map(|place| place.lane);
        }
        Plan { places }
    }
}

impl Showing {
    fn is_on(&self, at: Duration) -> bool {
        at >= self.from && at < self.last + STALL
    }
}

fn picture(tile: &Tile) -> Option<Picture> {
    Some(Picture {
        lane: tile.video?,
        screen: tile.screen,
    })
}

/// A picture without a new frame for this long is taken off: three times the frame interval of an unchanging screen.
const STALL: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: [u32; 0] = [];

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn staging(layout: Layout, lanes: &[u32]) -> Staging {
        let canvas = Canvas {
            width: 1280,
            height: 720,
        };
        let mut staging = Staging::new(canvas, ms(33));
        staging.set_scene(scene(layout, lanes));
        staging
    }

    fn scene(layout: Layout, lanes: &[u32]) -> Scene {
        let tile = |lane: &u32| Tile {
            video: Some(*lane),
            ..Tile::default()
        };
        Scene {
            layout,
            tiles: lanes.iter().map(tile).collect(),
            ..Scene::default()
        }
    }

    fn shown(staging: &mut Staging, at: u64) -> Vec<u32> {
        let places = staging.plan(ms(at)).places;
        places.iter().map(|place| place.lane).collect()
    }

    #[test]
    fn who_comes_is_shown_from_their_first_frame_on() {
        let mut staging = staging(Layout::Grid, &[1, 2]);
        assert_eq!(shown(&mut staging, 1000), NOBODY, "the slate");
        staging.handle_frame(1, ms(1200));
        assert_eq!(shown(&mut staging, 1166), NOBODY);
        assert_eq!(shown(&mut staging, 1200), [1]);
        staging.handle_frame(2, ms(1100));
        assert_eq!(shown(&mut staging, 1233), [1], "its frame is on its way");
        assert_eq!(shown(&mut staging, 1266), [1, 2]);
    }

    #[test]
    fn who_stalls_makes_room_and_comes_back() {
        let mut staging = staging(Layout::Grid, &[1, 2]);
        staging.handle_frame(1, ms(1000));
        staging.handle_frame(2, ms(1000));
        assert_eq!(shown(&mut staging, 2000), [1, 2]);
        staging.handle_frame(2, ms(3000));
        assert_eq!(shown(&mut staging, 4000), [2]);
        staging.handle_frame(1, ms(4200));
        assert_eq!(shown(&mut staging, 4100), [2]);
        assert_eq!(shown(&mut staging, 4200), [1, 2]);
    }

    #[test]
    fn who_was_large_stays_until_the_next_has_come() {
        let mut staging = staging(Layout::Single, &[1, 2]);
        staging.handle_frame(1, ms(100));
        assert_eq!(shown(&mut staging, 200), [1]);
        let mut next = scene(Layout::Single, &[1, 2]);
        next.main = Some(2);
        staging.set_scene(next);
        let wanted: Vec<u32> = staging.wanted().iter().map(|place| place.lane).collect();
        assert_eq!(wanted, [2], "its decoder starts");
        assert_eq!(shown(&mut staging, 300), [1]);
        staging.handle_frame(2, ms(500));
        assert_eq!(shown(&mut staging, 400), [1]);
        assert_eq!(shown(&mut staging, 500), [2]);
    }

    #[test]
    fn who_leaves_is_gone_at_once() {
        let mut staging = staging(Layout::Speaker, &[1, 2]);
        staging.handle_frame(1, ms(100));
        staging.handle_frame(2, ms(100));
        assert_eq!(shown(&mut staging, 200), [1, 2]);
        staging.set_scene(scene(Layout::Speaker, &[2]));
        assert_eq!(shown(&mut staging, 233), [2]);
        staging.set_scene(scene(Layout::Speaker, &[1, 2]));
        assert_eq!(shown(&mut staging, 266), [2], "it has to come again");
    }
}
