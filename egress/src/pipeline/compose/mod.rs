//! Many into one picture and one sound: decodes what comes, mixes it and encodes it once for all destinations.
//!
//! [`Composer`] is what the intake feeds. Every lane is decoded in a pipeline of its own ([`decoder`]), so that what
//! is wrong with one takes down its tile only. [`Mixer`] is the one pipeline that goes on whatever comes and goes;
//! [`Staging`] decides for each of its pictures who is where, and [`Stagehand`] sets that up.

mod composer;
mod crop;
mod decoder;
mod encoder;
mod fitting;
mod label;
mod lateness;
#[cfg(test)]
mod look_tests;
mod mixer;
mod picture;
#[cfg(test)]
mod rig;
mod stagehand;
mod staging;
#[cfg(test)]
mod tests;
mod wardrobe;

use crate::preset::Preset;
pub(crate) use composer::Composer;
