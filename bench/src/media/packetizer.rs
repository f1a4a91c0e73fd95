//! Cuts frames into RTP payloads (RFC 6184, packetization mode 1) of the sizes that Chromium makes.

use super::clip::Frame;

/// Returns the payloads of a frame, the stamp in front.
pub(crate) fn packetize(frame: &Frame, stamp: Option<&[u8]>) -> Vec<Vec<u8>> {
    let mut front: Vec<&[u8]> = frame.sets.iter().map(Vec::as_slice).collect();
    front.extend(stamp);
    let mut payloads = Vec::new();
    match front.as_slice() {
        [] => {}
        [nal] => payloads.push(nal.to_vec()),
        nals => payloads.push(aggregate(nals)),
    }
    for slice in &frame.slices {
        if slice.len() <= MAX_PAYLOAD {
            payloads.push(slice.clone());
        } else {
            fragment(slice, &mut payloads);
        }
    }
    payloads
}

/// Returns a STAP-A (RFC 6184 §5.7.1).
fn aggregate(nals: &[&[u8]]) -> Vec<u8> {
    let mut payload = vec![0x78];
    for nal in nals {
        let len = u16::try_from(nal.len()).unwrap_or(u16::MAX);
        payload.extend(len.to_be_bytes());
        payload.extend_from_slice(nal);
    }
    payload
}

/// Appends FU-As (RFC 6184 §5.8) of about the same length, the later ones longer by one byte.
fn fragment(slice: &[u8], payloads: &mut Vec<Vec<u8>>) {
    let Some((&header, mut rest)) = slice.split_first() else {
        return;
    };
    let indicator = header & 0xe0 | 28;
    let mut left = rest.len().div_ceil(MAX_PAYLOAD - 2);
    let mut start = 0x80;
    while left > 0 {
        let (body, tail) = rest.split_at(rest.len() / left);
        let end = if left == 1 { 0x40 } else { 0 };
        let mut payload = Vec::with_capacity(body.len() + 2);
        payload.extend([indicator, header & 0x1f | start | end]);
        payload.extend_from_slice(body);
        payloads.push(payload);
        rest = tail;
        left -= 1;
        start = 0;
    }
}

/// Chromium's packets have at most 1200 bytes with everything.
const MAX_PAYLOAD: usize = 1160;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_are_whole_and_even() {
        for len in [1, 2, 1160, 1161, 2317, 2318, 10_000, 75_000] {
            let slice: Vec<u8> = (0..len).map(|byte: u32| byte.to_le_bytes()[0]).collect();
            let frame = Frame {
                is_key: false,
                sets: vec![],
                slices: vec![slice.clone()],
            };
            let payloads = packetize(&frame, None);
            let (shortest, longest) = (
                payloads.iter().map(Vec::len).min().unwrap(),
                payloads.iter().map(Vec::len).max().unwrap(),
            );
            assert!(longest <= MAX_PAYLOAD && longest - shortest <= 1, "{len}");
            if let [single] = payloads.as_slice() {
                assert_eq!(single, &slice);
                continue;
            }
            let mut joined = vec![payloads[0][0] & 0xe0 | payloads[0][1] & 0x1f];
            joined.extend(payloads.iter().flat_map(|payload| &payload[2..]));
            assert_eq!(joined, slice, "{len}");
            let flags: Vec<u8> = payloads.iter().map(|payload| payload[1] & 0xc0).collect();
            assert_eq!((flags[0], flags[flags.len() - 1]), (0x80, 0x40), "{len}");
        }
    }

    #[test]
    fn what_is_in_front_is_one_packet() {
        let mut frame = Frame {
            is_key: true,
            sets: vec![vec![0x67, 1], vec![0x68]],
            slices: vec![vec![0x65, 9]],
        };
        let stamped = packetize(&frame, Some(&[6, 5, 4]));
        let aggregate = vec![0x78, 0, 2, 0x67, 1, 0, 1, 0x68, 0, 3, 6, 5, 4];
        assert_eq!(stamped, [aggregate, vec![0x65, 9]]);
        frame.sets.clear();
        assert_eq!(
            packetize(&frame, Some(&[6, 5])),
            [vec![6, 5], vec![0x65, 9]]
        );
        assert_eq!(packetize(&frame, None), [vec![0x65, 9]]);
    }
}
