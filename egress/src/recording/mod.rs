//! Recordings: fragmented files while they are made, finished ones afterwards, and the library of them.
//!
//! A worker writes the fragmented files (`output/record.rs`), a thread of the server makes fast-start files of them
//! (`workshop.rs`), and the library says what there is.

mod api;
mod entry;
mod finish;
mod follower;
mod library;
mod movie;
mod raw;
mod reel;
mod sprite;
mod workshop;

pub(crate) use api::{Desk, file_routes, routes};
pub(crate) use library::Library;
pub(crate) use raw::Raw;
