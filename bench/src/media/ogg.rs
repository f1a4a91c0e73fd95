//! Ogg files (RFC 3533) with Opus in them (RFC 7845).

use anyhow::{Context, bail};

/// Returns the Opus packets of a file, without its two header packets.
///
/// # Errors
/// When it is no Ogg file with Opus.
pub(crate) fn opus_packets(mut file: &[u8]) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut packets = Vec::new();
    let mut packet = Vec::new();
    while !file.is_empty() {
        let (header, rest) = file
            .split_first_chunk::<27>()
            .context("a page is cut off")?;
        if !header.starts_with(b"OggS\0") {
            bail!("not a page of an Ogg file");
        }
        let count = usize::from(header[26]);
        let (lacing, mut body) = rest.split_at_checked(count).context("a page is cut off")?;
        for &len in lacing {
            let (segment, left) = body
                .split_at_checked(usize::from(len))
                .context("a page is cut off")?;
            packet.extend_from_slice(segment);
            body = left;
            // A segment of full length is continued by the next one.
            if len < u8::MAX {
                packets.push(std::mem::take(&mut packet));
            }
        }
        file = body;
    }
    if !packets
        .first()
        .is_some_and(|head| head.starts_with(b"OpusHead"))
    {
        bail!("no Opus in the file");
    }
    Ok(packets.split_off(packets.len().min(2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_span_segments_and_pages() {
        let mut file = page(&[8], b"OpusHead");
        file.extend(page(&[8], b"OpusTags"));
        file.extend(page(&[255, 3, 2, 255], &[7; 515]));
        file.extend(page(&[1], &[7]));
        let lens: Vec<usize> = opus_packets(&file).unwrap().iter().map(Vec::len).collect();
        assert_eq!(lens, [258, 2, 256]);
        for len in 1..file.len() {
            // Pages end at some of these lengths: only panics are wrong.
            let _ = opus_packets(&file[..len]);
        }
        assert!(opus_packets(b"RIFF").is_err());
        assert!(opus_packets(&page(&[4], b"vorb")).is_err());
    }

    fn page(lacing: &[u8], body: &[u8]) -> Vec<u8> {
        let mut page = b"OggS\0".to_vec();
        page.extend([0; 21]);
        page.push(u8::try_from(lacing.len()).unwrap());
        page.extend(lacing);
        page.extend(body);
        page
    }
}
