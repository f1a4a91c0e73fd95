//! The composer with a look of the room's own: what goes out is decoded, and its pixels are looked at.

use std::{fs, path::Path, time::Duration};

use image::{Rgba, RgbaImage};
use sfu::Codec;
use tempfile::TempDir;

use super::rig::{BACKGROUND, Rig, SMALL, Seen, scene};
use crate::{
    layout::{Picture, Place, Rect, arrange},
    scene::{Corner, Image, Layout, Look},
};

const RED: u32 = 0x00d0_2020;
const GREEN: u32 = 0x0020_c040;
const ORANGE: u32 = 0x00e0_8020;
const TEAL: u32 = 0x0020_a0a0;
const PURPLE: u32 = 0x00a0_20c0;
const BLACK: u32 = 0;
/// Transparent.
const NOTHING: u32 = u32::MAX;

#[test]
fn the_look_is_around_and_over_the_pictures() {
    let folder = tempfile::tempdir().unwrap();
    // Neither has the shape of the canvas.
    let background = file(&folder, "background", 300, 300, |x, _| {
        if x < 150 { ORANGE } else { TEAL }
    });
    let logo = file(&folder, "logo", 400, 200, |_, y| {
        if y < 100 { PURPLE } else { NOTHING }
    });
    let mut dressed = scene(Layout::Grid, &[1, 2]);
    dressed.look.background_image = Some(background);
    dressed.look.logo = Some(logo);
    let rig = Rig::start(SMALL, dressed.clone());
    let _red = rig.camera(1, Codec::H264, RED, (640, 360));
    let _green = rig.camera(2, Codec::H264, GREEN, (640, 360));
    let mut troubles = rig.run_until_shown(&places(2));
    troubles.extend(rig.run(ms(400)));

    // An eighth of the height, and beside it the margin, a thirtieth.
    let corners = [
        (Corner::UpperRight, 640 - 90 - 12, 12),
        (Corner::UpperLeft, 12, 12),
        (Corner::LowerLeft, 12, 360 - 45 - 12),
        (Corner::LowerRight, 640 - 90 - 12, 360 - 45 - 12),
    ];
    for (corner, x, y) in corners {
        dressed.look.logo_corner = corner;
        rig.set_scene(dressed.clone());
        troubles.extend(rig.run(ms(500)));
        let seen = last(&rig);
        save(&seen, &format!("{corner:?}"));
        assert!(seen.shows(rect(x, y, 90, 22), PURPLE), "{corner:?}");
        assert!(!seen.shows(rect(x, y + 23, 90, 22), PURPLE), "{corner:?}");
        for (other, x, y) in corners {
            let is_there = seen.shows(rect(x, y, 90, 22), PURPLE);
            assert_eq!(is_there, other == corner, "{other:?} at {corner:?}");
        }
        assert!(seen.shows(rect(100, 60, 100, 16), ORANGE), "{corner:?}");
        assert!(seen.shows(rect(440, 60, 100, 16), TEAL), "{corner:?}");
        for (place, colour) in places(2).iter().zip([RED, GREEN]) {
            assert!(seen.shows(place.rect, colour), "{corner:?}");
        }
        let title = rect(
            if corner == Corner::UpperLeft { 114 } else { 12 },
            12,
            50,
            22,
        );
        assert!(!seen.shows(title, ORANGE), "the title, {corner:?}");
    }
    assert_eq!(troubles, Vec::<String>::new());
    assert_gapless_and_never_black(&rig);
}

#[test]
fn names_and_title_come_and_go_at_once() {
    let rig = Rig::start(SMALL, scene(Layout::Grid, &[1]));
    let _red = rig.camera(1, Codec::H264, RED, (640, 360));
    rig.run_until_shown(&places(1));
    // A picture is white where letters are, and a plate is dark.
    let (name, title) = (rect(6, 330, 80, 26), rect(12, 12, 40, 22));
    for (names, text) in [
        (true, "A title"),
        (false, "A title"),
        (true, ""),
        (false, ""),
    ] {
        let mut next = scene(Layout::Grid, &[1]);
        next.look.names = names;
        next.look.title = text.to_owned();
        rig.set_scene(next);
        rig.run(ms(500));
        let seen = last(&rig);
        assert_eq!(!seen.shows(name, RED), names, "names {names}, title {text}");
        assert_eq!(
            !seen.shows(title, RED),
            !text.is_empty(),
            "names {names}, title {text}"
        );
    }
    assert_gapless_and_never_black(&rig);
}

