//! SRTP and SRTCP (RFC 3711, RFC 7714) of one peer, in place and without allocation per packet.
//!
//! Nothing is remembered about a source before a packet of it was authentic, so forged packets cost
//! their decryption and nothing else.

use aws_lc_rs::{
    aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey},
    hmac,
    iv::FixedLength,
};

use super::{
    PacketError, SendHeader,
    rtp::{Header, SendExtensions},
};

/// How packets are protected; the two that every browser has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Profile {
    /// AEAD_AES_128_GCM, RFC 7714.
    AeadAes128Gcm,
    /// SRTP_AES128_CM_SHA1_80, RFC 5764.
    Aes128CmSha1_80,
}

impl Profile {
    fn salt_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm => 12,
            Self::Aes128CmSha1_80 => 14,
        }
    }

    /// Returns how much keying material the DTLS exporter has to yield.
    pub(super) fn keying_material_len(self) -> usize {
        2 * (KEY_LEN + self.salt_len())
    }

    fn tag_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm => 16,
            Self::Aes128CmSha1_80 => 10,
        }
    }
}

/// The master keys of both directions.
pub(super) struct Keys {
    profile: Profile,
    /// Protects what the peer sends.
    peer: MasterKey,
    /// Protects what the server sends.
    own: MasterKey,
}

#[derive(Clone, Copy, Default)]
struct MasterKey {
    key: [u8; KEY_LEN],
    /// Padded with zeros on the right.
    salt: [u8; 14],
}

