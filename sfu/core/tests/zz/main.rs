#![allow(clippy::all, unused, missing_docs)]
mod support;
mod world;
use sfu_core::*;
use std::time::{Duration, Instant};
use world::{App, World, publisher::Publisher, viewer};

#[test]
#[ignore]
fn cost() {
    let n: usize = std::env::var("N").map_or(200, |v| v.parse().unwrap());
    let run: usize = std::env::var("RUN").map_or(1, |v| v.parse().unwrap());
    let mut world = World::new(1);
    let p = world.publish(Publisher::new(1, Codec::H264));
    world.publisher(p).mute();
    let media = viewer::with_feedback();
    for _ in 0..n {
        world.watch(&media);
    }
    world.run(3000);
    let mut now = world.now;
    // Own packets from here on.
    let paths: Vec<Path> = world.paths();
    let base = world.publisher(p).next_seq();
    let ssrc = world.publisher(p).ssrc();
    let mut seq = base;
    let mut ts = world.publisher(p).timestamp();
    let rounds = 3000usize / run;
    let mut media_time = Duration::ZERO;
    let mut report_time = Duration::ZERO;
    let mut sent = 0u64;
    let mut reports = 0u64;
    // per viewer: list of (twcc, at)
    let mut seen: Vec<Vec<(u16, Instant)>> = vec![Vec::new(); world.members.len()];
    let index: std::collections::HashMap<Path, usize> = paths
        .iter()
        .copied()
        .enumerate()
        .map(|(i, p)| (p, i))
        .collect();
    let mut count = 0u8;
    let epoch = now - Duration::from_millis(5);
    let mut skip = 600 / run;
    for round in 0..rounds {
        let mut packets: Vec<Vec<u8>> = Vec::new();
        for k in 0..run {
            let marker = if (round * run + k) % 10 == 9 { 0x80 } else { 0 };
            let mut packet = vec![0x80, 102 | marker];
            packet.extend(seq.to_be_bytes());
            packet.extend(ts.to_be_bytes());
            packet.extend(ssrc.to_be_bytes());
            if seq == base {
                packet.extend([0x67u8, 0x42, 0, 0]);
            } else {
                packet.extend([0x41u8; 1]);
            }
            packet.resize(12 + 1100, 7);
            seq = seq.wrapping_add(1);
            if marker != 0 {
                ts = ts.wrapping_add(3000);
            }
            packets.push(world.seal(p, &packet));
        }
        let path = paths[p];
        let start = Instant::now();
        for packet in &mut packets {
            world.sfu.handle_datagram(path, packet, now);
        }
        if let Some(due) = world.sfu.poll_timeout() {
            if due <= now {
                world.sfu.handle_timeout(now);
            }
        }
        let out = world.sfu.flush(now);
        if round > skip {
            media_time += start.elapsed();
            sent += out.len() as u64;
        }
        for (to, d) in out.iter() {
            if d[0] & 0x10 == 0 || d[0] & 0xc0 != 0x80 || (192..224).contains(&d[1]) {
                continue;
            }
            let i = index[&to];
            let x = u16::from_be_bytes([d[17], d[18]]);
            seen[i].push((x, now + Duration::from_millis(10)));
        }
        out.clear();
        while world.sfu.poll_event().is_some() {}
        now += Duration::from_micros(3300 * run as u64);
        if (round * run) % 30 < run {
            let mut rs = Vec::new();
            for i in 0..seen.len() {
                if seen[i].is_empty() {
                    continue;
                }
                let got = std::mem::take(&mut seen[i]);
                count = count.wrapping_add(1);
                let r = feedback(&got, epoch, (round / 30) as u8);
                rs.push((paths[i], world.seal_rtcp_of(i, &r)));
            }
            let start = Instant::now();
            for (path, r) in &mut rs {
                world.sfu.handle_datagram(*path, r, now);
                let out = world.sfu.flush(now);
                out.clear();
                if round > skip {
                    reports += 1;
                }
            }
            if round > skip {
                report_time += start.elapsed();
            }
        }
        if round % 500 == 0 {
            for i in 0..paths.len() {
                let c = world.check_of(i);
                let mut c = c;
                world.sfu.handle_datagram(paths[i], &mut c, now);
            }
            world.sfu.flush(now).clear();
        }
    }
    println!(
        "sent {sent} media {:.3} us/packet; {} reports {:.2} us each, {:.3} us/packet",
        media_time.as_secs_f64() * 1e6 / sent as f64,
        reports,
        report_time.as_secs_f64() * 1e6 / reports as f64,
        report_time.as_secs_f64() * 1e6 / sent as f64
    );
    // floor
    use aws_lc_rs::aead::*;
    let mut keys: Vec<_> = (0..n)
        .map(|i| LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &[i as u8; 16]).unwrap()))
        .collect();
    let mut out: Vec<u8> = Vec::new();
    let payload = vec![7u8; 1100];
    let start = Instant::now();
    let mut m = 0u64;
    for round in 0..rounds {
        out.clear();
        for k in &keys {
            for _ in 0..run {
                out.extend_from_slice(&[0x80; 12]);
                let s = out.len();
                out.extend_from_slice(&payload);
                let tag = k
                    .seal_in_place_separate_tag(
                        Nonce::assume_unique_for_key([m as u8; 12]),
                        Aad::from([0x80u8; 12]),
                        &mut out[s..],
                    )
                    .unwrap();
                out.extend_from_slice(tag.as_ref());
                m += 1;
            }
        }
    }
    println!(
        "floor {:.3} us/packet",
        start.elapsed().as_secs_f64() * 1e6 / m as f64
    );
}

fn feedback(got: &[(u16, Instant)], epoch: Instant, count: u8) -> Vec<u8> {
    let micros = |at: Instant| (at - epoch).as_micros() as i64;
    let reference = micros(got[0].1) / 64_000;
    let mut at = reference * 256;
    let mut deltas = Vec::new();
    let mut symbols = Vec::new();
    for (_, t) in got {
        let u = micros(*t) / 250;
        let d = u - at;
        at = u;
        if d < 256 {
            symbols.push(1u16);
            deltas.push(d as u8);
        } else {
            symbols.push(2);
            deltas.extend((d as i16).to_be_bytes());
        }
    }
    let mut packet = vec![0x8f, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
    packet.extend(got[0].0.to_be_bytes());
    packet.extend((symbols.len() as u16).to_be_bytes());
    packet.extend(&(reference as u32).to_be_bytes()[1..]);
    packet.push(count);
    for seven in symbols.chunks(7) {
        let bits = (0..).zip(seven).map(|(n, s)| (*s) << (12 - 2 * n));
        packet.extend((0xc000 | bits.sum::<u16>()).to_be_bytes());
    }
    packet.extend(deltas);
    packet.resize(packet.len().next_multiple_of(4), 0);
    let words = (packet.len() / 4 - 1) as u16;
    packet[2..4].copy_from_slice(&words.to_be_bytes());
    packet
}