#[test]
fn a_name_is_one_line_at_the_foot_of_its_picture_whatever_it_is_written_in() {
    let rig = Rig::start(SMALL, scene(Layout::Grid, &[1]));
    let _red = rig.camera(1, Codec::H264, RED, (640, 360));
    rig.run_until_shown(&places(1));
    let (name, above) = (rect(6, 336, 30, 18), rect(6, 40, 80, 290));
    for written in ["Zoë", "Ann 日本", "Zoë 🎉", "عمر", "\u{12000}\u{10ffff}"] {
        let mut next = scene(Layout::Grid, &[1]);
        next.look.title = String::new();
        next.tiles[0].name = written.to_owned();
        rig.set_scene(next);
        rig.run(ms(500));
        let seen = last(&rig);
        save(&seen, written);
        assert!(!seen.shows(name, RED), "{written}");
        assert!(seen.shows(above, RED), "nothing above {written}");
    }
}

#[test]
fn the_slates_image_is_shown_while_nobody_is_on_stage() {
    let folder = tempfile::tempdir().unwrap();
    let slate = file(&folder, "slate", 200, 200, |_, y| {
        if y < 100 { ORANGE } else { TEAL }
    });
    let mut nobody = scene(Layout::Speaker, &[]);
    nobody.look.title = String::new();
    nobody.look.slate_image = Some(slate);
    let rig = Rig::start(SMALL, nobody.clone());
    let mut troubles = rig.run(ms(700));
    // It is whole: 360 of 360 pixels high.
    let (upper, lower) = (rect(150, 60, 340, 60), rect(150, 240, 340, 60));
    let is_slate = |seen: &Seen| seen.shows(upper, ORANGE) && seen.shows(lower, TEAL);
    let seen = last(&rig);
    save(&seen, "slate");
    assert!(is_slate(&seen));
    assert!(seen.shows(rect(0, 0, 130, 360), BLACK), "beside it");
    // The text gives way to the image.
    assert!(seen.shows(rect(300, 176, 40, 4), ORANGE) || seen.shows(rect(300, 180, 40, 4), TEAL));

    let red = rig.camera(1, Codec::H264, RED, (640, 360));
    let mut somebody = scene(Layout::Speaker, &[1]);
    somebody.look = nobody.look.clone();
    rig.set_scene(somebody);
    troubles.extend(rig.run_until_shown(&places(1)));
    troubles.extend(rig.run(ms(700)));
    rig.set_scene(nobody.clone());
    drop(red);
    troubles.extend(rig.run(ms(700)));
    let steps = rig.look(SMALL);
    let kind = |seen: &Seen| {
        if is_slate(seen) {
            'S'
        } else if seen.shows(rect(0, 0, 640, 300), RED) {
            'R'
        } else {
            '?'
        }
    };
    let mut story: Vec<char> = steps.iter().map(kind).collect();
    story.dedup();
    assert_eq!(story, ['S', 'R', 'S'], "and nothing between");

    // Without the image the text is back on the colour.
    nobody.look.slate_image = None;
    rig.set_scene(nobody);
    troubles.extend(rig.run(ms(700)));
    let seen = last(&rig);
    save(&seen, "text");
    assert!(seen.shows(rect(0, 0, 640, 100), BACKGROUND));
    assert!(!seen.shows(rect(200, 160, 240, 40), BACKGROUND), "the text");
    assert_eq!(troubles, Vec::<String>::new());
}

