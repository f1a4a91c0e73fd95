//! One peer's transport: against an independent client, against hostile ones, and its answers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "a test needs a first instant")]
#![expect(clippy::print_stdout, reason = "a test tells what it measured")]

mod corpus;
mod hostile;
mod offers;
mod pair;
mod raw_sctp;
mod session;
#[path = "../support/mod.rs"]
mod support;
