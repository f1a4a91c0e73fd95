//! Whole rooms over a virtual network: real client stacks, real encryption, seeded chance.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "a test needs a first instant")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm,
    clippy::print_stdout,
    reason = "a test knows its numbers, and prints its seeds"
)]

mod allocations;
mod bandwidth;
mod carried;
mod hold;
mod hostile;
mod joins;
mod keyframes;
mod layers;
mod model;
mod paths;
mod relay;
mod room;
mod stage;
mod stats;
#[allow(dead_code, reason = "each test uses its part of the client")]
#[path = "../support/mod.rs"]
mod support;
mod svc;
mod world;