impl Keys {
    /// Cuts the DTLS server's exported keying material (RFC 5764 §4.2); the peer is the client.
    pub(super) fn from_dtls(profile: Profile, material: &[u8]) -> Option<Self> {
        let (keys, salts) = material.split_at_checked(2 * KEY_LEN)?;
        let (peer_key, own_key) = keys.split_at_checked(KEY_LEN)?;
        let (peer_salt, own_salt) = salts.split_at_checked(profile.salt_len())?;
        let master = |key: &[u8], salt: &[u8]| {
            let mut master = MasterKey {
                key: key.try_into().ok()?,
                salt: [0; 14],
            };
            master
                .salt
                .get_mut(..profile.salt_len())?
                .copy_from_slice(salt);
            Some(master)
        };
        Some(Self {
            profile,
            peer: master(peer_key, peer_salt)?,
            own: master(own_key, own_salt)?,
        })
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys")
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

/// The SRTP and SRTCP streams of one peer. What is needed to send comes first, in neighbouring cache lines.
#[repr(C)]
pub(super) struct Srtp {
    profile: Profile,
    rtp_out: Cipher,
    rtp_in: Cipher,
    rtcp_in: Cipher,
    rtcp_out: Cipher,
    /// Highest index and replay window per source, of authentic packets only.
    received: Windows,
    received_rtcp: Windows,
    /// Counts all SRTCP packets sent, over all sources.
    rtcp_index: u32,
}

impl Srtp {
    pub(super) fn new(keys: &Keys) -> Self {
        let cipher = |master, label| Cipher::new(keys.profile, master, label);
        Self {
            profile: keys.profile,
            rtp_in: cipher(&keys.peer, LABEL_RTP),
            rtcp_in: cipher(&keys.peer, LABEL_RTCP),
            rtp_out: cipher(&keys.own, LABEL_RTP),
            rtcp_out: cipher(&keys.own, LABEL_RTCP),
            received: Windows::default(),
            received_rtcp: Windows::default(),
            rtcp_index: 0,
        }
    }

    /// Returns the length of a sealed packet with extensions and a payload, padding included, of these lengths.
    pub(super) fn sealed_len(&self, extensions: usize, payload: usize) -> usize {
        SendHeader::LEN + extensions + payload + self.profile.tag_len()
    }

    /// Reads what [`Srtp::seal_rtp`] will.
    pub(super) fn warm(&self) -> usize {
        let salt: &[u8] = match &self.rtp_out {
            Cipher::Gcm { salt, .. } => salt,
            Cipher::Sha1 { salt, .. } => salt,
        };
        self.profile.tag_len() + salt.first().map_or(0, |first| usize::from(*first))
    }

    /// Decrypts in place and returns the header's bytes and the payload.
    pub(super) fn open_rtp<'a>(
        &mut self,
        header: &Header,
        datagram: &'a mut [u8],
        is_known: bool,
    ) -> Result<(&'a [u8], &'a [u8]), PacketError> {
        let ssrc = header.ssrc.0;
        let window = self.received.get(ssrc);
        let limit = if is_known { MAX_SOURCES } else { MAX_UNKNOWN };
        if window.is_none() && self.received.len() >= limit {
            return Err(PacketError::OverBudget);
        }
        let index = window.map_or(u64::from(header.seq), |window| window.extend(header.seq));
        if window.is_some_and(|window| !window.is_fresh(index)) {
            return Err(PacketError::Unauthentic);
        }
        let (head, body) = datagram
            .split_at_mut_checked(header.len)
            .ok_or(PacketError::Malformed)?;
        let payload = match &self.rtp_in {
            Cipher::Gcm { key, salt } => {
                let nonce = gcm_rtp_nonce(salt, ssrc, index);
                key.open_in_place(nonce, Aad::from(&*head), body)
                    .map_err(|_| PacketError::Unauthentic)?
            }
            Cipher::Sha1 { key, salt, auth } => {
                let (body, tag) = split_tag(body, self.profile.tag_len())?;
                let roc = roc_of(index).to_be_bytes();
                verify(auth, &[head, body, &roc], tag)?;
                apply_keystream(key, salt, ssrc, index, body).ok_or(PacketError::Unauthentic)?;
                body
            }
        };
        self.received.accept(ssrc, index);
        Ok((head, payload))
    }

    /// Encrypts into `out`, which is [`Srtp::sealed_len`] zeros. Returns whether it worked.
    pub(super) fn seal_rtp(
        &self,
        header: &SendHeader,
        extensions: &SendExtensions<'_>,
        payload: [&[u8]; 2],
        out: &mut [u8],
    ) -> Option<()> {
        let extensions_len = extensions.len();
        let (head, rest) = out.split_at_mut_checked(SendHeader::LEN + extensions_len)?;
        let (fixed, block) = head.split_first_chunk_mut()?;
        *fixed = header.to_bytes(extensions_len > 0);
        extensions.write(block)?;
        let [first, second] = payload;
        let padding = usize::from(header.padding);
        let (body, tag_out) = rest.split_at_mut_checked(first.len() + second.len() + padding)?;
        let (body_first, behind) = body.split_at_mut_checked(first.len())?;
        let (body_second, zeros) = behind.split_at_mut_checked(second.len())?;
        body_first.copy_from_slice(first);
        body_second.copy_from_slice(second);
        if let Some(last) = zeros.last_mut() {
            *last = header.padding;
        }
        let (ssrc, index) = (header.ssrc.0, u64::from(header.seq));
        match &self.rtp_out {
            Cipher::Gcm { key, salt } => {
                let nonce = gcm_rtp_nonce(salt, ssrc, index);
                let tag = key
                    .seal_in_place_separate_tag(nonce, Aad::from(&*head), body)
                    .ok()?;
                tag_out.copy_from_slice(tag.as_ref());
            }
            Cipher::Sha1 { key, salt, auth } => {
                apply_keystream(key, salt, ssrc, index, body)?;
                let tag = sign(auth, &[head, body, &header.roc().to_be_bytes()]);
                tag_out.copy_from_slice(tag.as_ref().get(..tag_out.len())?);
            }
        }
        Some(())
    }

    /// Decrypts a compound packet.
    pub(super) fn open_rtcp(&mut self, datagram: &[u8]) -> Result<Vec<u8>, PacketError> {
        let trailer_len = match self.profile {
            Profile::AeadAes128Gcm => 0,
            Profile::Aes128CmSha1_80 => self.profile.tag_len(),
        };
        let end = datagram.len().checked_sub(trailer_len + RTCP_INDEX_LEN);
        let (packet, trailer) = end
            .and_then(|end| datagram.split_at_checked(end))
            .ok_or(PacketError::Malformed)?;
        let (index_word, sha1_tag) = trailer
            .split_first_chunk::<RTCP_INDEX_LEN>()
            .ok_or(PacketError::Malformed)?;
        let (head, body) = packet
            .split_first_chunk::<RTCP_HEAD_LEN>()
            .ok_or(PacketError::Malformed)?;
        let &[_, _, _, _, s0, s1, s2, s3] = head;
        let ssrc = u32::from_be_bytes([s0, s1, s2, s3]);
        let word = u32::from_be_bytes(*index_word);
        if word & RTCP_ENCRYPTED == 0 {
            return Err(PacketError::Malformed);
        }
        let index = word & !RTCP_ENCRYPTED;
        let window = self.received_rtcp.get(ssrc);
        if window.is_none() && self.received_rtcp.len() >= MAX_SOURCES {
            return Err(PacketError::OverBudget);
        }
        if window.is_some_and(|window| !window.is_fresh(index.into())) {
            return Err(PacketError::Unauthentic);
        }
        let mut opened = packet.to_vec();
        let decrypted = opened.get_mut(RTCP_HEAD_LEN..).unwrap_or_default();
        let len = match &self.rtcp_in {
            Cipher::Gcm { key, salt } => {
                let nonce = gcm_rtcp_nonce(salt, ssrc, index);
                let aad = gcm_rtcp_aad(head, *index_word);
                key.open_in_place(nonce, Aad::from(aad), decrypted)
                    .map_err(|_| PacketError::Unauthentic)?
                    .len()
            }
            Cipher::Sha1 { key, salt, auth } => {
                verify(auth, &[head, body, index_word], sha1_tag)?;
                apply_keystream(key, salt, ssrc, index.into(), decrypted)
                    .ok_or(PacketError::Unauthentic)?;
                decrypted.len()
            }
        };
        opened.truncate(RTCP_HEAD_LEN + len);
        self.received_rtcp.accept(ssrc, index.into());
        Ok(opened)
    }

    /// Encrypts a compound packet. `None` for one that is none, and when the keys are used up.
    pub(super) fn seal_rtcp(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        let (head, _) = packet.split_first_chunk::<RTCP_HEAD_LEN>()?;
        let &[_, _, _, _, s0, s1, s2, s3] = head;
        let ssrc = u32::from_be_bytes([s0, s1, s2, s3]);
        let index = self.rtcp_index + 1;
        if index & RTCP_ENCRYPTED != 0 {
            return None;
        }
        self.rtcp_index = index;
        let index_word = (index | RTCP_ENCRYPTED).to_be_bytes();
        let mut sealed = Vec::with_capacity(packet.len() + RTCP_INDEX_LEN + self.profile.tag_len());
        sealed.extend_from_slice(packet);
        let body = sealed.get_mut(RTCP_HEAD_LEN..)?;
        match &self.rtcp_out {
            Cipher::Gcm { key, salt } => {
                let nonce = gcm_rtcp_nonce(salt, ssrc, index);
                let aad = gcm_rtcp_aad(head, index_word);
                let tag = key
                    .seal_in_place_separate_tag(nonce, Aad::from(aad), body)
                    .ok()?;
                sealed.extend_from_slice(tag.as_ref());
                sealed.extend_from_slice(&index_word);
            }
            Cipher::Sha1 { key, salt, auth } => {
                apply_keystream(key, salt, ssrc, index.into(), body)?;
                sealed.extend_from_slice(&index_word);
                let tag = sign(auth, &[&sealed]);
                sealed.extend_from_slice(tag.as_ref().get(..self.profile.tag_len())?);
            }
        }
        Some(sealed)
    }
}

impl std::fmt::Debug for Srtp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Srtp")
            .field("profile", &self.profile)
            .field("sources", &self.received.len())
            .finish_non_exhaustive()
    }
}

