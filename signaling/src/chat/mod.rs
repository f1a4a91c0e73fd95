//! Chat: who may write what, and how fast; what a newcomer sees.
//!
//! `rules` and `pace` decide, [`Desk`] stores and sends. Refuses to know how messages travel.

mod desk;
mod pace;
mod rules;

pub(crate) use desk::{Desk, Errand};
pub(crate) use rules::MAX_REQUEST;
