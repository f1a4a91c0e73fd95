//! Which picture goes where: the only place that decides it. Pure.

use crate::scene::Layout;

/// The size of the composed picture in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Canvas {
    pub(crate) width: u32,
    pub(crate) height: u32,
}

/// A part of the canvas, in even pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Rect {
    pub(crate) x: u32,
    pub(crate) y: u32,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

/// A picture that wants to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) lane: u32,
    pub(crate) screen: bool,
}

/// Where a picture goes. It is fitted into its rectangle, whatever its shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) lane: u32,
    pub(crate) rect: Rect,
    /// Higher is nearer.
    pub(crate) depth: u32,
}

/// Arranges `pictures`, which are in the order of the stage. `main` is to be large, where the layout has a large
/// one; without it the first is. A screen comes before `main` where the layout is made for screens.
pub(crate) fn arrange(
    layout: Layout,
    canvas: Canvas,
    pictures: &[Picture],
    main: Option<u32>,
) -> Vec<Place> {
    let whole = Rect {
        x: 0,
        y: 0,
        width: canvas.width,
        height: canvas.height,
    };
    let large = match layout {
        Layout::Grid => None,
        Layout::Speaker | Layout::Single => find(pictures, main),
        Layout::PictureInPicture | Layout::Screen => {
            screen(pictures, main).or(find(pictures, main))
        }
    };
    let Some(large) = large else {
        return grid(whole, pictures);
    };
    let others = pictures.iter().filter(|picture| picture.lane != large);
    match layout {
        Layout::Grid | Layout::Single => vec![place(large, whole, 0)],
        Layout::Speaker | Layout::Screen => beside(whole, large, others.take(STRIP)),
        Layout::PictureInPicture => inside(whole, large, others.take(INSETS)),
    }
}

/// Returns the main picture, or the first one.
fn find(pictures: &[Picture], main: Option<u32>) -> Option<u32> {
    let wanted = pictures.iter().find(|picture| Some(picture.lane) == main);
    Some(wanted.or(pictures.first())?.lane)
}

/// Returns the screen to show: the main picture if it is one, or the newest.
fn screen(pictures: &[Picture], main: Option<u32>) -> Option<u32> {
    let screens = || pictures.iter().filter(|picture| picture.screen);
    let wanted = screens().find(|picture| Some(picture.lane) == main);
    Some(wanted.or(screens().next_back())?.lane)
}

/// As many columns as make the tiles largest; the last row is centred.
fn grid(whole: Rect, pictures: &[Picture]) -> Vec<Place> {
    let count = u32::try_from(pictures.len()).unwrap_or(u32::MAX).min(GRID);
    if count <= 1 {
        return pictures
            .iter()
            .take(1)
            .map(|p| place(p.lane, whole, 0))
            .collect();
    }
    let columns = columns(whole, count);
    let rows = count.div_ceil(columns);
    let gap = gap(whole);
    let cell = Rect {
        x: 0,
        y: 0,
        width: even((whole.width - gap * (columns + 1)) / columns),
        height: even((whole.height - gap * (rows + 1)) / rows),
    };
    let tile = fit(cell);
    let left_over = |whole: u32, used: u32| even(whole.saturating_sub(used) / 2);
    let top = left_over(whole.height, rows * tile.height + (rows - 1) * gap);
    let places = (0..count).zip(pictures).map(|(n, picture)| {
        let (row, column) = (n / columns, n % columns);
        let in_row = columns.min(count - row * columns);
        let left = left_over(whole.width, in_row * tile.width + (in_row - 1) * gap);
        let rect = Rect {
            x: left + column * (tile.width + gap),
            y: top + row * (tile.height + gap),
            ..tile
        };
        place(picture.lane, rect, 0)
    });
    places.collect()
}

/// Returns the number of columns with which a tile of the usual shape is widest.
fn columns(whole: Rect, count: u32) -> u32 {
    let tile_width = |columns: u32| {
        let rows = count.div_ceil(columns);
        fit(Rect {
            width: whole.width / columns,
            height: whole.height / rows,
            ..whole
        })
        .width
    };
    // Of equals the one with more columns.
    (1..=count)
        .max_by_key(|columns| tile_width(*columns))
        .unwrap_or(1)
}

