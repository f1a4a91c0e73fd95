//! The composer with cameras in and pictures out: what goes out is decoded, and its pixels are looked at.

use std::time::Duration;

use sfu::Codec;

use super::{
    Preset,
    encoder::Encoder,
    rig::{BACKGROUND, Rig, SMALL, Seen, near, scene},
};
use crate::{
    layout::{Picture, Place, Rect, arrange},
    scene::{Layout, Scene},
};

const RED: u32 = 0x00d0_2020;
const GREEN: u32 = 0x0020_c040;
const BLUE: u32 = 0x0030_30d0;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn places(layout: Layout, lanes: &[u32], main: Option<u32>) -> Vec<Place> {
    let pictures: Vec<Picture> = lanes
        .iter()
        .map(|lane| Picture {
            lane: *lane,
            screen: false,
        })
        .collect();
    arrange(layout, SMALL.canvas(), &pictures, main)
}

/// Whether a picture shows exactly this arrangement.
fn is(seen: &Seen, places: &[Place]) -> bool {
    let colour = |lane| [BACKGROUND, RED, GREEN, BLUE][lane as usize];
    let covered = |place: &Place| {
        let middle = |rect: Rect| (rect.x + rect.width / 2, rect.y + rect.height / 2);
        let (x, y) = middle(place.rect);
        places.iter().any(|other| {
            let r = other.rect;
            other.depth > place.depth
                && x >= r.x
                && x < r.x + r.width
                && y >= r.y
                && y < r.y + r.height
        })
    };
    places
        .iter()
        .filter(|place| !covered(place))
        .all(|place| seen.shows(place.rect, colour(place.lane)))
}

#[test]
fn a_camera_that_turns_into_a_screen_is_large_until_it_is_one_again() {
    let seen_with = |screen| {
        let mut scene = scene(Layout::Screen, &[1, 2]);
        // Green is featured.
        scene.main = Some(2);
        scene.tiles[0].screen = screen;
        scene
    };
    let rig = Rig::start(SMALL, seen_with(false));
    let _red = rig.camera(1, Codec::H264, RED, (640, 360));
    let _green = rig.camera(2, Codec::H264, GREEN, (640, 360));
    let mut troubles = Vec::new();
    for (screen, first, large, beside) in [
        (false, 2, GREEN, RED),
        (true, 1, RED, GREEN),
        (false, 2, GREEN, RED),
    ] {
        rig.set_scene(seen_with(screen));
        troubles.extend(rig.run_until_shown(&places(Layout::Screen, &[1, 2], Some(first))));
        troubles.extend(rig.run(ms(600)));
        let seen = rig.look(SMALL);
        let last = seen.last().unwrap();
        let [main, strip] = [(0, 490), (506, 128)].map(|(x, width)| Rect {
            x,
            y: 140,
            width,
            height: 80,
        });
        assert!(last.shows(main, large), "large, screen: {screen}");
        assert!(last.shows(strip, beside), "in the strip, screen: {screen}");
    }
    assert_eq!(troubles, Vec::<String>::new());
    assert_gapless(&rig.look(SMALL));
}

