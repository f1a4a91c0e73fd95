//! A look into the first ClientHello, before the DTLS library sees it.
//!
//! Libraries follow the client's order of SRTP profiles, and browsers put the slow one first. So the
//! server looks at what is offered and then configures the one profile that it wants.

use super::reader::Reader;

/// The datagrams of a client's first ClientHello (RFC 6347 §4.2.1), which may come in fragments.
#[derive(Debug, Default)]
pub(super) struct ClientHello {
    datagrams: Vec<Vec<u8>>,
    /// Fragments as (offset, bytes); how many there are is limited by the caller's handshake budget.
    fragments: Vec<(usize, Vec<u8>)>,
    length: Option<usize>,
}

impl ClientHello {
    /// Adds a datagram. Returns false when it holds nothing of a first ClientHello.
    pub(super) fn push(&mut self, datagram: &[u8]) -> bool {
        let known = self.fragments.len();
        let mut reader = Reader::new(datagram);
        while !reader.is_empty() {
            if self.push_record(&mut reader).is_none() {
                break;
            }
        }
        let is_hello = self.fragments.len() > known;
        if is_hello {
            self.datagrams.push(datagram.to_vec());
        }
        is_hello
    }

    /// Returns whether AEAD_AES_128_GCM (RFC 7714) is offered; `None` until all fragments are there.
    pub(super) fn offers_gcm(&self) -> Option<bool> {
        let length = self.length?;
        let mut body = Vec::with_capacity(length);
        while body.len() < length {
            let (offset, bytes) = self.fragments.iter().find(|(offset, bytes)| {
                *offset <= body.len() && offset + bytes.len() > body.len()
            })?;
            body.extend_from_slice(bytes.get(body.len() - offset..)?);
        }
        Some(find_srtp_profiles(&body).is_some_and(|profiles| {
            profiles
                .chunks_exact(2)
                .any(|profile| profile == SRTP_AEAD_AES_128_GCM)
        }))
    }

    /// Returns the datagrams in the order they came.
    pub(super) fn into_datagrams(self) -> Vec<Vec<u8>> {
        self.datagrams
    }

    fn push_record(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        let (kind, _version, epoch) = (reader.u8()?, reader.u16()?, reader.u16()?);
        let _sequence: [u8; 6] = reader.array()?;
        let mut record = Reader::new(reader.vec16()?);
        if kind != HANDSHAKE || epoch != 0 {
            return Some(());
        }
        while !record.is_empty() {
            let (message, length, sequence) = (record.u8()?, record.u24()?, record.u16()?);
            let (offset, fragment_length) = (record.u24()?, record.u24()?);
            let bytes = record.take(usize::try_from(fragment_length).ok()?)?;
            let length = usize::try_from(length).ok()?;
            let offset = usize::try_from(offset).ok()?;
            let is_first_hello = message == CLIENT_HELLO && sequence == 0;
            let fits = length <= MAX_HELLO
                && *self.length.get_or_insert(length) == length
                && offset + bytes.len() <= length;
            if !is_first_hello || !fits {
                return None;
            }
            self.fragments.push((offset, bytes.to_vec()));
        }
        Some(())
    }
}

/// Returns the profiles of the use_srtp extension (RFC 5764 §4.1.1).
fn find_srtp_profiles(hello: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(hello);
    let _version_and_random: [u8; 34] = reader.array()?;
    let _session_id = reader.vec8()?;
    let _cookie = reader.vec8()?;
    let _cipher_suites = reader.vec16()?;
    let _compression_methods = reader.vec8()?;
    let mut extensions = Reader::new(reader.vec16()?);
    loop {
        let (kind, value) = (extensions.u16()?, extensions.vec16()?);
        if kind == USE_SRTP {
            return Reader::new(value).vec16();
        }
    }
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const USE_SRTP: u16 = 14;
const SRTP_AEAD_AES_128_GCM: [u8; 2] = [0, 7];

/// Several times what browsers send with post-quantum key shares (1.7 KB).
const MAX_HELLO: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn profiles_are_found_in_whole_and_fragmented_hellos() {
        for (label, profiles, expected) in [
            ("SHA1 before GCM", &[0, 1, 0, 7][..], true),
            ("SHA1 only", &[0, 1], false),
            ("AES-256-GCM only", &[0, 8], false),
            ("none", &[], false),
        ] {
            let body = hello(profiles);
            let mut whole = ClientHello::default();
            assert!(whole.push(&record(body.len(), 0, &body)), "{label}");
            assert_eq!(whole.offers_gcm(), Some(expected), "{label}");

            let (first, second) = body.split_at(40);
            let mut reordered = ClientHello::default();
            assert!(reordered.push(&record(body.len(), 40, second)), "{label}");
            assert_eq!(reordered.offers_gcm(), None, "{label}");
            assert!(reordered.push(&record(body.len(), 0, first)), "{label}");
            assert_eq!(reordered.offers_gcm(), Some(expected), "{label}");
            assert_eq!(reordered.into_datagrams().len(), 2, "{label}");
        }
    }

    #[test]
    fn other_messages_are_not_collected() {
        let mut hello = ClientHello::default();
        assert!(!hello.push(&[23, 254, 253, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 9]));
        assert!(!hello.push(&record(1 << 20, 0, &[1; 40])));
        assert_eq!(hello.into_datagrams().len(), 0);
    }

    proptest! {
        #[test]
        fn arbitrary_datagrams_never_panic(
            datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..4),
        ) {
            let mut hello = ClientHello::default();
            for mut datagram in datagrams {
                hello.push(&datagram);
                if let [kind, _, _, epoch_high, epoch_low, ..] = datagram.as_mut_slice() {
                    (*kind, *epoch_high, *epoch_low) = (HANDSHAKE, 0, 0);
                }
                hello.push(&datagram);
                let _ = hello.offers_gcm();
            }
        }

        #[test]
        fn arbitrary_hellos_never_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut hello = ClientHello::default();
            hello.push(&record(body.len(), 0, &body));
            let _ = hello.offers_gcm();
        }
    }

    fn hello(profiles: &[u8]) -> Vec<u8> {
        let mut body = vec![254, 253];
        body.extend([7; 32]);
        body.extend([0, 0, 0, 2, 0xc0, 0x2b, 1, 0]);
        let mut extensions = vec![0, 23, 0, 0];
        if !profiles.is_empty() {
            let len = u8::try_from(profiles.len()).unwrap();
            extensions.extend([0, 14, 0, len + 3, 0, len]);
            extensions.extend(profiles);
            extensions.push(0);
        }
        body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
        body.extend(extensions);
        body
    }

    fn record(length: usize, offset: usize, fragment: &[u8]) -> Vec<u8> {
        let u24 = |n: usize| u32::try_from(n).unwrap().to_be_bytes()[1..].to_vec();
        let mut message = vec![CLIENT_HELLO];
        message.extend(u24(length));
        message.extend([0, 0]);
        message.extend(u24(offset));
        message.extend(u24(fragment.len()));
        message.extend(fragment);
        let mut record = vec![HANDSHAKE, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0];
        record.extend(u16::try_from(message.len()).unwrap().to_be_bytes());
        record.extend(message);
        record
    }
}