/// One large, the others in a column on its right.
fn beside<'a>(whole: Rect, large: u32, others: impl Iterator<Item = &'a Picture>) -> Vec<Place> {
    let others: Vec<_> = others.collect();
    let Some(count) = u32::try_from(others.len()).ok().filter(|count| *count > 0) else {
        return vec![place(large, whole, 0)];
    };
    let gap = gap(whole);
    let strip = even(whole.width / 5);
    let main = Rect {
        x: gap,
        y: gap,
        width: even(whole.width - strip - 3 * gap),
        height: even(whole.height - 2 * gap),
    };
    let cell = fit(Rect {
        x: main.x + main.width + gap,
        y: 0,
        width: strip,
        height: even((whole.height - gap * (count + 1)) / count),
    });
    let used = count * cell.height + (count - 1) * gap;
    let top = even(whole.height.saturating_sub(used) / 2);
    let mut places = vec![place(large, main, 0)];
    places.extend((0..count).zip(others).map(|(n, picture)| {
        let y = top + n * (cell.height + gap);
        place(picture.lane, Rect { y, ..cell }, 0)
    }));
    places
}

/// One over all of it, the others along its lower edge, from the right.
fn inside<'a>(whole: Rect, large: u32, others: impl Iterator<Item = &'a Picture>) -> Vec<Place> {
    let margin = 2 * gap(whole);
    let inset = fit(Rect {
        x: 0,
        y: 0,
        width: even(whole.width / 4),
        height: even(whole.height / 4),
    });
    let mut places = vec![place(large, whole, 0)];
    places.extend((1..).zip(others).map(|(n, picture)| {
        let rect = Rect {
            x: whole.width.saturating_sub(n * (inset.width + margin)),
            y: whole.height.saturating_sub(inset.height + margin),
            ..inset
        };
        place(picture.lane, rect, n)
    }));
    places
}

impl Rect {
    /// Returns the largest rectangle of that shape inside this one, in its middle.
    pub(crate) fn fit(self, width: u32, height: u32) -> Self {
        let share = |pixels: u32, of: u32, per: u32| pixels * of / per.max(1);
        let fitted_width = even(self.width.min(share(self.height, width, height)));
        let fitted_height = even(self.height.min(share(self.width, height, width)));
        Self {
            x: self.x + even((self.width - fitted_width) / 2),
            y: self.y + even((self.height - fitted_height) / 2),
            width: fitted_width,
            height: fitted_height,
        }
    }
}

/// Returns the largest rectangle of the usual shape inside `cell`.
fn fit(cell: Rect) -> Rect {
    cell.fit(16, 9)
}

fn place(lane: u32, rect: Rect, depth: u32) -> Place {
    Place { lane, rect, depth }
}

fn gap(whole: Rect) -> u32 {
    even(whole.height.min(whole.width) / 60)
}

/// Colour has half the resolution: an odd edge would be smeared.
fn even(pixels: u32) -> u32 {
    pixels & !1
}

