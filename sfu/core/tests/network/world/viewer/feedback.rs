//! What a browser reports of every packet: transport-wide feedback.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// What arrived and was not reported yet, by transport-wide number.
#[derive(Default)]
pub(super) struct Feedback {
    pub(super) epoch: Option<Instant>,
    arrivals: BTreeMap<u64, Instant>,
    next: u64,
    count: u8,
    due: Option<Instant>,
}

impl Feedback {
    pub(super) fn arrived(&mut self, seq: u16, now: Instant) {
        self.epoch.get_or_insert(now);
        let reference = self
            .arrivals
            .keys()
            .next_back()
            .copied()
            .unwrap_or(self.next);
        let reference = reference.max(1 << 16);
        let delta = seq.wrapping_sub((reference & 0xffff) as u16).cast_signed();
        let number = reference.wrapping_add_signed(i64::from(delta));
        if self.next == 0 {
            self.next = number;
        }
        self.arrivals.insert(number, now);
        self.due.get_or_insert(now + Duration::from_millis(80));
    }

    /// Returns a packet of status vectors and two-byte deltas.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Vec<u8>> {
        let due = self.due.filter(|due| *due <= now)?;
        self.due = (due > now).then_some(due);
        let earliest = *self.arrivals.keys().next()?;
        let first = self.next.min(earliest).max(earliest.saturating_sub(300));
        let last = *self.arrivals.keys().next_back()?;
        let last = last.min(first + 400);
        let micros = |at: Instant| (at - self.epoch.unwrap()).as_micros() as i64;
        let (_, earliest) = self.arrivals.range(first..=last).next()?;
        let reference = micros(*earliest) / 64_000;
        let mut at = reference * 256;
        let (mut symbols, mut deltas) = (Vec::new(), Vec::new());
        for number in first..=last {
            let arrived = self.arrivals.get(&number);
            symbols.push(if arrived.is_some() { 2 } else { 0 });
            if let Some(arrived) = arrived {
                let units = micros(*arrived) / 250;
                deltas.extend(((units - at) as i16).to_be_bytes());
                at = units;
            }
        }
        let mut packet = vec![0x8f, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
        packet.extend(((first & 0xffff) as u16).to_be_bytes());
        packet.extend((symbols.len() as u16).to_be_bytes());
        packet.extend(&(reference as u32).to_be_bytes()[1..]);
        packet.push(self.count);
        for seven in symbols.chunks(7) {
            let bits = (0..)
                .zip(seven)
                .map(|(n, symbol)| (*symbol as u16) << (12 - 2 * n));
            packet.extend((0xc000 | bits.sum::<u16>()).to_be_bytes());
        }
        packet.extend(deltas);
        packet.resize(packet.len().next_multiple_of(4), 0);
        let words = (packet.len() / 4 - 1) as u16;
        packet[2..4].copy_from_slice(&words.to_be_bytes());
        self.count = self.count.wrapping_add(1);
        self.next = last + 1;
        self.arrivals = self.arrivals.split_off(&self.next);
        Some(packet)
    }
}
