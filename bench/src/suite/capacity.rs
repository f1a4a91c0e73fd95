//! How many viewers a core serves, and how soon.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{Bench, kilobytes};
use crate::{
    child::Process,
    media::{Clip, Pacing},
    ramp,
    report::{cpu_per_packet, excused, lost, p50_p99, within},
    scene::{Scene, Span},
};

/// What a number of viewers got.
struct Step {
    viewers: usize,
    span: Span,
}

impl Bench {
    /// Viewers per core at 1.4 Mb/s, and delays at half of that load: all in one room, where each frame is for
    /// everybody at the same time, or spread over rooms whose publishers know nothing of each other.
    #[expect(clippy::cast_precision_loss, reason = "counts of a run")]
    pub(super) async fn capacity(&mut self, rooms: usize) -> anyhow::Result<()> {
        let shape = match rooms {
            1 => "one room".to_owned(),
            rooms => format!("{rooms} rooms"),
        };
        let mut scene = self.rooms(rooms).await?;
        let (cpu, packets) = self.floor(
            &mut Process::start(&self.processors)?,
            &scene,
            (&Arc::clone(&self.low), Pacing::Browser),
            false,
        )?;
        let floor = cpu_per_packet(cpu, packets).unwrap_or(f64::NAN) / 1e3;
        scene.play_apart(&self.low, Pacing::Browser).await;
        // The history of the rooms is filled before memory is compared.
        sleep(Duration::from_secs(4)).await;
        let alone = scene.server.usage()?;
        let steps = self.climb(&mut scene, &shape).await?;
        let loaded = scene.server.usage()?;
        let in_time = steps
            .iter()
            .filter(|step| within(&step.span.tally.frame_delay, 99, 5.0));
        let in_time = in_time.map(|step| step.viewers).max().unwrap_or(0);
        self.table.goal(
            &format!("viewers per core at 1.4 Mb/s, {shape}, frames within 5 ms (p99)"),
            in_time.to_string(),
            "1500",
            in_time >= 1500,
        );
        if let Some(Step { viewers, span }) = steps.last() {
            let value = format!("{viewers}, at {:.0} % of a core", span.share() * 100.0);
            self.table
                .note("  without loss, and within 50 ms (p99)", value);
            let grown = kilobytes(alone, loaded, scene.audience.crowd.present());
            let value = format!("{grown:.0} KB");
            self.table.goal(
                &format!("memory per viewer with data channel, under load, {shape}"),
                value,
                "70 KB",
                grown <= 70.0,
            );
        }
        let from_half = |step: &&Step| (step.span.share() - 0.5).abs();
        let half = steps
            .iter()
            .min_by(|a, b| from_half(a).total_cmp(&from_half(b)));
        if let Some(Step { viewers, span }) = half {
            let (share, delay) = (span.share() * 100.0, &span.tally.frame_delay);
            self.table.goal(
                &format!("delay of whole frames at {share:.0} % load ({viewers} viewers, {shape})"),
                p50_p99(delay),
                "p50 0.3, p99 2 ms",
                within(delay, 50, 0.3) && within(delay, 99, 2.0),
            );
            self.table.note(
                "  delay of first packets of frames",
                p50_p99(&span.tally.packet_delay),
            );
            let frames = span.time.as_secs_f64() / Clip::FRAME.as_secs_f64();
            let burst = span.tally.packets as f64 / frames / rooms as f64 * floor;
            self.table.note(
                "  floor: sendmmsg of one frame to all of a room",
                format!("first to last {burst:.2} ms"),
            );
        }
        Ok(())
    }

    /// Lets more and more viewers join until they are too many. Returns what they got up to there.
    async fn climb(&mut self, scene: &mut Scene, shape: &str) -> anyhow::Result<Vec<Step>> {
        let mut steps = Vec::new();
        for viewers in CROWDS {
            let more = viewers - scene.audience.crowd.present();
            ramp::join_all(&mut scene.audience, more, 500).await?;
            sleep(Duration::from_millis(2200)).await;
            let span = scene.measure(self.time).await?;
            let (share, delay) = (span.share(), &span.tally.frame_delay);
            self.table.note(
                &format!("  {viewers} viewers at 1.4 Mb/s, {shape}: delay of whole frames"),
                format!(
                    "{}, {:.0} % of a core, {:.2} us{}{}",
                    p50_p99(delay),
                    share * 100.0,
                    span.per_packet(),
                    lost(&span.tally),
                    excused(&span.tally)
                ),
            );
            if span.tally.loss() > 0.001 || !within(delay, 99, HOPELESS) {
                break;
            }
            steps.push(Step { viewers, span });
            if share > 0.95 {
                break;
            }
        }
        Ok(steps)
    }
}

/// Viewers at which capacity is looked at.
const CROWDS: [usize; 8] = [200, 400, 600, 800, 1000, 1250, 1500, 1750];

/// Milliseconds of delay from where there is no use in looking at larger crowds.
const HOPELESS: f64 = 50.0;
