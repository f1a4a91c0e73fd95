//! Random numbers from a seed: SHA-256 in counter mode, so that tests repeat and credentials stay secret.

use aws_lc_rs::digest::{SHA256, digest};

/// A generator that is as unpredictable as its seed.
#[derive(Debug)]
pub(crate) struct Rng {
    seed: [u8; 32],
    counter: u64,
}

impl Rng {
    /// Creates a generator.
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self { seed, counter: 0 }
    }

    /// Returns 32 random bits.
    pub(crate) fn next_u32(&mut self) -> u32 {
        self.block()
            .first_chunk()
            .map_or(0, |bytes| u32::from_be_bytes(*bytes))
    }

    /// Returns `len` random characters that SDP allows in ICE credentials (RFC 8839 §5.4), 5 bits each;
    /// at most 32.
    pub(crate) fn token(&mut self, len: usize) -> String {
        const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        self.block()
            .iter()
            .take(len)
            .filter_map(|byte| ALPHABET.get(usize::from(byte & 31)))
            .map(|byte| char::from(*byte))
            .collect()
    }

    fn block(&mut self) -> [u8; 32] {
        self.counter += 1;
        let mut input = [0; 40];
        for (to, from) in input
            .iter_mut()
            .zip(self.seed.into_iter().chain(self.counter.to_be_bytes()))
        {
            *to = from;
        }
        let mut block = [0; 32];
        for (to, from) in block.iter_mut().zip(digest(&SHA256, &input).as_ref()) {
            *to = *from;
        }
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides_and_no_two_draws_are_alike() {
        let (mut a, mut b, mut c) = (Rng::new([1; 32]), Rng::new([1; 32]), Rng::new([2; 32]));
        let first = a.token(24);
        assert_eq!(first, b.token(24));
        assert_ne!(first, c.token(24));
        assert_ne!(first, a.token(24));
        assert_eq!(first.len(), 24);
        assert_ne!(a.next_u32(), a.next_u32());
    }
}
