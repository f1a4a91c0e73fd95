//! Figures in words.

use std::{
    io::{self, Write},
    time::Duration,
};

use crate::{histogram::Histogram, load::Outcome, tally::Tally};

/// Prints what a run of the load command showed.
///
/// # Errors
/// When the output is closed.
#[expect(clippy::cast_precision_loss, reason = "counts of a run")]
pub(crate) fn print_load(outcome: &Outcome) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let (ramp, steady) = (&outcome.ramp, &outcome.steady);
    let joins = &outcome.joins;
    writeln!(
        out,
        "viewers        {} joined, {} connected in the ramp, {} present at the end, {} refused, {} ended by the server",
        joins.joined,
        outcome.settled,
        outcome.present,
        joins.refused,
        ramp.closed + steady.closed,
    )?;
    if let Some(reason) = &joins.first_refusal {
        writeln!(out, "refused        {reason}")?;
    }
    if let Some(reason) = &joins.first_unended {
        writeln!(out, "not ended      {} sessions: {reason}", joins.unended)?;
    }
    writeln!(
        out,
        "join, from POST to                 p50        p90        p99"
    )?;
    let mut all = ramp.clone();
    all.merge(steady);
    for (name, histogram) in [
        ("connected", &all.to_connected),
        ("first packet", &all.to_packet),
        ("first complete keyframe", &all.to_keyframe),
    ] {
        print_percentiles(&mut out, name, histogram)?;
    }
    writeln!(
        out,
        "delay of                           p50        p90        p99"
    )?;
    print_percentiles(&mut out, "a packet", &steady.packet_delay)?;
    print_percentiles(&mut out, "a whole frame", &steady.frame_delay)?;
    let seconds = outcome.time.as_secs_f64();
    writeln!(
        out,
        "forwarded      {:.0} packets/s, {:.1} Mb/s, over {seconds:.1} s",
        steady.packets as f64 / seconds,
        steady.bytes as f64 * 8.0 / seconds / 1e6,
    )?;
    writeln!(
        out,
        "loss           {:.3} % after retransmission: {} of {} packets; {} repaired, {} asked for, {} duplicates",
        steady.loss() * 100.0,
        steady.lost,
        steady.expected,
        steady.repaired,
        steady.nacked,
        steady.duplicates,
    )?;
    writeln!(
        out,
        "feedback       {} transport-wide reports sent",
        all.feedback
    )?;
    let (joining, later) = outcome.keyframe_requests;
    writeln!(
        out,
        "keyframes      the publishers were asked for {joining} during the ramp and {later} later; \
         viewers asked for {}",
        all.keyframe_requests,
    )?;
    let Some([alone, before, after]) = outcome.usage else {
        return Ok(());
    };
    let cpu = after.cpu_since(before);
    writeln!(
        out,
        "server CPU     {:.0} % of a core, {:.2} us per forwarded packet",
        cpu.as_secs_f64() / seconds * 100.0,
        cpu_per_packet(cpu, steady.packets).unwrap_or(0.0),
    )?;
    let grown = after.resident as f64 - alone.resident as f64;
    writeln!(
        out,
        "server memory  {:.1} MB, {:.1} KB per viewer",
        after.resident as f64 / 1e6,
        grown / outcome.present.max(1) as f64 / 1e3,
    )
}

fn print_percentiles(out: &mut impl Write, name: &str, histogram: &Histogram) -> io::Result<()> {
    write!(out, "  {name:<26}")?;
    for percent in [50, 90, 99] {
        match histogram.percentile(percent) {
            Some(value) => write!(out, "{:>8.2} ms", ms(value))?,
            None => write!(out, "{:>11}", "-")?,
        }
    }
    writeln!(out, "   ({} samples)", histogram.len())
}

/// Returns CPU time per packet in microseconds, `None` when there were no packets.
#[expect(clippy::cast_precision_loss, reason = "counts of a run")]
pub(crate) fn cpu_per_packet(cpu: Duration, packets: u64) -> Option<f64> {
    (packets > 0).then(|| cpu.as_secs_f64() * 1e6 / packets as f64)
}

/// Returns milliseconds.
pub(crate) fn ms(value: Duration) -> f64 {
    value.as_secs_f64() * 1e3
}

/// The table of figures with their goals.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    name: String,
    value: String,
    goal: &'static str,
    met: Option<bool>,
}

impl Table {
    /// Adds a figure with its goal.
    pub(crate) fn goal(&mut self, name: &str, value: String, goal: &'static str, met: bool) {
        self.push(name, value, goal, Some(met));
    }

    /// Adds a figure that has no goal.
    pub(crate) fn note(&mut self, name: &str, value: String) {
        self.push(name, value, "", None);
    }

    fn push(&mut self, name: &str, value: String, goal: &'static str, met: Option<bool>) {
        let name = name.to_owned();
        let row = Row {
            name,
            value,
            goal,
            met,
        };
        // Shown at once: the whole takes minutes.
        let _ = row.print(&mut io::stderr().lock());
        self.rows.push(row);
    }

    /// Prints it.
    ///
    /// # Errors
    /// When the output is closed.
    pub(crate) fn print(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        self.rows.iter().try_for_each(|row| row.print(&mut out))
    }
}

impl Row {
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let Self {
            name,
            value,
            goal,
            met,
        } = self;
        match met {
            None => writeln!(out, "  {name:<62} {value}"),
            Some(met) => {
                let verdict = if *met { "met" } else { "MISSED" };
                writeln!(out, "  {name:<62} {value:<34} goal {goal}: {verdict}")
            }
        }
    }
}

/// Writes two percentiles of a histogram.
pub(crate) fn p50_p99(histogram: &Histogram) -> String {
    let value = |percent| {
        histogram
            .percentile(percent)
            .map_or_else(|| "-".into(), |value| format!("{:.2}", ms(value)))
    };
    format!("p50 {}, p99 {} ms", value(50), value(99))
}

/// Returns whether a percentile is at most so many milliseconds.
pub(crate) fn within(histogram: &Histogram, percent: u64, limit: f64) -> bool {
    histogram
        .percentile(percent)
        .is_some_and(|value| ms(value) <= limit)
}

/// Writes a share of lost packets, nothing when there is none to speak of.
pub(crate) fn lost(tally: &Tally) -> String {
    let loss = tally.loss() * 100.0;
    if loss >= 0.01 {
        format!(", {loss:.2} % lost")
    } else {
        String::new()
    }
}

/// Writes how many frames are not counted because the machine took the server's processor away.
#[expect(clippy::cast_precision_loss, reason = "counts of a run")]
pub(crate) fn excused(tally: &Tally) -> String {
    let all = tally.frame_delay.len() + tally.excused;
    match tally.excused {
        0 => String::new(),
        excused => format!(
            ", without {:.1} % while the processor was away",
            excused as f64 * 100.0 / all as f64
        ),
    }
}
