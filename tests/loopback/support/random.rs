//! Randomness with a seed that can be told.

use std::{collections::hash_map::RandomState, hash::BuildHasher};

/// xorshift64*.
pub(crate) struct Random(u64);

impl Random {
    /// Starts anywhere, or where `FANLIGHT_TEST_SEED` says, and prints where.
    pub(crate) fn new() -> Self {
        let given = std::env::var("FANLIGHT_TEST_SEED").ok();
        let seed = given.map_or_else(
            || RandomState::new().hash_one(0) | 1,
            |seed| seed.parse().unwrap(),
        );
        eprintln!("FANLIGHT_TEST_SEED={seed}");
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// Returns a number less than `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap()).unwrap()
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}