/// The session key of one direction and one protocol.
#[expect(
    clippy::large_enum_variant,
    reason = "a peer has four, all of one variant; the larger one saves a pointer on the hot path"
)]
enum Cipher {
    Gcm {
        key: LessSafeKey,
        salt: [u8; 12],
    },
    Sha1 {
        key: EncryptingKey,
        salt: [u8; 14],
        auth: hmac::Key,
    },
}

impl Cipher {
    /// Derives the session keys (RFC 3711 §4.3); `label` is the first of the protocol's three.
    fn new(profile: Profile, master: &MasterKey, label: u8) -> Self {
        let key: [u8; KEY_LEN] = derive(master, label);
        match profile {
            Profile::AeadAes128Gcm => Self::Gcm {
                key: LessSafeKey::new(
                    UnboundKey::new(&AES_128_GCM, &key).expect("the key has AES-128's length"),
                ),
                salt: derive(master, label + 2),
            },
            Profile::Aes128CmSha1_80 => Self::Sha1 {
                key: counter_mode(&key),
                salt: derive(master, label + 2),
                auth: hmac::Key::new(
                    hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
                    &derive::<20>(master, label + 1),
                ),
            },
        }
    }
}

/// The window of each source. There are few, mostly one: a list takes a tenth of a map's memory.
#[derive(Debug, Default)]
struct Windows {
    by_source: Vec<(u32, Window)>,
}

