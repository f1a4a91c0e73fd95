//! Thumbnails: pictures of what a job shows, one every so often, of which the newest are kept.
//!
//! The worker takes keyframes and hands them over; the process that decodes all pictures makes JPEG of them, and the
//! server keeps the files. So what cannot be decoded hurts no output, and a worker needs no right to write them.

mod albums;
mod api;
mod develop;
mod folder;
mod jpeg;
mod options;

pub(crate) use albums::Albums;
pub(crate) use api::routes;
pub(crate) use develop::Order;
pub(crate) use folder::{Album, Shot};
pub(crate) use options::shown_url;
