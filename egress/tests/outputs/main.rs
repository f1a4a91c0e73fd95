//! Real workers send a real stream to real RTMP servers, SRT receivers and HLS.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, in its helpers too"
)]

mod broadcaster_changes;
mod composed;
mod delivery;
mod destinations;
mod isolation;
mod recordings;
mod recovery;
mod refusals;
mod requests;
mod rights;
mod sources;
mod srt;
mod storage;
mod support;
mod thumbnails;