#[test]
fn layouts_change_and_people_come_and_go_without_a_black_picture() {
    let rig = Rig::start(SMALL, scene(Layout::Grid, &[]));
    let mut troubles = rig.run(ms(600));
    let mut steps = Vec::new();
    let mut step = |rig: &Rig, scene: Scene, expected: Vec<Place>| {
        rig.set_scene(scene);
        troubles.extend(rig.run_until_shown(&expected));
        troubles.extend(rig.run(ms(1000)));
        steps.push(expected);
    };

    let red = rig.camera(1, Codec::H264, RED, (640, 360));
    step(
        &rig,
        scene(Layout::Grid, &[1]),
        places(Layout::Grid, &[1], None),
    );
    let _green = rig.camera(2, Codec::Vp8, GREEN, (320, 240));
    step(
        &rig,
        scene(Layout::Grid, &[1, 2]),
        places(Layout::Grid, &[1, 2], None),
    );
    let _blue = rig.camera(3, Codec::Vp9, BLUE, (180, 320));
    step(
        &rig,
        scene(Layout::Grid, &[1, 2, 3]),
        places(Layout::Grid, &[1, 2, 3], None),
    );
    for (layout, main) in [
        (Layout::Speaker, 2),
        (Layout::Speaker, 1),
        (Layout::PictureInPicture, 1),
        (Layout::Single, 2),
        (Layout::Screen, 1),
    ] {
        let mut next = scene(layout, &[1, 2, 3]);
        next.main = Some(main);
        step(&rig, next, places(layout, &[1, 2, 3], Some(main)));
    }
    step(
        &rig,
        scene(Layout::Grid, &[2, 3]),
        places(Layout::Grid, &[2, 3], None),
    );
    drop(red);

    assert_eq!(troubles, Vec::<String>::new());
    let seen = rig.look(SMALL);
    assert_gapless(&seen);
    if let Ok(folder) = std::env::var("FANLIGHT_PICTURES") {
        for (n, picture) in seen.iter().step_by(15).enumerate() {
            picture.save(&format!("{folder}/{n:03}.ppm"));
        }
    }
    let whole = places(Layout::Grid, &[1], None)[0].rect;
    let upper = Rect {
        height: whole.height / 5,
        ..whole
    };
    let mut pictures = seen
        .iter()
        .skip_while(|seen| seen.shows(upper, BACKGROUND))
        .peekable();
    for (n, (now, next)) in steps.iter().zip(steps.iter().skip(1)).enumerate() {
        let mut count = 0;
        while let Some(picture) = pictures.next_if(|picture| is(picture, now)) {
            count += 1;
            // The next arrangement may look the same where it is looked at.
            if is(picture, next) && count > 20 {
                break;
            }
        }
        assert!(count > 20, "step {n}: {count} pictures of {now:?}");
        // Until all have come, those who have are shown.
        while let Some(picture) = pictures.next_if(|picture| !is(picture, next)) {
            let anybody = [RED, GREEN, BLUE].map(|colour| picture.share(colour));
            let at = picture.time;
            assert!(
                anybody.iter().sum::<f64>() > 0.2,
                "nobody is seen at {at:?}, after step {n}"
            );
        }
    }
    assert!(pictures.all(|picture| is(picture, steps.last().unwrap())));
}

#[test]
fn another_preset_goes_on_with_the_same_people() {
    let rig = Rig::start(SMALL, scene(Layout::Grid, &[1]));
    let _red = rig.camera(1, Codec::H264, RED, (640, 360));
    let alone = places(Layout::Grid, &[1], None);
    rig.run_until_shown(&alone);
    let before = rig.look(SMALL).len();
    let slower = Preset {
        frame_rate: 15,
        ..SMALL
    };
    rig.composer.lock().unwrap().set_preset(slower).unwrap();
    rig.run_until_shown(&alone);
    rig.run(ms(1000));
    let seen = rig.look(SMALL);
    let (last, rest) = (seen.last().unwrap(), &seen[before..]);
    assert!(is(last, &alone));
    let mut steps = rest.windows(2).map(|pair| pair[1].time - pair[0].time);
    let longest = steps.clone().max().unwrap();
    assert!(longest < ms(3000), "{longest:?} without a picture");
    assert_eq!(steps.next_back().map(|step| step.as_millis() / 10), Some(6));
}

#[test]
fn an_encoder_that_fails_while_it_runs_is_replaced() {
    let rig = Rig::start(SMALL, scene(Layout::Grid, &[1]));
    let _red = rig.camera(1, Codec::H264, RED, (640, 360));
    let places = places(Layout::Grid, &[1], None);
    rig.run_until_shown(&places);
    rig.composer.lock().unwrap().fail_encoder(Encoder::Nvenc);
    let failed = rig.clock.now();
    let troubles = rig.run(ms(100));
    assert_eq!(troubles.len(), 1, "{troubles:?}");
    assert_eq!(rig.composer.lock().unwrap().encoder(), Encoder::X264);
    rig.run_until_shown(&places);
    rig.run(ms(1000));
    let seen = rig.look(SMALL);
    let after = seen.iter().filter(|picture| picture.time > failed);
    assert!(after.filter(|picture| is(picture, &places)).count() > 10);
}

#[test]
fn without_anybody_the_slate_is_sent_with_silence() {
    let rig = Rig::start(SMALL, scene(Layout::Speaker, &[1]));
    rig.run(ms(1500));
    let seen = rig.look(SMALL);
    assert!(seen.len() > 30, "{}", seen.len());
    assert_gapless(&seen);
    let corner = Rect {
        x: 0,
        y: 200,
        width: 640,
        height: 160,
    };
    assert!(seen.iter().all(|seen| seen.shows(corner, BACKGROUND)));
    let text = seen.last().unwrap();
    let line = Rect {
        x: 200,
        y: 160,
        width: 240,
        height: 40,
    };
    assert!(
        !near(text.colour(line), BACKGROUND),
        "the slate's text is missing"
    );
    let (_, sound) = rig.listen();
    assert!(sound.iter().all(|sample| sample.abs() < 0.001));
}

