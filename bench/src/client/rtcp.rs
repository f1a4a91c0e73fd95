//! RTCP (RFC 3550 §6, RFC 4585): what clients send and what they understand.

/// What a received compound packet says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Feedback {
    /// These sequence numbers of a source are missing.
    Nack {
        /// The source.
        ssrc: u32,
        /// The numbers.
        seqs: Vec<u16>,
    },
    /// A keyframe is wanted: PLI or FIR.
    Keyframe,
    /// A sender report: its source and the middle 32 bits of its NTP time.
    SenderReport {
        /// The source.
        ssrc: u32,
        /// The time.
        ntp: u32,
    },
}

impl Feedback {
    /// Parses a compound packet; what is not understood is skipped.
    pub(crate) fn parse(mut compound: &[u8]) -> Vec<Self> {
        let mut feedback = Vec::new();
        while let Some((&[first, kind, n0, n1], rest)) = compound.split_first_chunk::<4>() {
            let len = usize::from(u16::from_be_bytes([n0, n1])) * 4;
            let Some((body, rest)) = rest.split_at_checked(len) else {
                break;
            };
            compound = rest;
            match (kind, first & 0x1f) {
                (200, _) => feedback.extend(sender_time(body)),
                (205, 1) => feedback.extend(nack(body)),
                (206, 1 | 4) => feedback.push(Self::Keyframe),
                _ => {}
            }
        }
        feedback
    }
}

fn sender_time(body: &[u8]) -> Option<Feedback> {
    let &[c0, c1, c2, c3, _, _, a, b, c, d, ..] = body.first_chunk::<20>()?;
    Some(Feedback::SenderReport {
        ssrc: u32::from_be_bytes([c0, c1, c2, c3]),
        ntp: u32::from_be_bytes([a, b, c, d]),
    })
}

fn nack(body: &[u8]) -> Option<Feedback> {
    let (_sender, rest) = body.split_first_chunk::<4>()?;
    let (ssrc, rest) = rest.split_first_chunk::<4>()?;
    let mut seqs = Vec::new();
    for entry in rest.chunks_exact(4) {
        let &[p0, p1, m0, m1] = entry else { continue };
        let first = u16::from_be_bytes([p0, p1]);
        let mask = u16::from_be_bytes([m0, m1]);
        seqs.push(first);
        let following = (0..16).filter(|bit| mask & (1 << bit) != 0);
        seqs.extend(following.map(|bit| first.wrapping_add(bit + 1)));
    }
    Some(Feedback::Nack {
        ssrc: u32::from_be_bytes(*ssrc),
        seqs,
    })
}

/// Returns a generic NACK (RFC 4585 §6.2.1) for sequence numbers in ascending order.
pub(crate) fn generic_nack(sender: u32, ssrc: u32, seqs: &[u16]) -> Vec<u8> {
    let mut entries: Vec<(u16, u16)> = Vec::new();
    for &seq in seqs {
        if let Some((first, mask)) = entries.last_mut()
            && let distance @ 1..=16 = seq.wrapping_sub(*first)
        {
            *mask |= 1 << (distance - 1);
        } else {
            entries.push((seq, 0));
        }
    }
    let mut body = Vec::new();
    body.extend(sender.to_be_bytes());
    body.extend(ssrc.to_be_bytes());
    for (first, mask) in entries {
        body.extend(first.to_be_bytes());
        body.extend(mask.to_be_bytes());
    }
    packet(1, 205, &body)
}

/// Returns a picture loss indication (RFC 4585 §6.3.1).
pub(crate) fn picture_loss(sender: u32, ssrc: u32) -> Vec<u8> {
    let mut body = sender.to_be_bytes().to_vec();
    body.extend(ssrc.to_be_bytes());
    packet(1, 206, &body)
}

