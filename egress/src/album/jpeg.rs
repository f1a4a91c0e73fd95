//! The size of a JPEG picture.

/// Returns width and height as the frame header says them (ITU T.81 §B.2.2); `None` for what is no JPEG.
pub(super) fn size(jpeg: &[u8]) -> Option<(u16, u16)> {
    let mut rest = jpeg.strip_prefix(&[0xff, 0xd8])?;
    loop {
        let (head, behind) = rest.split_first_chunk::<4>()?;
        let [0xff, marker, high, low] = *head else {
            return None;
        };
        if is_frame_header(marker) {
            let [_, top, bottom, left, right] = *behind.first_chunk::<5>()?;
            let height = u16::from_be_bytes([top, bottom]);
            let width = u16::from_be_bytes([left, right]);
            return (width > 0 && height > 0).then_some((width, height));
        }
        let length = usize::from(u16::from_be_bytes([high, low]));
        // The length counts itself.
        rest = behind.get(length.checked_sub(2)?..)?;
    }
}

/// SOF0 to SOF15; between them are tables (DHT, DAC) and what is reserved (JPG).
fn is_frame_header(marker: u8) -> bool {
    matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_size_is_found_behind_other_segments() {
        let picture = [
            &[0xff, 0xd8][..],
            &[0xff, 0xe0, 0, 4, 1, 2],
            &[0xff, 0xc4, 0, 3, 9],
            &[0xff, 0xc0, 0, 17, 8, 1, 0x68, 2, 0x80, 3],
        ]
        .concat();
        assert_eq!(size(&picture), Some((640, 360)));
        for cut in 0..picture.len() - 1 {
            assert_eq!(size(&picture[..cut]), None, "{cut}");
        }
        assert_eq!(size(b"GIF89a"), None);
    }

    proptest! {
        #[test]
        fn garbage_is_no_picture_but_no_panic(
            bytes in proptest::collection::vec(prop_oneof![Just(0xff_u8), any::<u8>()], 0..64)
        ) {
            let _ = size(&[&[0xff, 0xd8][..], &bytes].concat());
        }
    }
}
