//! The media that is published: encoded clips, cut into RTP payloads and paced.

mod clip;
mod encoder;
mod h264;
mod ogg;
mod packetizer;
mod player;
mod schedule;

pub(crate) use clip::Clip;
pub(crate) use encoder::{Encoding, encode};
pub(crate) use player::{Medium, Pacing, Player, Unit};
pub(crate) use schedule::Schedule;
