//! Transport-wide feedback of a receiver (draft-holmer-rmcat-transport-wide-cc-extensions-01).

use super::rtcp::packet;

/// When packets arrived, by transport-wide sequence number, since the last feedback.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    /// Extended numbers and microseconds.
    arrived: Vec<(i64, i64)>,
    /// The highest number, extended.
    highest: Option<i64>,
    /// The next number to report about.
    next: i64,
    count: u8,
}

impl Arrivals {
    /// Notes an arrival at this many microseconds of any clock.
    pub(crate) fn record(&mut self, seq: u16, micros: i64) {
        let number = match self.highest {
            None => {
                self.next = i64::from(seq);
                i64::from(seq)
            }
            Some(highest) => {
                let [.., a, b] = highest.to_be_bytes();
                let step = seq.wrapping_sub(u16::from_be_bytes([a, b]));
                highest + i64::from(step.cast_signed())
            }
        };
        self.highest = self.highest.max(Some(number));
        if number >= self.next && self.arrived.len() < MAX_ARRIVALS {
            self.arrived.push((number, micros));
        }
    }

    /// Returns a feedback packet about everything since the last one, `None` if nothing arrived. Call it again
    /// until then.
    pub(crate) fn feedback(&mut self, sender: u32, ssrc: u32) -> Option<Vec<u8>> {
        self.arrived.sort_unstable();
        self.arrived.dedup_by_key(|(number, _)| *number);
        let &(first, first_at) = self.arrived.first()?;
        if first - self.next > MAX_STATUSES {
            self.next = first;
        }
        let base = self.next;
        let reference = first_at.div_euclid(64_000);
        let mut at = reference * 256;
        let mut symbols = Vec::new();
        let mut deltas = Vec::new();
        let mut taken = 0;
        for &(number, micros) in &self.arrived {
            let units = micros.div_euclid(250);
            let Ok(delta) = i16::try_from(units - at) else {
                break;
            };
            if number - base >= MAX_STATUSES {
                break;
            }
            symbols.resize(usize::try_from(number - base).unwrap_or(0), 0);
            if let Ok(small) = u8::try_from(delta) {
                symbols.push(1);
                deltas.push(small);
            } else {
                symbols.push(2);
                deltas.extend(delta.to_be_bytes());
            }
            at = units;
            taken += 1;
        }
        self.arrived.drain(..taken);
        let count = u16::try_from(symbols.len()).unwrap_or(u16::MAX);
        self.next = base + i64::from(count);
        let feedback = write(
            sender,
            ssrc,
            (base, count),
            (reference, self.count),
            &symbols,
            &deltas,
        );
        self.count = self.count.wrapping_add(1);
        Some(feedback)
    }
}

fn write(
    sender: u32,
    ssrc: u32,
    (base, count): (i64, u16),
    (reference, number): (i64, u8),
    symbols: &[u16],
    deltas: &[u8],
) -> Vec<u8> {
    let mut body = Vec::with_capacity(64 + deltas.len());
    body.extend(sender.to_be_bytes());
    body.extend(ssrc.to_be_bytes());
    body.extend_from_slice(&base.to_be_bytes()[6..]);
    body.extend(count.to_be_bytes());
    body.extend_from_slice(&reference.to_be_bytes()[5..]);
    body.push(number);
    for seven in symbols.chunks(7) {
        let vector = (0..7).fold(0b11, |bits, place| {
            bits << 2 | seven.get(place).copied().unwrap_or(0)
        });
        body.extend(vector.to_be_bytes());
    }
    body.extend_from_slice(deltas);
    let padding = body.len().next_multiple_of(4) - body.len();
    body.resize(body.len() + padding, 0);
    let mut feedback = packet(15, 205, &body);
    if padding > 0 {
        feedback[0] |= 0x20;
        if let (Some(last), Ok(padding)) = (feedback.last_mut(), u8::try_from(padding)) {
            *last = padding;
        }
    }
    feedback
}

/// Most packets in one feedback packet, so that it fits into a datagram.
const MAX_STATUSES: i64 = 400;

/// Most arrivals kept; more than any link brings between two reports.
const MAX_ARRIVALS: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feedback_tells_times_and_gaps() {
        let mut arrivals = Arrivals::default();
        assert_eq!(arrivals.feedback(1, 2), None);
        for (seq, micros) in [
            (65_534, 128_000),
            (65_535, 128_250),
            (1, 200_000),
            (0, 199_000),
        ] {
            arrivals.record(seq, micros);
        }
        arrivals.record(4, 200_500);
        let feedback = arrivals.feedback(1, 2).unwrap();
        #[rustfmt::skip]
        let expected = [
            0x8f, 205, 0, 6, 0, 0, 0, 1, 0, 0, 0, 2,
            // Base, count, reference time, number.
            0xff, 0xfe, 0, 7, 0, 0, 2, 0,
            // Small, small, large, small, none, none, small; then the deltas.
            0b1101_0110, 0b0100_0001, 0, 1, 0x01, 0x1b, 4, 2,
        ];
        assert_eq!(feedback, expected);
        assert_eq!(arrivals.feedback(1, 2), None);
        arrivals.record(5, 201_000);
        let next = arrivals.feedback(1, 2).unwrap();
        assert_eq!(&next[12..16], [0, 5, 0, 1]);
    }

    #[test]
    fn a_long_silence_starts_anew() {
        let mut arrivals = Arrivals::default();
        arrivals.record(0, 0);
        arrivals.record(1, 60_000_000);
        arrivals.record(20_000, 60_000_250);
        for base in [0, 1, 20_000_u16] {
            let feedback = arrivals.feedback(1, 2).unwrap();
            assert_eq!(feedback[12..14], base.to_be_bytes());
        }
        assert_eq!(arrivals.feedback(1, 2), None);
    }
}
