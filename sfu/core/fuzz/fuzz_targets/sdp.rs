#![no_main]

use libfuzzer_sys::fuzz_target;
use sfu_core::fuzz;

fuzz_target!(|bytes: &[u8]| fuzz::sdp(bytes));