/// Most pictures of a grid.
const GRID: u32 = 16;
/// Most pictures beside a large one.
const STRIP: usize = 6;
/// Most pictures in front of a large one.
const INSETS: usize = 3;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HD: Canvas = Canvas {
        width: 1280,
        height: 720,
    };

    #[test]
    fn one_picture_has_all_the_room_in_every_layout() {
        for layout in LAYOUTS {
            let places = arrange(layout, HD, &cameras(1), None);
            assert_eq!(rects(&places), [(0, 0, 1280, 720)], "{layout:?}");
        }
    }

    #[test]
    fn nobody_is_nowhere() {
        for layout in LAYOUTS {
            assert_eq!(arrange(layout, HD, &[], Some(1)), [], "{layout:?}");
        }
    }

    #[test]
    fn grid_makes_tiles_as_large_as_it_can() {
        let places = arrange(Layout::Grid, HD, &cameras(2), None);
        assert_eq!(rects(&places), [(12, 186, 622, 348), (646, 186, 622, 348)]);
        let places = arrange(Layout::Grid, HD, &cameras(3), None);
        assert_eq!(
            places[2].rect.x,
            even((1280 - places[2].rect.width) / 2),
            "centred"
        );
        let tall = Canvas {
            width: 720,
            height: 1280,
        };
        let places = arrange(Layout::Grid, tall, &cameras(2), None);
        assert_eq!(places[0].rect.x, places[1].rect.x, "one above the other");
    }

    #[test]
    fn the_floor_is_large_and_the_rest_keeps_its_order() {
        let table = [
            (Layout::Speaker, None, vec![0, 1, 2]),
            (Layout::Speaker, Some(2), vec![2, 0, 1]),
            (Layout::Speaker, Some(9), vec![0, 1, 2]),
            (Layout::PictureInPicture, Some(1), vec![1, 0, 2]),
            (Layout::Screen, Some(1), vec![1, 0, 2]),
            (Layout::Single, Some(1), vec![1]),
        ];
        for (layout, main, expected) in table {
            let places = arrange(layout, HD, &cameras(3), main);
            let lanes: Vec<u32> = places.iter().map(|place| place.lane).collect();
            assert_eq!(lanes, expected, "{layout:?} {main:?}");
        }
    }

    #[test]
    fn a_screen_is_large_where_the_layout_is_made_for_it() {
        let mut pictures = cameras(3);
        pictures[1].screen = true;
        let first = |layout| arrange(layout, HD, &pictures, Some(2))[0].lane;
        assert_eq!(first(Layout::Screen), 1);
        assert_eq!(first(Layout::PictureInPicture), 1);
        assert_eq!(first(Layout::Speaker), 2);
        assert_eq!(first(Layout::Single), 2);
    }

    #[test]
    fn insets_are_in_front() {
        let places = arrange(Layout::PictureInPicture, HD, &cameras(3), None);
        assert!(places[1].depth > places[0].depth);
        assert_eq!(rects(&places[1..2]), [(936, 516, 320, 180)]);
    }

    proptest! {
        #[test]
        fn places_are_even_inside_and_apart(
            layout in prop::sample::select(&LAYOUTS),
            count in 0..20_u32,
            main in prop::option::of(0..20_u32),
            screen in 0..20_u32,
            (width, height) in prop::sample::select(&[(1280, 720), (854, 480), (1920, 1080), (720, 1280), (320, 240)]),
        ) {
            let mut pictures = cameras(count);
            if let Some(picture) = pictures.get_mut(screen as usize) {
                picture.screen = true;
            }
            let places = arrange(layout, Canvas { width, height }, &pictures, main);
            prop_assert!(places.is_empty() == pictures.is_empty());
            for (n, place) in places.iter().enumerate() {
                let Rect { x, y, width: w, height: h } = place.rect;
                prop_assert!(w >= 16 && h >= 16, "{place:?}");
                prop_assert!(x + w <= width && y + h <= height, "{place:?}");
                prop_assert!([x, y, w, h].iter().all(|edge| edge % 2 == 0), "{place:?}");
                for other in places.iter().skip(n + 1) {
                    prop_assert!(place.lane != other.lane);
                    prop_assert!(place.depth != other.depth || apart(place.rect, other.rect), "{place:?} {other:?}");
                }
            }
        }
    }

    const LAYOUTS: [Layout; 5] = [
        Layout::Grid,
        Layout::Speaker,
        Layout::PictureInPicture,
        Layout::Screen,
        Layout::Single,
    ];

    fn cameras(count: u32) -> Vec<Picture> {
        let camera = |lane| Picture {
            lane,
            screen: false,
        };
        (0..count).map(camera).collect()
    }

    fn rects(places: &[Place]) -> Vec<(u32, u32, u32, u32)> {
        let parts = places
            .iter()
            .map(|p| (p.rect.x, p.rect.y, p.rect.width, p.rect.height));
        parts.collect()
    }

    fn apart(a: Rect, b: Rect) -> bool {
        a.x + a.width <= b.x
            || b.x + b.width <= a.x
            || a.y + a.height <= b.y
            || b.y + b.height <= a.y
    }
}
