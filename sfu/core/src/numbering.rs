//! A publisher's sequence numbers -> consecutive indices of the packets that are forwarded.

use std::collections::VecDeque;

use crate::sequence::{ORIGIN, extend16};

/// Extends sequence numbers, and leaves padding-only packets out of the count.
#[derive(Debug, Default)]
pub(crate) struct Numbering {
    highest: Option<u64>,
    /// Numbers that were left out, ascending, the newest [`MAX_REMEMBERED`].
    left_out: VecDeque<u64>,
    /// How many were left out in all.
    shift: u64,
    /// Numbers at or below this cannot be placed any more.
    floor: u64,
    stray: Option<u16>,
}

/// Where a packet belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its extended sequence number.
    pub(crate) number: u64,
    /// Its index among the packets that are forwarded.
    pub(crate) index: u64,
    /// The first number of the gap before it, when it is the newest and does not follow the newest
    /// before it.
    pub(crate) gap_from: Option<u64>,
}

/// Whether a sequence number can belong to the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Continuity {
    /// It is near the newest.
    Near,
    /// It is far from it: probably a stray packet.
    Stray,
    /// It is far, but so was the one before, and it follows that one: the stream was started anew.
    Restarted,
}

impl Numbering {
    /// Judges a sequence number (RFC 3550 A.1).
    pub(crate) fn judge(&mut self, seq: u16) -> Continuity {
        let Some(highest) = self.highest else {
            return Continuity::Near;
        };
        if extend16(highest, seq).abs_diff(highest) <= MAX_JUMP {
            self.stray = None;
            return Continuity::Near;
        }
        match self.stray.replace(seq.wrapping_add(1)) {
            Some(expected) if expected == seq => Continuity::Restarted,
            Some(_) | None => Continuity::Stray,
        }
    }

    /// Returns where a packet belongs; `None` when it is too old to know.
    pub(crate) fn place(&mut self, seq: u16) -> Option<Place> {
        let number = self.extend(seq);
        let gap_from = match self.highest {
            Some(highest) if number > highest + 1 => Some(highest + 1),
            Some(_) | None => None,
        };
        if number <= self.floor || self.left_out.contains(&number) {
            return None;
        }
        self.highest = self.highest.max(Some(number));
        let later = self.left_out.iter().rev().take_while(|n| **n > number);
        let shift = self.shift - later.count() as u64;
        Some(Place {
            number,
            index: number - shift,
            gap_from,
        })
    }

    /// Leaves a padding-only packet out, if it is the newest; returns the gap it opens before it.
    /// Returns `None` when later packets were counted already.
    pub(crate) fn leave_out(&mut self, seq: u16) -> Option<std::ops::Range<u64>> {
        let number = self.extend(seq);
        let highest = self.highest?;
        if number <= highest {
            return None;
        }
        self.highest = Some(number);
        self.shift += 1;
        if self.left_out.len() >= MAX_REMEMBERED
            && let Some(oldest) = self.left_out.pop_front()
        {
            self.floor = oldest;
        }
        self.left_out.push_back(number);
        Some(highest + 1..number)
    }

    /// Returns the extended sequence number of a packet that was asked for again.
    pub(crate) fn extend(&self, seq: u16) -> u64 {
        extend16(self.highest.unwrap_or(ORIGIN | u64::from(seq)), seq)
    }
}

const MAX_JUMP: u64 = 3000;
const MAX_REMEMBERED: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn index(numbering: &mut Numbering, seq: u16) -> u64 {
        numbering.place(seq).unwrap().index
    }

    #[test]
    fn padding_leaves_no_gap() {
        let mut numbering = Numbering::default();
        let first = index(&mut numbering, 0xfffe);
        assert_eq!(numbering.leave_out(0xffff), Some(first + 1..first + 1));
        assert_eq!(index(&mut numbering, 0), first + 1);
        assert_eq!(numbering.leave_out(2), Some(first + 3..first + 4));
        assert_eq!(index(&mut numbering, 3), first + 3, "1 is missing");
        assert_eq!(
            index(&mut numbering, 1),
            first + 2,
            "and fits in when it comes"
        );
        assert_eq!(numbering.leave_out(1), None, "late padding is counted");
        assert_eq!(numbering.place(2), None, "padding is not placed");
    }

    #[test]
    fn gaps_are_told_once() {
        let mut numbering = Numbering::default();
        let first = numbering.place(10).unwrap();
        assert_eq!(first.gap_from, None);
        let fourth = numbering.place(13).unwrap();
        assert_eq!(fourth.gap_from, Some(first.number + 1));
        assert_eq!(numbering.place(11).unwrap().gap_from, None);
    }

    #[test]
    fn what_is_too_old_to_place_is_refused() {
        let mut numbering = Numbering::default();
        index(&mut numbering, 0);
        for seq in (2..600).step_by(2) {
            numbering.leave_out(seq);
        }
        assert_eq!(numbering.place(1), None);
        assert!(numbering.place(597).is_some());
    }

    #[test]
    fn a_stream_restarts_only_when_two_packets_agree() {
        let mut numbering = Numbering::default();
        assert_eq!(numbering.judge(100), Continuity::Near);
        index(&mut numbering, 100);
        assert_eq!(numbering.judge(101), Continuity::Near);
        assert_eq!(numbering.judge(30_000), Continuity::Stray);
        assert_eq!(numbering.judge(20_000), Continuity::Stray);
        assert_eq!(numbering.judge(102), Continuity::Near);
        assert_eq!(numbering.judge(20_001), Continuity::Stray);
        assert_eq!(numbering.judge(20_002), Continuity::Restarted);
    }
}
