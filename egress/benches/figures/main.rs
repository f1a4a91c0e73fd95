//! Figures of outputs: `make figures`, or one of them by its name and a number behind `--`:
//!
//! ```text
//! cargo bench -p egress --bench figures -- cost 20      seconds to measure each
//! cargo bench -p egress --bench figures -- transcode 20 seconds to measure each
//! cargo bench -p egress --bench figures -- tracks 20    seconds to measure each
//! cargo bench -p egress --bench figures -- compose 20   seconds to measure each
//! cargo bench -p egress --bench figures -- start 5      times
//! cargo bench -p egress --bench figures -- away 60      seconds that the RTMP server is away
//! cargo bench -p egress --bench figures -- kills 50     times that the worker is killed
//! cargo bench -p egress --bench figures -- long 30      minutes
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement fails by panicking, in its helpers too"
)]

mod compose;
mod cost;
mod endurance;
mod recovery;
#[path = "../../tests/outputs/support/mod.rs"]
#[allow(dead_code, reason = "tests use the rest of it")]
mod support;

/// Says what a figure is to be at most, in its unit, and whether it is.
fn goal(value: f64, most: f64) -> String {
    let verdict = if value <= most { "met" } else { "missed" };
    format!("(goal: at most {most}; {verdict})")
}

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench");
    let name = arguments.next();
    let number = arguments.next().map(|text| text.parse().unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let all = name.is_none();
        let wanted = |figure: &str| all || name.as_deref() == Some(figure);
        if wanted("cost") {
            cost::pass_through(number.unwrap_or(20)).await;
        }
        if wanted("transcode") {
            cost::transcode(number.unwrap_or(20)).await;
        }
        if wanted("tracks") {
            cost::tracks(number.unwrap_or(20)).await;
        }
        if wanted("compose") {
            compose::compose(number.unwrap_or(20)).await;
        }
        if wanted("start") {
            recovery::start(number.unwrap_or(5)).await;
        }
        if wanted("away") {
            recovery::away(number.unwrap_or(60)).await;
        }
        if wanted("kills") {
            recovery::kills(number.unwrap_or(50)).await;
        }
        // Half an hour is for those who ask.
        if wanted("long") {
            endurance::long(number.unwrap_or(if all { 1 } else { 30 })).await;
        }
    });
}
