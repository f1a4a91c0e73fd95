//! Joins spread over time.

use std::time::Duration;

use anyhow::bail;
use tokio::{task::JoinSet, time::Instant};

use crate::audience::Audience;

/// How a ramp went.
#[derive(Debug, Default)]
pub(crate) struct Joins {
    /// Viewers that the server took.
    pub(crate) joined: u64,
    /// Viewers that it did not.
    pub(crate) refused: u64,
    /// What it told the first of those.
    pub(crate) first_refusal: Option<String>,
    /// Viewers that left, and whose sessions it did not end when it was asked to.
    pub(crate) unended: u64,
    /// What it said to the first of those.
    pub(crate) first_unended: Option<String>,
}

impl Joins {
    /// Takes the outcome of a join.
    pub(crate) fn note<T>(&mut self, outcome: anyhow::Result<T>) -> Option<T> {
        match outcome {
            Ok(joined) => {
                self.joined += 1;
                Some(joined)
            }
            Err(error) => {
                self.refused += 1;
                self.first_refusal
                    .get_or_insert_with(|| format!("{error:#}"));
                None
            }
        }
    }

    /// Takes the outcome of a farewell. Some servers do not know it: the viewer is gone all the same.
    pub(crate) fn note_farewell(&mut self, outcome: anyhow::Result<()>) {
        if let Err(error) = outcome {
            self.unended += 1;
            self.first_unended
                .get_or_insert_with(|| format!("{error:#}"));
        }
    }
}

/// Lets viewers join, so many a second, and waits until all are connected or have had enough time.
///
/// # Errors
/// When a join panics.
pub(crate) async fn join(
    audience: &mut Audience,
    viewers: usize,
    rate: u32,
) -> anyhow::Result<Joins> {
    let mut joins = Joins::default();
    let mut tasks = JoinSet::new();
    let start = Instant::now();
    let before = audience.crowd.present();
    for index in 0..viewers {
        let due = Duration::from_secs(1) * u32::try_from(index)? / rate.max(1);
        tokio::time::sleep_until(start + due).await;
        tasks.spawn(audience.arriving()?.join());
        while let Some(done) = tasks.try_join_next() {
            if let Some(joined) = joins.note(done?) {
                audience.joined(joined);
            }
        }
    }
    while let Some(done) = tasks.join_next().await {
        if let Some(joined) = joins.note(done?) {
            audience.joined(joined);
        }
    }
    let expected = before + usize::try_from(joins.joined)?;
    let limit = Instant::now() + SETTLE_LIMIT;
    while audience.crowd.settled() < expected && Instant::now() < limit {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(joins)
}

/// Like [`join`], but nobody may stay behind.
///
/// # Errors
/// When a viewer is refused or does not connect.
pub(crate) async fn join_all(
    audience: &mut Audience,
    viewers: usize,
    rate: u32,
) -> anyhow::Result<()> {
    let before = audience.crowd.present();
    let joins = join(audience, viewers, rate).await?;
    if let Some(reason) = joins.first_refusal {
        bail!(
            "{} of {viewers} viewers were refused: {reason}",
            joins.refused
        );
    }
    let settled = audience.crowd.settled();
    if settled < before + viewers {
        bail!(
            "{} of {viewers} viewers did not connect",
            before + viewers - settled
        );
    }
    Ok(())
}

const SETTLE_LIMIT: Duration = Duration::from_secs(15);
