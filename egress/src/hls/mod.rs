//! HLS and low-latency HLS (draft-pantos-hls-rfc8216bis) from memory: what a worker has cut becomes playlists and
//! files, the same for every player.

mod address;
mod file;
mod rendition;
mod routes;
#[cfg(test)]
#[path = "../../../tests/loopback/support/hls_rules.rs"]
pub(crate) mod rules;
mod segment;
mod shelf;
mod step;
mod text;

pub(crate) use file::{File, From, Refusal, Reload, Text, Wanted};
pub(crate) use rendition::Rendition;
pub(crate) use routes::routes;
pub(crate) use segment::{Segment, Whole};
pub(crate) use shelf::Shelf;
pub(crate) use step::{InitHead, Piece, SegmentStart, StepHead};
pub(crate) use text::{Listing, MasterEntry, Place, master, media};
