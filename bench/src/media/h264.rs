//! H.264 byte streams (ITU-T H.264 Annex B), cut into frames.

use super::clip::Frame;

/// Cuts a byte stream into frames. Delimiters and SEI messages are left out.
pub(crate) fn frames(stream: &[u8]) -> Vec<Frame> {
    let mut frames: Vec<Frame> = Vec::new();
    let mut sets: Vec<Vec<u8>> = Vec::new();
    for nal in nals(stream) {
        match nal.first().map(|header| header & 0x1f) {
            Some(SPS | PPS) => sets.push(nal.to_vec()),
            Some(kind @ (SLICE | IDR)) => {
                // first_mb_in_slice is 0: a single bit that is set.
                let starts_frame = nal.get(1).is_some_and(|byte| byte & 0x80 != 0);
                match frames.last_mut() {
                    Some(frame) if !starts_frame => frame.slices.push(nal.to_vec()),
                    _ => frames.push(Frame {
                        is_key: kind == IDR,
                        sets: std::mem::take(&mut sets),
                        slices: vec![nal.to_vec()],
                    }),
                }
            }
            _ => {}
        }
    }
    frames
}

/// Returns the NAL units between start codes, without trailing zeros.
fn nals(stream: &[u8]) -> Vec<&[u8]> {
    let mut nals = Vec::new();
    let mut start = None;
    let mut at = 0;
    while let Some(found) = find_start_code(stream, at) {
        if let Some(start) = start {
            nals.push(trim(&stream[start..found]));
        }
        at = found + 3;
        start = Some(at);
    }
    if let Some(start) = start {
        nals.push(trim(&stream[start..]));
    }
    nals.retain(|nal| !nal.is_empty());
    nals
}

fn find_start_code(stream: &[u8], from: usize) -> Option<usize> {
    let rest = stream.get(from..)?;
    let at = rest.windows(3).position(|bytes| bytes == [0, 0, 1])?;
    Some(from + at)
}

fn trim(mut nal: &[u8]) -> &[u8] {
    while let Some((0, rest)) = nal.split_last() {
        nal = rest;
    }
    nal
}

const SLICE: u8 = 1;
const IDR: u8 = 5;
const SPS: u8 = 7;
const PPS: u8 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found() {
        let mut stream = Vec::new();
        for nal in [
            &[0x09, 0xf0][..],
            &[0x67, 1],
            &[0x68, 2],
            &[0x06, 5, 1],
            &[0x65, 0x88, 3, 0, 0],
            &[0x65, 0x08, 4],
            &[0x41, 0x9a, 5],
        ] {
            stream.extend([0, 0, 0, 1]);
            stream.extend(nal);
        }
        let frames = frames(&stream);
        assert_eq!(frames.len(), 2);
        assert!(frames[0].is_key && !frames[1].is_key);
        assert_eq!(frames[0].sets, [vec![0x67, 1], vec![0x68, 2]]);
        assert_eq!(frames[0].slices, [vec![0x65, 0x88, 3], vec![0x65, 0x08, 4]]);
        assert_eq!(frames[1].slices, [vec![0x41, 0x9a, 5]]);
    }

    #[test]
    fn rubbish_has_no_frames() {
        for stream in [&[][..], &[0, 0, 1], &[1, 2, 3], &[0, 0, 1, 0, 0, 1, 0]] {
            assert!(frames(stream).is_empty(), "{stream:?}");
        }
    }
}