#[test]
fn who_breaks_takes_down_their_own_tile_only() {
    let rig = Rig::start(SMALL, scene(Layout::Grid, &[1, 2]));
    let _red = rig.camera(1, Codec::H264, RED, (640, 360));
    rig.run(ms(500));
    for n in 0..200_u16 {
        let [s0, s1] = n.to_be_bytes();
        let mut rtp = vec![
            0x80,
            0x80 | 97,
            s0,
            s1,
            0,
            0,
            s0,
            s1,
            0,
            0,
            0,
            2,
            0x10,
            0x10,
        ];
        rtp.extend((0..100).map(|i: u16| u8::try_from((i * 31 + n) % 251).unwrap()));
        let now = rig.clock.now();
        rig.composer.lock().unwrap().push(2, Codec::Vp8, &rtp, now);
        rig.run(ms(5));
    }
    rig.run(ms(500));
    let seen = rig.look(SMALL);
    assert_gapless(&seen);
    let alone = places(Layout::Grid, &[1], None);
    let mut from_first = seen.iter().skip_while(|seen| !is(seen, &alone));
    assert!(from_first.clone().count() > 30);
    assert!(from_first.all(|seen| is(seen, &alone)));
}

#[test]
fn sound_and_picture_stay_together_and_all_are_heard() {
    let rig = Rig::start(SMALL, scene(Layout::Grid, &[1, 2]));
    let _both = rig.flash_and_beep(1, 101);
    let _hum = rig.send(
        102,
        Codec::Opus,
        &format!(
            "audiotestsrc is-live=true wave=sine freq=200 volume=0.05 samplesperbuffer=480 \
             timestamp-offset={} ! audio/x-raw,rate=48000,channels=2",
            rig.clock.now().as_nanos()
        ),
    );
    let (mut flashes, mut beeps) = (Vec::new(), Vec::new());
    // A busy machine loses some.
    for _ in 0..6 {
        rig.run(ms(5000));
        (flashes, beeps) = (flashes_of(&rig), beeps_of(&rig));
        if flashes.len().min(beeps.len()) > 3 {
            break;
        }
    }
    let sound = rig.listen().1;
    assert!(flashes.len().min(beeps.len()) > 3, "{flashes:?} {beeps:?}");
    let offset = |beep: &Duration| {
        let offsets = flashes
            .iter()
            .map(|flash| beep.as_secs_f64() - flash.as_secs_f64());
        offsets.min_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap()
    };
    let mut offsets: Vec<f64> = beeps
        .iter()
        .map(offset)
        .filter(|offset| offset.abs() < 0.5)
        .collect();
    println!("sound behind picture, s: {offsets:.3?}");
    offsets.sort_by(f64::total_cmp);
    assert!(offsets[offsets.len() / 2].abs() <= 0.04, "{offsets:?}");
    // Between the beeps the other one is heard, and nothing is cut off at the top.
    let hum = sound
        .iter()
        .skip(48_000)
        .filter(|sample| sample.abs() > 0.02)
        .count();
    assert!(hum > 48_000, "{hum}");
    assert!(sound.iter().all(|sample| sample.abs() <= 1.1));
}

fn flashes_of(rig: &Rig) -> Vec<Duration> {
    let whole = places(Layout::Grid, &[1], None)[0].rect;
    let seen = rig.look(SMALL);
    let bright = |seen: &Seen| near(seen.colour(whole), 0x00ff_ffff);
    let pairs = seen
        .windows(2)
        .filter(|pair| !bright(&pair[0]) && bright(&pair[1]));
    pairs.map(|pair| pair[1].time).collect()
}

fn beeps_of(rig: &Rig) -> Vec<Duration> {
    let (start, sound) = rig.listen();
    let mut beeps = Vec::new();
    let mut last = 0;
    for (at, block) in (0..).zip(sound.chunks(48)) {
        if block.iter().any(|sample| sample.abs() > 0.3) {
            if at - last > 500 {
                beeps.push(start + ms(at));
            }
            last = at;
        }
    }
    beeps
}

fn assert_gapless(seen: &[Seen]) {
    for pair in seen.windows(2) {
        let step = pair[1].time - pair[0].time;
        assert!(
            step > ms(30) && step < ms(37),
            "{step:?} at {:?}",
            pair[0].time
        );
    }
}
