//! A GStreamer pipeline on the worker's clock.

use std::{sync::mpsc, thread, time::Duration};

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use thiserror::Error;

use super::Clock;

/// A playing pipeline. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct Graph {
    pipeline: gst::Pipeline,
    bus: gst::Bus,
}

/// Why a pipeline does not play.
#[derive(Debug, Error)]
pub(crate) enum GraphError {
    /// A plugin is missing, most likely.
    #[error("build the pipeline: {0}")]
    Build(String),
    #[error("start the pipeline: {0}")]
    Start(#[from] gst::StateChangeError),
}

/// What a pipeline said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    Ended,
    Failed { message: String, debug: String },
}

impl Graph {
    /// Builds a pipeline from its description; [`Self::play`] starts it.
    pub(crate) fn build(description: &str, clock: &Clock) -> Result<Self, GraphError> {
        let broken = |e: &dyn std::fmt::Display| GraphError::Build(e.to_string());
        let pipeline = gst::parse::launch(description)
            .map_err(|e| broken(&e))?
            .downcast::<gst::Pipeline>()
            .map_err(|_| broken(&"not a pipeline"))?;
        pipeline.use_clock(Some(&gst::SystemClock::obtain()));
        pipeline.set_start_time(gst::ClockTime::NONE);
        pipeline.set_base_time(clock.base_time());
        let bus = pipeline.bus().ok_or_else(|| broken(&"no bus"))?;
        Ok(Self { pipeline, bus })
    }

    pub(crate) fn play(&self) -> Result<(), GraphError> {
        self.pipeline.set_state(gst::State::Playing)?;
        Ok(())
    }

    /// Returns the pipeline, to add and remove elements while it plays.
    pub(crate) fn pipeline(&self) -> &gst::Pipeline {
        &self.pipeline
    }

    /// Returns an element of the description by its name.
    pub(crate) fn element(&self, name: &str) -> Result<gst::Element, GraphError> {
        self.pipeline
            .by_name(name)
            .ok_or_else(|| GraphError::Build(format!("no element {name}")))
    }

    pub(crate) fn source(&self, name: &str) -> Result<gst_app::AppSrc, GraphError> {
        self.element(name)?
            .downcast()
            .map_err(|_| GraphError::Build(format!("{name} is not an appsrc")))
    }

    pub(crate) fn sink(&self, name: &str) -> Result<gst_app::AppSink, GraphError> {
        self.element(name)?
            .downcast()
            .map_err(|_| GraphError::Build(format!("{name} is not an appsink")))
    }

    /// Waits at most `timeout` for the pipeline to end or fail, and keeps its latency right meanwhile.
    pub(crate) fn wait(&self, timeout: Duration) -> Option<Said> {
        let told = [
            gst::MessageType::Error,
            gst::MessageType::Eos,
            gst::MessageType::Latency,
        ];
        let message = if timeout.is_zero() {
            // The other one gives up before it has looked.
            self.bus.pop_filtered(&told)
        } else {
            let timeout = super::clock::clock_time(timeout);
            self.bus.timed_pop_filtered(timeout, &told)
        }?;
        let view = message.view();
        if let gst::MessageView::Error(error) = view {
            return Some(Said::Failed {
                message: error.error().to_string(),
                debug: error.debug().map(|d| d.to_string()).unwrap_or_default(),
            });
        }
        if let gst::MessageView::Latency(_) = view {
            // Unhandled, a muxer drops what it takes for late.
            let _ = self.pipeline.recalculate_latency();
            return None;
        }
        Some(Said::Ended)
    }
}

impl Drop for Graph {
    /// A sink that is stuck in the network must not hold up the rest: after [`STOP_LIMIT`] its thread is left
    /// alone with it.
    fn drop(&mut self) {
        let pipeline = self.pipeline.clone();
        let (done, stopped) = mpsc::sync_channel(1);
        thread::spawn(move || {
            let _ = pipeline.set_state(gst::State::Null);
            let _ = done.try_send(());
        });
        let _ = stopped.recv_timeout(STOP_LIMIT);
    }
}

const STOP_LIMIT: Duration = Duration::from_secs(2);
