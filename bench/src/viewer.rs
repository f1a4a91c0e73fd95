//! One viewer: receives, asks again for what is missing, reports, and tells when it got what.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    client::{
        Arrivals, Event, Feedback, Header, Kind, Reception, generic_nack, picture_loss,
        receiver_report,
    },
    frames::{Frames, Packet},
    peer::Peer,
    sent_frames::SentFrames,
    socket::{Datagram, Inbox, wall_clock},
    stamp::Stamp,
    tally::{Tally, between},
};

/// A viewer that has accepted its answer.
pub(crate) struct Viewer {
    /// Chosen by whoever made it.
    pub(crate) id: u64,
    peer: Peer,
    /// When its offer was posted, by the wall clock.
    posted: i64,
    progress: Progress,
    video: Option<Stream>,
    audio: Option<Stream>,
    frames: Frames,
    arrivals: Arrivals,
    sent_frames: Arc<SentFrames>,
    next_feedback: Instant,
    next_report: Instant,
    /// When a keyframe is asked for, if none comes.
    next_request: Option<Instant>,
    next_due: Instant,
}

/// What it got so far.
#[derive(Default)]
struct Progress {
    is_connected: bool,
    has_channel: bool,
    has_packet: bool,
    /// When its first keyframe was complete.
    keyframe: Option<i64>,
    is_closed: bool,
}

/// One received RTP stream.
struct Stream {
    ssrc: u32,
    reception: Reception,
    /// What of its totals was counted.
    counted: (u64, u64),
}

impl Viewer {
    /// Starts a viewer whose offer was posted at this time of the wall clock.
    pub(crate) fn new(id: u64, peer: Peer, posted: i64, sent_frames: Arc<SentFrames>) -> Self {
        let now = Instant::now();
        Self {
            id,
            peer,
            posted,
            progress: Progress::default(),
            video: None,
            audio: None,
            frames: Frames::default(),
            arrivals: Arrivals::default(),
            sent_frames,
            next_feedback: now,
            next_report: now + REPORT_GAP,
            next_request: None,
            next_due: now,
        }
    }

    /// Returns whether it has what it can get before media flows.
    pub(crate) fn is_settled(&self) -> bool {
        self.progress.is_connected && (self.progress.has_channel || !self.peer.answer.channel)
    }

    /// Takes everything that has arrived. Returns whether the session is alive.
    pub(crate) fn receive(&mut self, inbox: &mut Inbox, tally: &mut Tally, now: Instant) -> bool {
        loop {
            let Some(socket) = self.peer.socket() else {
                return false;
            };
            let Ok(more) = inbox.receive(socket) else {
                return false;
            };
            for datagram in inbox.datagrams() {
                self.take(&datagram, tally, now);
            }
            if !more {
                return !self.progress.is_closed;
            }
        }
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, tally: &mut Tally, now: Instant) {
        if now < self.next_due {
            return;
        }
        self.peer.tick(now);
        if self.progress.is_connected {
            self.send_feedback(tally, now);
        }
        let streams = [&self.video, &self.audio];
        let is_waiting = streams
            .into_iter()
            .flatten()
            .any(|stream| stream.reception.is_waiting());
        let nap = if is_waiting || !self.is_settled() {
            SHORT_NAP
        } else {
            LONG_NAP
        };
        self.next_due = self.peer.transport.poll_timeout().min(now + nap);
    }

    /// It is no surprise when the server ends it.
    pub(crate) fn expect_end(&mut self) {
        self.progress.is_closed = true;
    }

    /// Leaves.
    pub(crate) fn close(&mut self, tally: &mut Tally) {
        for stream in [&mut self.video, &mut self.audio].into_iter().flatten() {
            stream.count(tally);
        }
        self.peer.close();
    }

