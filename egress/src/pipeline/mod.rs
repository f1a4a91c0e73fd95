//! From RTP packets to encoded frames on one timeline: what a worker does once for all its destinations.
//!
//! All GStreamer pipelines of a worker share the monotonic system clock and a base time taken when the worker
//! started; every time here is a [`std::time::Duration`] since that base.

mod audio;
mod av1;
mod clock;
mod compose;
mod frame;
mod graph;
mod hub;
mod intake;
mod program;
mod rtp_input;
mod timeline;
mod video;

pub(crate) use av1::{Depacketizer, Outcome};
pub(crate) use clock::{Clock, monotonic};
pub(crate) use compose::Composer;
pub(crate) use frame::Frame;
pub(crate) use graph::{Graph, GraphError, Said};
pub(crate) use hub::{Attached, Hub, Output};
pub(crate) use intake::Intake;
pub(crate) use program::Air;