/// What a receiver reports about one source (RFC 3550 §6.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// The source.
    pub(crate) ssrc: u32,
    /// Share of packets lost since the last report, in 256ths.
    pub(crate) fraction_lost: u8,
    /// Packets lost so far.
    pub(crate) lost: u32,
    /// Highest sequence number with its wraps.
    pub(crate) highest: u32,
    /// Interarrival jitter in timestamp units.
    pub(crate) jitter: u32,
    /// The time of the last sender report, and how long ago it came in 65536ths of a second.
    pub(crate) last_sender_report: (u32, u32),
}

/// Returns a receiver report with up to 31 sources.
pub(crate) fn receiver_report(sender: u32, reports: &[Report]) -> Vec<u8> {
    let mut body = sender.to_be_bytes().to_vec();
    let mut count = 0;
    for report in reports.iter().take(31) {
        count += 1;
        body.extend(report.ssrc.to_be_bytes());
        body.push(report.fraction_lost);
        body.extend_from_slice(&report.lost.min(0x7f_ffff).to_be_bytes()[1..]);
        let (time, delay) = report.last_sender_report;
        for word in [report.highest, report.jitter, time, delay] {
            body.extend(word.to_be_bytes());
        }
    }
    packet(count, 201, &body)
}

/// Returns a sender report with the sender's name (RFC 3550 §6.5), at this many nanoseconds since 1970.
pub(crate) fn sender_report(ssrc: u32, now: i64, timestamp: u32, sent: (u32, u32)) -> Vec<u8> {
    let nanos = now.unsigned_abs();
    let seconds = nanos / 1_000_000_000 + SECONDS_1900_TO_1970;
    let fraction = ((nanos % 1_000_000_000) << 32) / 1_000_000_000;
    let mut body = ssrc.to_be_bytes().to_vec();
    body.extend((seconds << 32 | fraction).to_be_bytes());
    for word in [timestamp, sent.0, sent.1] {
        body.extend(word.to_be_bytes());
    }
    let mut compound = packet(0, 200, &body);
    let mut description = ssrc.to_be_bytes().to_vec();
    description.extend([1, 5]);
    description.extend(b"bench");
    description.push(0);
    compound.extend(packet(1, 202, &description));
    compound
}

/// Returns a packet of a body that fills whole words.
pub(crate) fn packet(count: u8, kind: u8, body: &[u8]) -> Vec<u8> {
    let words = u16::try_from(body.len() / 4).unwrap_or(u16::MAX);
    let mut packet = vec![0x80 | count, kind];
    packet.extend(words.to_be_bytes());
    packet.extend_from_slice(body);
    packet
}

const SECONDS_1900_TO_1970: u64 = 2_208_988_800;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nacks_round_trip() {
        for seqs in [
            vec![5],
            vec![5, 6, 21],
            vec![5, 22, 23],
            vec![65_535, 0, 3],
            (0..100).collect(),
        ] {
            let packet = generic_nack(1, 2, &seqs);
            assert_eq!(packet.len() % 4, 0);
            assert_eq!(Feedback::parse(&packet), [Feedback::Nack { ssrc: 2, seqs }]);
        }
    }

    #[test]
    fn compounds_are_understood() {
        let mut compound = sender_report(7, 1_000_000_000, 3, (4, 5));
        compound.extend(receiver_report(1, &[Report::default()]));
        compound.extend(picture_loss(1, 2));
        let ntp = 0x7e81_0000;
        let expected = [Feedback::SenderReport { ssrc: 7, ntp }, Feedback::Keyframe];
        assert_eq!(Feedback::parse(&compound), expected);
        for len in 0..compound.len() {
            Feedback::parse(&compound[..len]);
        }
    }

    #[test]
    fn reports_have_their_length() {
        let report = receiver_report(
            1,
            &[Report {
                lost: u32::MAX,
                ..Report::default()
            }; 2],
        );
        assert_eq!(report.len(), 8 + 2 * 24);
        assert_eq!(&report[..4], [0x82, 201, 0, 13]);
        assert_eq!(&report[13..16], [0x7f, 0xff, 0xff]);
    }
}
