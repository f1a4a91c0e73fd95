//! Outputs: a room's program to RTMP servers and HLS, by one worker process per job.
//!
//! Refuses to know people and permissions (the app checks them before a route is reached) and WebRTC (media
//! arrives as a tap of the SFU).

pub mod status;
