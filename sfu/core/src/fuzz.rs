//! Entry points for the fuzz targets and for the test that replays their corpus.
//!
//! Each takes arbitrary bytes and must return: no panic, no read past the end, no work without bound.

pub use crate::{sfu::fuzz::*, transport::fuzz::*};

/// A target's name, which is also the name of its corpus, and the function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 15] = [
    ("arrivals", arrivals),
    ("client_hello", client_hello),
    ("datagram", datagram),
    ("dcep", dcep),
    ("dependency", dependency),
    ("fragment", fragment),
    ("frames", frames),
    ("payload", payload),
    ("room", room),
    ("rtcp", rtcp),
    ("rtp", rtp),
    ("sctp", sctp),
    ("sdp", sdp),
    ("srtp", srtp),
    ("stun", stun),
];