impl Windows {
    fn len(&self) -> usize {
        self.by_source.len()
    }

    fn get(&self, source: u32) -> Option<&Window> {
        let mut windows = self.by_source.iter();
        let (_, window) = windows.find(|(known, _)| *known == source)?;
        Some(window)
    }

    /// Notes an authentic packet.
    fn accept(&mut self, source: u32, index: u64) {
        let mut windows = self.by_source.iter_mut();
        if let Some((_, window)) = windows.find(|(known, _)| *known == source) {
            window.accept(index);
            return;
        }
        let mut window = Window::default();
        window.accept(index);
        self.by_source.reserve_exact(1);
        self.by_source.push((source, window));
    }
}

/// The highest packet index of a source and which of the [`WINDOW`] below it were seen.
#[derive(Clone, Debug, Default)]
struct Window {
    /// `None` before the first packet.
    highest: Option<u64>,
    seen: [u64; WINDOW_WORDS],
}

impl Window {
    /// Guesses the index of a sequence number: the one nearest to the highest (RFC 3711 §3.3.1).
    fn extend(&self, seq: u16) -> u64 {
        let highest = self.highest.unwrap_or(seq.into());
        let base = highest & !0xffff;
        let candidate = base | u64::from(seq);
        if candidate + 0x8000 < highest {
            candidate + 0x1_0000
        } else if candidate > highest + 0x8000 {
            candidate.checked_sub(0x1_0000).unwrap_or(candidate)
        } else {
            candidate
        }
    }

    fn is_fresh(&self, index: u64) -> bool {
        match self.highest {
            Some(highest) if index <= highest => {
                highest - index < WINDOW
                    && self.bit(index).is_none_or(|(word, bit)| word & bit == 0)
            }
            _ => true,
        }
    }

    /// Notes an authentic packet.
    fn accept(&mut self, index: u64) {
        match self.highest {
            Some(highest) if index > highest => {
                if index - highest >= WINDOW {
                    self.seen = [0; WINDOW_WORDS];
                } else {
                    for skipped in highest + 1..index {
                        self.set(skipped, false);
                    }
                }
                self.highest = Some(index);
            }
            Some(_) => {}
            None => self.highest = Some(index),
        }
        self.set(index, true);
    }

    fn bit(&self, index: u64) -> Option<(u64, u64)> {
        let word = *self.seen.get(word_of(index))?;
        Some((word, 1 << (index % 64)))
    }

    fn set(&mut self, index: u64, seen: bool) {
        if let Some(word) = self.seen.get_mut(word_of(index)) {
            let bit = 1 << (index % 64);
            *word = if seen { *word | bit } else { *word & !bit };
        }
    }
}

fn word_of(index: u64) -> usize {
    (index / 64 % WINDOW_WORDS as u64) as usize
}

/// Returns the rollover counter of an RTP packet index.
#[expect(clippy::cast_possible_truncation, reason = "an index has 48 bits")]
fn roc_of(index: u64) -> u32 {
    (index >> 16) as u32
}

/// AES-CM key derivation (RFC 3711 §4.3.1, §4.3.3) with a key derivation rate of zero.
fn derive<const N: usize>(master: &MasterKey, label: u8) -> [u8; N] {
    let mut iv = [0; 16];
    for (byte, salt) in iv.iter_mut().zip(master.salt) {
        *byte = salt;
    }
    let [.., label_byte, _, _, _, _, _, _, _, _] = &mut iv;
    *label_byte ^= label;
    let mut derived = [0; N];
    encrypt(&counter_mode(&master.key), iv, &mut derived)
        .expect("counter mode takes any length and has a 16-byte IV");
    derived
}

