//! The figures in words.

use std::io::{self, Write};

use crate::measure::{Comparison, Cost, Figures};

/// Prints what was measured, next to what was hoped for.
///
/// # Errors
/// When the output is closed.
pub(crate) fn print(figures: &Figures) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{} viewers with data channel on loopback",
        figures.viewers
    )?;
    writeln!(
        out,
        "  connected within {:.2} s, {:.2} ms of CPU each",
        figures.connecting.as_secs_f64(),
        figures.connect_us / 1e3,
    )?;
    let memory = figures.idle_bytes.max(figures.loaded_bytes) / 1e3;
    writeln!(
        out,
        "  memory per viewer: {:.0} KB idle, {:.0} KB after load (goal 60 KB: {})",
        figures.idle_bytes / 1e3,
        figures.loaded_bytes / 1e3,
        verdict(memory <= 60.0),
    )?;
    print_comparison(
        &mut out,
        "720p30 at 2.5 Mb/s and Opus, paced as a browser paces",
        &figures.paced,
    )?;
    print_comparison(
        &mut out,
        "300 packets/s of 1100 bytes, a frame of 10 at once",
        &figures.bursts,
    )
}

fn print_comparison(out: &mut impl Write, title: &str, comparison: &Comparison) -> io::Result<()> {
    writeln!(
        out,
        "{title}: {:.0} packets/s forwarded",
        comparison.sfu.rate()
    )?;
    let sfu = comparison.sfu.per_packet();
    let floors = [
        ("floor: AES-128-GCM + sendmmsg", comparison.floor),
        ("floor: AES-128-GCM + GSO", comparison.offload_floor),
    ];
    for (name, floor) in floors {
        if let Some(cost) = floor.per_packet() {
            writeln!(out, "  {name:<32}{cost:6.2} us per packet{}", lost(floor))?;
        }
    }
    let Some(sfu) = sfu else {
        return writeln!(out, "  the SFU forwarded nothing");
    };
    writeln!(
        out,
        "  {:<32}{sfu:6.2} us per packet{}",
        "sfu",
        lost(comparison.sfu)
    )?;
    let like = comparison
        .offload_floor
        .per_packet()
        .or(comparison.floor.per_packet());
    let Some(floor) = like else { return Ok(()) };
    let ratio = sfu / floor;
    writeln!(
        out,
        "  ratio {ratio:.2} (goal 1.60: {})",
        verdict(ratio <= 1.6)
    )
}

fn lost(cost: Cost) -> String {
    let lost = cost.lost();
    if lost > 0.001 {
        format!(" ({:.1} % lost)", lost * 100.0)
    } else {
        String::new()
    }
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}
