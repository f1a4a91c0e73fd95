//! Outputs: a room's program to RTMP servers and HLS, by one worker process per job.
//!
//! Refuses to know people and permissions (the app checks them before a route is reached) and WebRTC (media
//! arrives as a tap of the SFU).

mod admission;
mod album;
mod api;
mod backoff;
mod config;
mod delivery;
mod destination;
pub mod etag;
mod feed;
mod fmp4;
mod hls;
mod job;
mod jobs;
mod journal;
mod layout;
mod leftover;
mod link;
mod meters;
mod origin;
mod output;
mod overload;
mod pattern;
mod pipeline;
mod platform;
mod playlist;
mod preset;
mod problem;
mod process;
mod rate;
mod recording;
mod refusal;
mod register;
mod rtmp;
mod sandbox;
mod scene;
mod service;
mod signed;
mod source;
pub mod status;
mod still;
mod store;
mod supervisor;
mod thumbnail;
mod vigil;
mod wall_clock;
mod wish;
mod worker;

pub use config::{Config, ConfigError, HlsConfig, RecordingConfig, S3Config};
pub use sandbox::{hide_memory, keep_files_private};
pub use scene::{Corner, Image, Layout, Look, Scene, Tile};
pub use service::{Caller, Changed, OpenError, RecordingReady, Room, Service};
pub use source::{BoxFuture, Source, Sources};
pub use still::run_still_worker;
pub use worker::run_worker;