fn counter_mode(key: &[u8; KEY_LEN]) -> EncryptingKey {
    UnboundCipherKey::new(&AES_128, key)
        .and_then(EncryptingKey::ctr)
        .expect("the key has AES-128's length")
}

fn encrypt(key: &EncryptingKey, iv: [u8; 16], bytes: &mut [u8]) -> Option<()> {
    let context = EncryptionContext::Iv128(FixedLength::from(iv));
    key.less_safe_encrypt(bytes, context).ok().map(|_| ())
}

/// AES in counter mode (RFC 3711 §4.1.1); encryption and decryption are the same.
fn apply_keystream(
    key: &EncryptingKey,
    salt: &[u8; 14],
    ssrc: u32,
    index: u64,
    bytes: &mut [u8],
) -> Option<()> {
    let mask = (u128::from(ssrc) << 64) | (u128::from(index) << 16);
    let [s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13] = *salt;
    let salt = u128::from_be_bytes([
        s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, 0, 0,
    ]);
    encrypt(key, (salt ^ mask).to_be_bytes(), bytes)
}

/// RFC 7714 §8.1.
fn gcm_rtp_nonce(salt: &[u8; 12], ssrc: u32, index: u64) -> Nonce {
    gcm_nonce(salt, ssrc, index)
}

/// RFC 7714 §9.1.
fn gcm_rtcp_nonce(salt: &[u8; 12], ssrc: u32, index: u32) -> Nonce {
    gcm_nonce(salt, ssrc, index.into())
}

fn gcm_nonce(salt: &[u8; 12], ssrc: u32, index: u64) -> Nonce {
    let [s0, s1, s2, s3] = ssrc.to_be_bytes();
    let [_, _, i0, i1, i2, i3, i4, i5] = index.to_be_bytes();
    let mut nonce = [0, 0, s0, s1, s2, s3, i0, i1, i2, i3, i4, i5];
    for (byte, salt) in nonce.iter_mut().zip(salt) {
        *byte ^= salt;
    }
    Nonce::assume_unique_for_key(nonce)
}

/// RFC 7714 §9.2.
fn gcm_rtcp_aad(head: &[u8; RTCP_HEAD_LEN], index_word: [u8; RTCP_INDEX_LEN]) -> [u8; 12] {
    let [h0, h1, h2, h3, h4, h5, h6, h7] = *head;
    let [i0, i1, i2, i3] = index_word;
    [h0, h1, h2, h3, h4, h5, h6, h7, i0, i1, i2, i3]
}

fn split_tag(body: &mut [u8], tag_len: usize) -> Result<(&mut [u8], &mut [u8]), PacketError> {
    let end = body.len().checked_sub(tag_len);
    end.and_then(|end| body.split_at_mut_checked(end))
        .ok_or(PacketError::Malformed)
}

fn sign(auth: &hmac::Key, parts: &[&[u8]]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(auth);
    for part in parts {
        context.update(part);
    }
    context.sign()
}

/// Compares a truncated tag in constant time.
fn verify(auth: &hmac::Key, parts: &[&[u8]], tag: &[u8]) -> Result<(), PacketError> {
    let expected = sign(auth, parts);
    let expected = expected.as_ref().get(..tag.len()).unwrap_or_default();
    aws_lc_rs::constant_time::verify_slices_are_equal(expected, tag)
        .map_err(|_| PacketError::Unauthentic)
}

const KEY_LEN: usize = 16;
const LABEL_RTP: u8 = 0;
const LABEL_RTCP: u8 = 3;

const RTCP_HEAD_LEN: usize = 8;
const RTCP_INDEX_LEN: usize = 4;
const RTCP_ENCRYPTED: u32 = 1 << 31;

const WINDOW: u64 = 1024;
const WINDOW_WORDS: usize = 16;

/// Sources that may appear without having been announced.
const MAX_UNKNOWN: usize = 64;