    fn take(&mut self, datagram: &Datagram<'_>, tally: &mut Tally, now: Instant) {
        let Some(header) = Header::parse(datagram.bytes, self.peer.answer.transport_cc) else {
            let event = self.peer.handle(datagram.bytes, datagram.source, now);
            self.note(event, tally, now);
            return;
        };
        tally.packets += 1;
        tally.bytes += datagram.bytes.len() as u64;
        if !self.progress.has_packet {
            self.progress.has_packet = true;
            self.next_request = Some(now + REQUEST_AFTER);
            tally
                .to_packet
                .record(between(self.posted, datagram.arrival));
        }
        if let Some(seq) = header.extension {
            self.arrivals.record(seq, datagram.arrival / 1000);
        }
        let is_new = match self.peer.answer.kind(header.pt) {
            Some(Kind::Video) => self.take_video(&header, None, datagram, tally, now),
            Some(Kind::Audio) => {
                let stream = Stream::of(&mut self.audio, header.ssrc);
                stream.reception.arrived(header.seq, now).is_some()
            }
            Some(Kind::Repair) => self.take_repair(&header, datagram, tally, now),
            None => false,
        };
        tally.duplicates += u64::from(!is_new);
    }

    /// Takes a video packet, whose payload is known if it was decrypted already. Returns whether it is new.
    fn take_video(
        &mut self,
        header: &Header,
        payload: Option<&[u8]>,
        datagram: &Datagram<'_>,
        tally: &mut Tally,
        now: Instant,
    ) -> bool {
        let stream = Stream::of(&mut self.video, header.ssrc);
        let Some(number) = stream.reception.arrived(header.seq, now) else {
            return false;
        };
        let packet = Packet {
            number,
            timestamp: header.timestamp,
            marker: header.marker,
            arrival: datagram.arrival,
        };
        let transport = &mut self.peer.transport;
        let progress = self.frames.note(packet, || match payload {
            Some(payload) => Stamp::find(payload),
            None => Stamp::find(transport.open_rtp(datagram.bytes)?.get(header.len..)?),
        });
        // What was replayed to a newcomer says nothing about the delay.
        let is_live = |at: i64| self.progress.keyframe.is_some_and(|key| at > key + REPLAY);
        if let Some(stamp) = progress.stamp
            && is_live(datagram.arrival)
        {
            tally
                .packet_delay
                .record(between(stamp.sent, datagram.arrival));
        }
        if let Some((stamp, complete)) = progress.complete {
            if is_live(complete)
                && let Some(sent) = self.sent_frames.get(stamp)
            {
                tally.frame(sent, complete);
            }
            if stamp.is_key && self.progress.keyframe.is_none() {
                self.progress.keyframe = Some(complete);
                self.next_request = None;
                tally.to_keyframe.record(between(self.posted, complete));
            }
        }
        true
    }

    /// Takes a retransmission (RFC 4588), or padding. Returns whether it is new.
    fn take_repair(
        &mut self,
        header: &Header,
        datagram: &Datagram<'_>,
        tally: &mut Tally,
        now: Instant,
    ) -> bool {
        let Some(ssrc) = self.video.as_ref().map(|stream| stream.ssrc) else {
            return false;
        };
        let Some(plain) = self.peer.transport.open_rtp(datagram.bytes) else {
            return false;
        };
        let is_padded = datagram
            .bytes
            .first()
            .is_some_and(|first| first & PADDED != 0);
        let payload = plain.get(header.len..).unwrap_or_default();
        let Some((seq, payload)) = unpadded(payload, is_padded).split_first_chunk() else {
            // Padding alone, by which the server looks for room on the path.
            return true;
        };
        let original = Header {
            seq: u16::from_be_bytes(*seq),
            ssrc,
            ..*header
        };
        let is_new = self.take_video(&original, Some(payload), datagram, tally, now);
        tally.repaired += u64::from(is_new);
        is_new
    }

    fn note(&mut self, event: Option<Event>, tally: &mut Tally, now: Instant) {
        match event {
            Some(Event::Connected) if !self.progress.is_connected => {
                self.progress.is_connected = true;
                tally.connected += 1;
                tally
                    .to_connected
                    .record(between(self.posted, wall_clock()));
            }
            Some(Event::Feedback(feedback)) => {
                for report in feedback {
                    let Feedback::SenderReport { ssrc, ntp } = report else {
                        continue;
                    };
                    let streams = [&mut self.video, &mut self.audio].into_iter().flatten();
                    for stream in streams.filter(|stream| stream.ssrc == ssrc) {
                        stream.reception.sender_reported(ntp, now);
                    }
                }
            }
            Some(Event::Closed) => {
                tally.closed += u64::from(!self.progress.is_closed);
                self.progress.is_closed = true;
            }
            Some(Event::Connected) | None => {}
        }
        if !self.progress.has_channel && self.peer.transport.is_channel_open() {
            self.progress.has_channel = true;
            tally.channels += 1;
        }
    }

