//! Recordings: fragmented files while they are made, finished ones afterwards, and the library of them.
//!
//! A worker writes the fragmented files (`output/record.rs`), a thread of the server makes fast-start files of them
//! (`workshop.rs`), the uploader brings these to a
//! storage if there is one (`uploader.rs`), and the library says what there is.

mod api;
mod cast;
mod entry;
mod finish;
mod follower;
mod library;
mod movie;
mod raw;
mod reel;
mod remote;
mod sprite;
mod trouble;
mod upload;
mod uploader;
mod workshop;

pub(crate) use api::{Desk, file_routes, routes};
pub(crate) use cast::{Cast, track_folder};
pub(crate) use entry::Entry;
pub(crate) use library::Library;
pub(crate) use raw::Raw;
pub(crate) use remote::Remote;
pub(crate) use uploader::Uploader;