/// Sources in all; an offer announces at most 32 m-lines with a few each.
const MAX_SOURCES: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        Pt, Ssrc,
        transport::{Carried, ExtensionIds, Rtp},
    };

    const PROFILES: [Profile; 2] = [Profile::AeadAes128Gcm, Profile::Aes128CmSha1_80];

    #[test]
    fn keys_are_derived_as_in_rfc_3711() {
        // Appendix B.3.
        let master = MasterKey {
            key: 0xE1F9_7A0D_3E01_8BE0_D64F_A32C_06DE_4139_u128.to_be_bytes(),
            salt: [
                0x0E, 0xC6, 0x75, 0xAD, 0x49, 0x8A, 0xFE, 0xEB, 0xB6, 0x96, 0x0B, 0x3A, 0xAB, 0xE6,
            ],
        };
        let key: [u8; 16] = derive(&master, LABEL_RTP);
        let auth: [u8; 20] = derive(&master, LABEL_RTP + 1);
        let salt: [u8; 14] = derive(&master, LABEL_RTP + 2);
        assert_eq!(
            u128::from_be_bytes(key),
            0xC61E_7A93_744F_39EE_1073_4AFE_3FF7_A087
        );
        assert_eq!(auth[..4], [0xCE, 0xBE, 0x32, 0x1F]);
        assert_eq!(salt[..4], [0x30, 0xCB, 0xBC, 0x08]);
    }

    #[test]
    fn packets_are_opened_once_and_unaltered() {
        for profile in PROFILES {
            let (server, mut peer) = pair(profile);
            let sealed = seal(&server, 7, b"payload");
            assert_eq!(open(&mut peer, &sealed), Ok(b"payload".to_vec()));
            assert_eq!(open(&mut peer, &sealed), Err(PacketError::Unauthentic));
            for at in 0..sealed.len() {
                let mut altered = seal(&server, 8, b"payload");
                altered[at] ^= 1;
                let opened = open(&mut peer, &altered);
                assert!(opened.is_err(), "{profile:?} byte {at}");
            }
            for len in 0..sealed.len() {
                assert!(open(&mut peer, &sealed[..len]).is_err(), "{len}");
            }
            assert_eq!(peer.received.len(), 1, "forged sources are not kept");
        }
    }

    #[test]
    fn rollover_survives_reordering() {
        for profile in PROFILES {
            let (server, mut peer) = pair(profile);
            for seq in [
                0xfffd, 0x1_0001, 0xffff, 0x1_0000, 0xfffe, 0x1_7fff, 0x1_fff0, 0x2_0001, 0x1_ffff,
                0x2_7000,
            ] {
                let sealed = seal(&server, seq, b"x");
                assert_eq!(open(&mut peer, &sealed), Ok(b"x".to_vec()), "{seq:x}");
            }
        }
    }

    #[test]
    fn old_packets_are_refused() {
        let (server, mut peer) = pair(Profile::AeadAes128Gcm);
        let before_window = seal(&server, 5000 - 1024, b"x");
        let in_window = seal(&server, 5000 - 1023, b"x");
        assert!(open(&mut peer, &seal(&server, 5000, b"x")).is_ok());
        assert!(open(&mut peer, &before_window).is_err());
        assert!(open(&mut peer, &in_window).is_ok());
        assert!(open(&mut peer, &in_window).is_err());
    }

    #[test]
    fn reports_are_opened_once_and_unaltered() {
        let report = [0x80, 201, 0, 1, 0, 0, 0, 9, 1, 2, 3, 4];
        for profile in PROFILES {
            let (mut server, mut peer) = pair(profile);
            let sealed = server.seal_rtcp(&report).unwrap();
            assert_ne!(sealed[8..12], report[8..12]);
            assert_eq!(peer.open_rtcp(&sealed), Ok(report.to_vec()));
            assert_eq!(peer.open_rtcp(&sealed), Err(PacketError::Unauthentic));
            let again = server.seal_rtcp(&report).unwrap();
            for at in 0..again.len() {
                let mut altered = again.clone();
                altered[at] ^= 1;
                assert!(peer.open_rtcp(&altered).is_err(), "{profile:?} byte {at}");
                assert!(peer.open_rtcp(&again[..at]).is_err(), "{profile:?} {at}");
            }
            assert_eq!(server.seal_rtcp(&report[..7]), None);
        }
    }

    #[test]
    fn padding_is_sent_behind_the_payload_and_taken_off() {
        for profile in PROFILES {
            let (server, mut peer) = pair(profile);
            let header = SendHeader {
                padding: 3,
                ..header(1)
            };
            let mut sealed = vec![0; server.sealed_len(8, 7 + 3)];
            server
                .seal_rtp(&header, &extensions(), [b"pay", b"load"], &mut sealed)
                .unwrap();
            let parsed = Header::parse(&sealed).unwrap();
            let (head, payload) = peer.open_rtp(&parsed, &mut sealed, true).unwrap();
            assert_eq!(payload, b"payload\0\0\x03");
            let rtp = Rtp::new(&parsed, head, payload, &ExtensionIds::default()).unwrap();
            assert_eq!(rtp.payload, b"payload");
        }
    }

    #[test]
    fn sources_are_limited() {
        let (server, mut peer) = pair(Profile::AeadAes128Gcm);
        let mut taken = 0;
        for ssrc in 0..400 {
            let mut sealed = vec![0; server.sealed_len(8, 1)];
            let header = SendHeader {
                ssrc: Ssrc(ssrc),
                ..header(1)
            };
            server
                .seal_rtp(&header, &extensions(), [b"x", b""], &mut sealed)
                .unwrap();
            let parsed = Header::parse(&sealed).unwrap();
            taken += usize::from(peer.open_rtp(&parsed, &mut sealed, ssrc >= 100).is_ok());
        }
        assert_eq!(taken, 256);
        assert!(open(&mut peer, &seal(&server, 9, b"x")).is_ok());
    }

    proptest! {
        #[test]
        fn arbitrary_datagrams_never_panic(
            mut datagram in prop::collection::vec(any::<u8>(), 0..100),
            is_gcm in any::<bool>(),
        ) {
            let (_, mut peer) = pair(PROFILES[usize::from(is_gcm)]);
            let _ = peer.open_rtcp(&datagram);
            if let Some(first) = datagram.first_mut() {
                *first = 0x90;
            }
            prop_assert!(open(&mut peer, &datagram).is_err());
        }

        #[test]
        fn windows_agree_with_a_set(steps in prop::collection::vec(0..3000_u64, 1..200)) {
            let mut window = Window::default();
            let mut seen = std::collections::BTreeSet::new();
            for index in steps {
                let highest = seen.last().copied().unwrap_or(0);
                let fresh = index + WINDOW > highest && !seen.contains(&index);
                prop_assert_eq!(window.is_fresh(index), fresh);
                if fresh {
                    window.accept(index);
                    seen.insert(index);
                }
            }
        }
    }

    fn pair(profile: Profile) -> (Srtp, Srtp) {
        let material: Vec<u8> = (0..).take(profile.keying_material_len()).collect();
        let server = Keys::from_dtls(profile, &material).unwrap();
        let peer = Keys {
            profile,
            peer: server.own,
            own: server.peer,
        };
        (Srtp::new(&server), Srtp::new(&peer))
    }

    fn header(seq: u32) -> SendHeader {
        SendHeader {
            marker: false,
            pt: Pt(96),
            seq,
            timestamp: 9,
            ssrc: Ssrc(1),
            padding: 0,
        }
    }

    fn extensions() -> SendExtensions<'static> {
        const IDS: ExtensionIds = ExtensionIds {
            mid: 0,
            rid: 0,
            repaired_rid: 0,
            transport_cc: 3,
            audio_level: 0,
            abs_capture_time: 0,
            playout_delay: 0,
            dependency_descriptor: 0,
        };
        const NONE: Carried<'static> = Carried {
            audio_level: None,
            abs_capture_time: None,
            playout_delay: None,
            dependency_descriptor: None,
        };
        SendExtensions::new(&IDS, Some(77), &NONE)
    }

    fn seal(server: &Srtp, seq: u32, payload: &[u8]) -> Vec<u8> {
        let mut sealed = vec![0; server.sealed_len(8, payload.len())];
        let (first, second) = payload.split_at(payload.len() / 2);
        server
            .seal_rtp(&header(seq), &extensions(), [first, second], &mut sealed)
            .unwrap();
        sealed
    }

    fn open(peer: &mut Srtp, sealed: &[u8]) -> Result<Vec<u8>, PacketError> {
        let mut sealed = sealed.to_vec();
        let header = Header::parse(&sealed).ok_or(PacketError::Malformed)?;
        let (_, payload) = peer.open_rtp(&header, &mut sealed, true)?;
        Ok(payload.to_vec())
    }
}