    fn send_feedback(&mut self, tally: &mut Tally, now: Instant) {
        let mut packets = Vec::new();
        if let Some(audio) = &mut self.audio {
            // Browsers do not ask for audio again.
            audio.reception.poll_nack(now);
            audio.count(tally);
        }
        if let Some(video) = &mut self.video {
            let seqs = video.reception.poll_nack(now);
            video.count(tally);
            if !seqs.is_empty() {
                tally.nacked += seqs.len() as u64;
                packets.push(generic_nack(OWN_SSRC, video.ssrc, &seqs));
            }
        }
        if self.next_feedback <= now {
            self.next_feedback = now + FEEDBACK_GAP;
            let media = self.video.as_ref().map_or(0, |stream| stream.ssrc);
            while let Some(feedback) = self.arrivals.feedback(OWN_SSRC, media) {
                tally.feedback += 1;
                packets.push(feedback);
            }
        }
        if self.next_request.is_some_and(|at| at <= now)
            && let Some(video) = &self.video
        {
            self.next_request = Some(now + REQUEST_AGAIN);
            tally.keyframe_requests += 1;
            packets.push(picture_loss(OWN_SSRC, video.ssrc));
        }
        if self.next_report <= now {
            self.next_report = now + REPORT_GAP;
            let streams = [&mut self.video, &mut self.audio].into_iter().flatten();
            let reports: Vec<_> = streams
                .map(|stream| stream.reception.report(stream.ssrc, now))
                .collect();
            packets.push(receiver_report(OWN_SSRC, &reports));
        }
        for packet in packets {
            self.peer.transport.send_rtcp(&packet);
        }
        self.peer.flush();
    }
}

impl Stream {
    /// Returns the stream of a source; another source starts it anew.
    fn of(slot: &mut Option<Self>, ssrc: u32) -> &mut Self {
        if slot.as_ref().is_some_and(|stream| stream.ssrc != ssrc) {
            *slot = None;
        }
        slot.get_or_insert_with(|| Self {
            ssrc,
            reception: Reception::default(),
            counted: (0, 0),
        })
    }

    fn count(&mut self, tally: &mut Tally) {
        let totals = self.reception.totals();
        tally.expected += totals.0 - self.counted.0;
        tally.lost += totals.1 - self.counted.1;
        self.counted = totals;
    }
}

/// Returns a payload without its padding (RFC 3550 §5.1); empty if there is nothing else.
fn unpadded(payload: &[u8], is_padded: bool) -> &[u8] {
    let padding = payload.last().filter(|_| is_padded);
    let length = padding.map_or(Some(payload.len()), |padding| {
        payload.len().checked_sub(usize::from(*padding))
    });
    length
        .and_then(|length| payload.get(..length))
        .unwrap_or_default()
}

/// The P bit of an RTP header.
const PADDED: u8 = 0x20;

const OWN_SSRC: u32 = 1;

/// How often Chromium sends transport-wide feedback at these bitrates.
const FEEDBACK_GAP: Duration = Duration::from_millis(100);
const REPORT_GAP: Duration = Duration::from_secs(1);

/// Chromium asks for a keyframe when there is nothing to decode for so long.
const REQUEST_AFTER: Duration = Duration::from_millis(200);
const REQUEST_AGAIN: Duration = Duration::from_secs(1);

/// How long after its first keyframe a viewer is at the live edge for certain, in nanoseconds.
const REPLAY: i64 = 2_000_000_000;

const SHORT_NAP: Duration = Duration::from_millis(2);
const LONG_NAP: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_no_media() {
        let table: [(&[u8], bool, &[u8]); 5] = [
            (&[1, 2, 3], false, &[1, 2, 3]),
            (&[1, 2, 0, 2], true, &[1, 2]),
            (&[0, 0, 3], true, &[]),
            (&[0, 9], true, &[]),
            (&[], true, &[]),
        ];
        for (payload, is_padded, media) in table {
            assert_eq!(unpadded(payload, is_padded), media, "{payload:?}");
        }
    }
}