#[test]
fn another_look_takes_over_between_two_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let orange = file(&folder, "orange", 1920, 1080, |_, _| ORANGE);
    let teal = file(&folder, "teal", 64, 64, |_, _| TEAL);
    let rig = Rig::start(SMALL, scene(Layout::Grid, &[1, 2]));
    let _red = rig.camera(1, Codec::H264, RED, (640, 360));
    let _green = rig.camera(2, Codec::H264, GREEN, (640, 360));
    let mut troubles = rig.run_until_shown(&places(2));
    troubles.extend(rig.run(ms(300)));
    let before = last(&rig).time;
    troubles.extend(rig.run(ms(400)));
    let bands = [rect(200, 60, 240, 16), rect(200, 285, 240, 16)];
    let looks = [
        (Look::default().background, Some(orange)),
        (Look::default().background, Some(teal)),
        (PURPLE, None),
        (BACKGROUND, None),
    ];
    for (colour, image) in &looks {
        let mut next = scene(Layout::Grid, &[1, 2]);
        next.look.background = *colour;
        next.look.background_image.clone_from(image);
        rig.set_scene(next);
        troubles.extend(rig.run(ms(900)));
    }
    assert_eq!(troubles, Vec::<String>::new());
    let colours = [BACKGROUND, ORANGE, TEAL, PURPLE, BACKGROUND];
    let mut seen = rig
        .look(SMALL)
        .into_iter()
        .filter(|seen| seen.time >= before)
        .peekable();
    for colour in colours {
        let mut count = 0;
        let is_it = |seen: &Seen| bands.iter().all(|band| seen.shows(*band, colour));
        while seen.next_if(is_it).is_some() {
            count += 1;
        }
        assert!(count > 5, "{count} pictures with {colour:06x} behind");
    }
    assert!(seen.next().is_none(), "every picture has one of them");
    assert_gapless_and_never_black(&rig);
}

#[test]
fn an_image_that_cannot_be_read_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broken.png");
    fs::write(&path, [&b"\x89PNG\r\n\x1a\n"[..], &[7; 300]].concat()).unwrap();
    let broken = Some(Image { path });
    let missing = Some(Image {
        path: folder.path().join("missing.png"),
    });
    let mut odd = scene(Layout::Grid, &[]);
    odd.look.background_image = broken;
    odd.look.slate_image.clone_from(&missing);
    odd.look.logo = missing;
    let rig = Rig::start(SMALL, odd);
    let troubles = rig.run(ms(600));
    assert_eq!(troubles.len(), 3, "{troubles:?}");
    let seen = last(&rig);
    assert!(seen.shows(rect(0, 200, 640, 160), BACKGROUND));
    assert!(!seen.shows(rect(200, 160, 240, 40), BACKGROUND), "the text");
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn rect(x: u32, y: u32, width: u32, height: u32) -> Rect {
    Rect {
        x,
        y,
        width,
        height,
    }
}

fn places(count: u32) -> Vec<Place> {
    let pictures: Vec<Picture> = (1..=count)
        .map(|lane| Picture {
            lane,
            screen: false,
        })
        .collect();
    arrange(Layout::Grid, SMALL.canvas(), &pictures, None)
}

fn last(rig: &Rig) -> Seen {
    rig.look(SMALL).last().unwrap().clone()
}

/// Writes an image of one colour or another at each place.
fn file(
    folder: &TempDir,
    name: &str,
    width: u32,
    height: u32,
    colour: impl Fn(u32, u32) -> u32,
) -> Image {
    let path = folder.path().join(name).with_extension("png");
    let picture = RgbaImage::from_fn(width, height, |x, y| {
        let [_, r, g, b] = colour(x, y).to_be_bytes();
        Rgba([r, g, b, if colour(x, y) == NOTHING { 0 } else { 255 }])
    });
    picture.save(&path).unwrap();
    Image { path }
}

/// Keeps a picture for people, if they want to look.
fn save(seen: &Seen, name: &str) {
    if let Ok(folder) = std::env::var("FANLIGHT_PICTURES") {
        seen.save(
            Path::new(&folder)
                .join(name)
                .with_extension("ppm")
                .to_str()
                .unwrap(),
        );
    }
}

fn assert_gapless_and_never_black(rig: &Rig) {
    let seen = rig.look(SMALL);
    for picture in &seen {
        let black = picture.share(BLACK);
        assert!(
            black < 0.5,
            "{:.0} % is black at {:?}",
            black * 100.0,
            picture.time
        );
    }
    for pair in seen.windows(2) {
        let step = pair[1].time - pair[0].time;
        assert!(
            step > ms(30) && step < ms(37),
            "{step:?} at {:?}",
            pair[0].time
        );
    }
}
