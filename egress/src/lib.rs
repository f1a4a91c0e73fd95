//! Outputs: a room's program to RTMP servers and HLS, by one worker process per job.
//!
//! Refuses to know people and permissions (the app checks them before a route is reached) and WebRTC (media
//! arrives as a tap of the SFU).

mod api;
mod backoff;
mod config;
mod destination;
mod feed;
mod fmp4;
mod job;
mod link;
mod origin;
mod output;
mod pipeline;
mod playlist;
mod problem;
mod process;
mod rate;
mod service;
mod source;
pub mod status;
mod supervisor;
mod worker;

pub use config::{Config, ConfigError, HlsConfig};
pub use service::{Changed, Room, Service};
pub use source::{BoxFuture, Source, Sources};
pub use worker::run_worker;
