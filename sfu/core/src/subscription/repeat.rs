//! Sends packets again that a viewer misses.

use std::time::Duration;

use super::{
    Repeated, Subscription,
    seal::{header, split},
};
use crate::{
    flow::Sender,
    picture::MAX_HEAD,
    publication::Publication,
    repeat::MAX_REPEATED,
    rewrite::{Found, Rewritten},
    sequence::low16,
};

impl Subscription {
    /// Sends packets again that the viewer misses: on the retransmission stream (RFC 4588) when there is
    /// one, else as they were.
    pub(crate) fn retransmit(
        &mut self,
        seqs: &[u16],
        publications: &[Publication],
        sender: &mut Sender<'_>,
    ) -> Repeated {
        let mut repeated = Repeated::default();
        let seqs = seqs.get(..MAX_REPEATED).unwrap_or(seqs);
        repeated.asked = seqs.len() as u64;
        // There may be no room for all: what was never sent again goes first.
        for (seq, again) in [false, true]
            .into_iter()
            .flat_map(|again| seqs.iter().map(move |seq| (seq, again)))
        {
            if self.repeats.has_sent(*seq) != again {
                continue;
            }
            let guard = sender.repeat_guard();
            let found = self.rewrite.find(*seq);
            if sender.is_congested() && found.is_some_and(|f| self.rewrite.is_passed(&f)) {
                continue;
            }
            if !sender.may_repeat() || !self.repeats.allow(*seq, guard, sender.now) {
                continue;
            }
            let Some(len) = found.and_then(|f| self.repeat(f, publications, sender)) else {
                repeated.missed += 1;
                continue;
            };
            repeated.add(len);
            sender.repeated(len);
            // Where much is lost, so are repeats, and the player waits for another round trip.
            if len > 0
                && sender.is_lossy()
                && let Some(again) = found.and_then(|f| self.repeat(f, publications, sender))
            {
                repeated.add(again);
                sender.repeated(again);
            }
        }
        repeated
    }

    /// Sends a packet again. Returns its length, `None` when it is not kept any more.
    fn repeat(
        &mut self,
        found: Found,
        publications: &[Publication],
        sender: &mut Sender<'_>,
    ) -> Option<usize> {
        let mut publications = publications.iter();
        let publication = publications.find(|p| p.id == found.source.publication)?;
        let layer = found.source.layer_of(publication)?;
        let packet = layer.packet(found.index)?;
        let age = sender.now.saturating_duration_since(packet.meta.received);
        if age > USEFUL {
            return Some(0);
        }
        let rewritten = self.rewrite.repeat(found, &packet)?;
        let codec = self.find_codec(publication)?;
        if codec.red.is_some() {
            // What it carried depended on the losses then.
            return Some(0);
        }
        let Some(rtx) = codec.rtx else {
            // The same SRTP index must never protect other bytes, and a transport-wide number is one.
            return match self.stream.is_reported {
                true => Some(0),
                false => Some(self.seal(&packet, &rewritten, codec, sender)),
            };
        };
        let original = low16(u64::from(rewritten.seq));
        let resent = Rewritten {
            seq: self.rtx_seq,
            ..rewritten
        };
        let header = header(&resent, rtx, self.stream.rtx_ssrc);
        self.rtx_seq = self.rtx_seq.wrapping_add(1);
        let [head, tail] = split(&packet, &rewritten);
        let mut prefixed = [0; 2 + MAX_HEAD];
        let prefix = original.to_be_bytes();
        for (to, from) in prefixed.iter_mut().zip(prefix.iter().chain(head)) {
            *to = *from;
        }
        let head = prefixed.get(..2 + head.len()).unwrap_or_default();
        let payload = [head, tail];
        Some(self.send(&header, &packet, rewritten.frame_shift, payload, sender))
    }
}

/// A player that asks for older packets is better served by a keyframe, which it asks for too.
const USEFUL: Duration = Duration::from_secs(4);
