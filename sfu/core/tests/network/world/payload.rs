//! The beginnings of payloads whose codec has no layers within a stream.

pub(crate) fn vp8(picture: u16, frame: u32, starts: bool, key: bool) -> Vec<u8> {
    let [high, low] = picture.to_be_bytes();
    let start = if starts { 0x90 } else { 0x80 };
    vec![start, 0xc0, high | 0x80, low, frame as u8, u8::from(!key)]
}

pub(crate) fn h264(n: u32, key: bool) -> Vec<u8> {
    match (key, n) {
        (true, 0) => vec![0x67, 0x42],
        (true, _) => vec![0x7c, if n == 1 { 0x85 } else { 0x05 }],
        (false, _) => vec![0x5c, if n == 0 { 0x81 } else { 0x01 }],
    }
}
