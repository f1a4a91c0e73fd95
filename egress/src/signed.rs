//! Tokens that open what lies below a path until a time: links for players and downloads that send no header.

use std::{io, path::Path};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use thiserror::Error;

use crate::store::read_or_make_key;

/// Makes and checks tokens (HMAC-SHA256). Cheap to clone.
///
/// A token consists of characters that need no escaping in a query or a path.
#[derive(Clone)]
pub(crate) struct Signer {
    key: hmac::Key,
}

/// Why a token does not open a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum TokenError {
    /// It was made by another key, for another path, or is no token at all.
    #[error("the token does not fit")]
    Invalid,
    /// It was for this path, until this time.
    #[error("the token has expired")]
    Expired {
        /// Unix seconds.
        at: u64,
    },
}

impl Signer {
    /// Opens the key in `folder`, making it if need be. Only the server's user can read it.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        Ok(Self::new(&read_or_make_key(&folder.join("signing-key"))?))
    }

    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
        }
    }

    /// Returns a token for every path below `path_prefix` if that ends with a slash, else for that path alone. It
    /// holds until `expires_unix_s`.
    pub(crate) fn sign(&self, path_prefix: &str, expires_unix_s: u64) -> String {
        let length = path_prefix.len();
        let message = message(path_prefix, expires_unix_s);
        let tag = URL_SAFE_NO_PAD.encode(hmac::sign(&self.key, message.as_bytes()));
        format!("{expires_unix_s}.{length}.{tag}")
    }

    /// Checks that `token` opens `path` at `now` (Unix seconds), and returns when it expires. Whether it fits is
    /// checked first: only whoever had a right learns that it has expired.
    pub(crate) fn verify(&self, path: &str, token: &str, now: u64) -> Result<u64, TokenError> {
        let (expires, prefix, tag) = parse(path, token).ok_or(TokenError::Invalid)?;
        let whole = prefix.len() == path.len() || prefix.ends_with('/');
        hmac::verify(&self.key, message(prefix, expires).as_bytes(), &tag)
            .ok()
            .filter(|()| whole)
            .ok_or(TokenError::Invalid)?;
        if now >= expires {
            return Err(TokenError::Expired { at: expires });
        }
        Ok(expires)
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer(…)")
    }
}

fn parse<'a>(path: &'a str, token: &str) -> Option<(u64, &'a str, Vec<u8>)> {
    let mut parts = token.split('.');
    let (expires, length, tag) = (parts.next()?, parts.next()?, parts.next()?);
    let prefix = path.get(..length.parse().ok()?)?;
    let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
    parts
        .next()
        .is_none()
        .then_some((expires.parse().ok()?, prefix, tag))
}

fn message(path_prefix: &str, expires_unix_s: u64) -> String {
    format!("fanlight path 1\n{expires_unix_s}\n{path_prefix}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn signer() -> Signer {
        Signer::new(&[7; 32])
    }

    #[test]
    fn a_token_opens_what_lies_below_its_path_until_it_expires() {
        let below = signer().sign("/hls/anna/", 1000);
        let alone = signer().sign("/recordings/4", 1000);
        for (path, token, now, opens) in [
            ("/hls/anna/index.m3u8", &below, 999, Ok(1000)),
            ("/hls/anna/v0/seg-1.m4s", &below, 0, Ok(1000)),
            (
                "/hls/anna/index.m3u8",
                &below,
                1000,
                Err(TokenError::Expired { at: 1000 }),
            ),
            (
                "/hls/annabel/index.m3u8",
                &below,
                0,
                Err(TokenError::Invalid),
            ),
            ("/hls/anna", &below, 0, Err(TokenError::Invalid)),
            ("/recordings/4", &alone, 0, Ok(1000)),
            ("/recordings/42", &alone, 0, Err(TokenError::Invalid)),
            ("/recordings/4/x", &alone, 0, Err(TokenError::Invalid)),
        ] {
            assert_eq!(signer().verify(path, token, now), opens, "{path} at {now}");
        }
    }

    #[test]
    fn what_was_changed_does_not_fit() {
        let token = signer().sign("/hls/anna/", 1000);
        let path = "/hls/anna/index.m3u8";
        for changed in [
            token.replacen("1000", "9000", 1),
            token.replacen(".10.", ".5.", 1),
            token.replacen(".10.", ".+10.", 1) + "x",
            format!("{token}.x"),
            format!("{token}A"),
            token[..token.len() - 2].to_owned(),
            String::new(),
            "..".to_owned(),
            "1000.99999999999999999999.x".to_owned(),
        ] {
            let verified = signer().verify(path, &changed, 0);
            assert_eq!(verified, Err(TokenError::Invalid), "{changed}");
        }
        let other = Signer::new(&[8; 32]).verify(path, &token, 0);
        assert_eq!(other, Err(TokenError::Invalid));
    }

    #[test]
    fn the_key_outlives_the_process_and_is_not_printed() {
        let folder = tempfile::tempdir().unwrap();
        let token = Signer::open(folder.path()).unwrap().sign("/a", 9);
        let again = Signer::open(folder.path()).unwrap();
        assert_eq!(again.verify("/a", &token, 8), Ok(9));
        assert_eq!(format!("{again:?}"), "Signer(…)");
    }

    proptest! {
        #[test]
        fn garbage_is_refused_without_a_panic(path in "\\PC{0,40}", token in "[0-9.\\PC]{0,60}") {
            prop_assert_eq!(signer().verify(&path, &token, 0), Err(TokenError::Invalid));
        }
    }
}
