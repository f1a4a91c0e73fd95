//! [`Turn`]: which of a receiver's addresses is called next.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The addresses at which nobody took the stream. Shared by all attempts at a destination.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turn {
    silent: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Turn {
    /// Returns the first address at which somebody may answer, or of all once none has: `None` without any. It is
    /// passed over next time, unless [`Self::keep`] says otherwise.
    pub(super) fn take(&self, addresses: &[SocketAddr]) -> Option<SocketAddr> {
        let mut silent = self.lock();
        silent.retain(|address| addresses.contains(address));
        if addresses.iter().all(|address| silent.contains(address)) {
            silent.clear();
        }
        let next = addresses.iter().find(|address| !silent.contains(address));
        silent.extend(next);
        next.copied()
    }

    /// Takes in that somebody answered, or that nobody was waited for.
    pub(super) fn keep(&self, address: SocketAddr) {
        self.lock().retain(|silent| *silent != address);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<SocketAddr>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_turn_until_one_answers() {
        let [a, b, c] = [1, 2, 3].map(|n| SocketAddr::from(([203, 0, 113, n], 9000)));
        let turn = Turn::default();
        let of_attempts = turn.clone();
        let next = |addresses: &[SocketAddr]| of_attempts.take(addresses);
        assert_eq!(next(&[a, b, c]), Some(a));
        assert_eq!(next(&[a, b, c]), Some(b));
        assert_eq!(next(&[c, b, a]), Some(c), "in whatever order names resolve");
        assert_eq!(next(&[a, b, c]), Some(a), "anew");
        assert_eq!(next(&[a, b, c]), Some(b));
        turn.keep(b);
        assert_eq!(
            next(&[a, b, c]),
            Some(b),
            "it was live, and is called again"
        );
        assert_eq!(next(&[a, b, c]), Some(c));
        assert_eq!(next(&[a]), Some(a), "another address of the same name");
        assert_eq!(next(&[a]), Some(a), "the only one");
        assert_eq!(next(&[]), None);
    }
}
