//! One participant's peer: its transport, what it publishes, what it receives.

use std::time::{Duration, Instant};

use crate::{
    Join, MediaKind, Outgoing, PeerId, Role, Ssrc,
    allotment::{Allotment, Slots},
    clock::ServerClock,
    demux::Bound,
    flow::{Flow, News, Sender},
    ingress::Ingress,
    publication::Publication,
    rng::Rng,
    slot::{Shown, View},
    stage::Stage,
    stats::Counters,
    subscription::{Repeated, Sent, Subscription},
    timers::Scheduled,
    transport::{CodecPt, SendStream, Transport, rtcp::Compound},
};

/// A peer of a room. What is needed to forward to it comes first, in neighbouring cache lines.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Peer {
    /// Its id.
    pub(crate) id: PeerId,
    /// Who, where, what for.
    pub(crate) join: Join,
    /// What it receives.
    pub(crate) subscriptions: Vec<Subscription>,
    /// What was counted about it.
    pub(crate) counters: Counters,
    /// What its path carries.
    pub(crate) flow: Flow,
    /// ICE, DTLS, SRTP, SCTP.
    pub(crate) transport: Transport,
    /// In which qualities.
    pub(crate) allotment: Allotment,
    /// Its timer.
    pub(crate) scheduled: Scheduled,
    /// When it joined.
    pub(crate) joined_at: Instant,
    /// When the next sender report is due.
    pub(crate) sender_report_at: Option<Instant>,
    /// Its own username fragment: with another one it starts a new ICE session.
    pub(crate) remote_ufrag: String,
    /// Its addresses and the server's username fragments, as the demultiplexer knows them.
    pub(crate) bound: Bound,
    /// The receiving side of a publisher; without tracks for a viewer.
    pub(crate) ingress: Ingress,
    /// M-lines on which it never received anything yet.
    pub(crate) idle: Vec<Idle>,
}

/// A receive-only m-line before its slot shows anything.
#[derive(Debug)]
pub(crate) struct Idle {
    /// What it is to show.
    pub(crate) view: View,
    /// What the viewer was told it receives.
    pub(crate) stream: SendStream,
    /// What the viewer can receive.
    pub(crate) codecs: Vec<CodecPt>,
}

/// What of a peer to read ahead; each is found by the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Warmth {
    /// The peer itself.
    Own,
    /// Its subscriptions, keys, and what its path carries.
    Parts,
    /// The lists of those.
    Lists,
}

impl Peer {
    /// Prepares the m-lines of the program, and those whose slots show something for the first time. The
    /// qualities are chosen anew.
    pub(crate) fn open_slots(&mut self, stage: &Stage, rng: &mut Rng, now: Instant) {
        self.allotment.handle(News::More, now);
        let subscriptions = &mut self.subscriptions;
        self.idle.retain_mut(|idle| {
            let is_shown = match idle.view {
                View::Program(_) => true,
                View::Slot(..) => stage.get(idle.view).is_some(),
            };
            if is_shown {
                let codecs = std::mem::take(&mut idle.codecs);
                subscriptions.push(Subscription::new(idle.view, idle.stream, codecs, rng));
            }
            !is_shown
        });
    }

    /// Returns whether it receives media, or may.
    pub(crate) fn has_views(&self) -> bool {
        !self.subscriptions.is_empty() || !self.idle.is_empty()
    }

    /// Sends what arrived of what its m-lines show to this viewer, as far as it is to see it ([`Join::sees`]).
    /// What a m-line showed before goes on until something else can be begun.
    pub(crate) fn forward(&mut self, shown: &Shown<'_>, out: &mut Outgoing, now: Instant) -> Sent {
        let mut sum = Sent::default();
        if !self.transport.is_connected() {
            return sum;
        }
        self.allot(shown, now);
        let mut sender = Sender {
            transport: &mut self.transport,
            flow: &mut self.flow,
            out,
            now,
        };
        // Audio last: a run that the kernel splits may end with a shorter packet, but not begin with one.
        for kind in [MediaKind::Video, MediaKind::Audio] {
            let subscriptions = self.subscriptions.iter_mut();
            for subscription in subscriptions.filter(|s| s.kind == kind) {
                let seen = shown.get(subscription.view);
                let Some(seen) = seen.filter(|seen| self.join.sees(seen.participant)) else {
                    subscription.stop();
                    continue;
                };
                sum.add(&subscription.forward(seen.publication, &mut sender));
                if subscription.is_waiting_for(seen.publication)
                    && let Some(before) = subscription.source()
                    && let Some(before) = shown.find(before.publication)
                {
                    sum.add(&subscription.forward(before, &mut sender));
                }
            }
        }
        self.counters.packets_out += sum.packets;
        self.counters.bytes_out += sum.bytes;
        self.probe(out, now);
        sum
    }

    /// Reads what [`Peer::forward`] will, without using it. Memory that was not used for some milliseconds takes
    /// long to come; asked for ahead and together it is there in time, while one after the other each is waited
    /// for. The steps of [`Warmth`] are to be taken in
    /// turn, with time between them. `kinds` is what arrived.
    pub(crate) fn warm(&self, step: Warmth, kinds: &[MediaKind]) {
        let subscriptions = self.subscriptions.iter();
        let subscriptions = subscriptions.filter(|s| kinds.contains(&s.kind));
        let read = match step {
            Warmth::Own => {
                let is_due = self.allotment.is_due(self.joined_at);
                self.flow.warm()
                    ^ self.transport.warm() as u64
                    ^ u64::from(is_due ^ self.transport.is_connected())
                    ^ self.counters.packets_out
                    ^ self.join.participant.0
                    ^ self.subscriptions.len() as u64
            }
            Warmth::Parts => {
                let parts = subscriptions.fold(0, |sum, s| sum ^ s.warm());
                parts ^ self.flow.warm_tracked() ^ self.transport.warm_keys() as u64
            }
            Warmth::Lists => {
                let lists = subscriptions.fold(0, |sum, s| sum ^ s.warm_lists());
                lists ^ self.flow.warm_departures()
            }
        };
        std::hint::black_box(read);
    }

    /// Chooses what its slots show, if that is due.
    pub(crate) fn allot(&mut self, shown: &Shown<'_>, now: Instant) {
        if !self.allotment.is_due(now) {
            return;
        }
        if self.transport.has_feedback() {
            self.flow.track();
        }
        let join = self.join;
        let seen = |view| shown.get(view).filter(|seen| join.sees(seen.participant));
        let subscriptions = self.subscriptions.iter();
        let publications: Vec<_> = subscriptions
            .map(|s| seen(s.view).map(|seen| seen.publication))
            .collect();
        let program = shown.get(View::Program(MediaKind::Video));
        let slots = Slots {
            shown: &publications,
            first: program.map(|seen| seen.publication.id),
        };
        self.allotment
            .run(&mut self.subscriptions, &slots, &mut self.flow, now);
    }

    /// Takes what the path told, and looks further if it was good.
    pub(crate) fn handle_news(&mut self, news: News, now: Instant) {
        self.allotment.handle(news, now);
    }

    /// Sends what is due of a probe: padding beside a video that flows, else beside one that may.
    pub(crate) fn probe(&mut self, out: &mut Outgoing, now: Instant) {
        for _ in 0..MOST_PADDING {
            if self.flow.probe_due(now) == 0 {
                return;
            }
            let videos = self.subscriptions.iter_mut();
            let mut videos = videos.filter(|s| s.kind == MediaKind::Video && s.can_pad());
            let first = videos.next();
            let flowing = match &first {
                Some(first) if first.source().is_some() => None,
                _ => videos.find(|s| s.source().is_some()),
            };
            let len = flowing.or(first).map_or(0, |subscription| {
                subscription.pad(&mut Sender {
                    transport: &mut self.transport,
                    flow: &mut self.flow,
                    out,
                    now,
                })
            });
            if len == 0 {
                self.flow.cannot_probe();
                return;
            }
            self.counters.padding_out += 1;
        }
    }

    /// Sends packets of one of its streams again.
    pub(crate) fn retransmit(
        &mut self,
        ssrc: Ssrc,
        seqs: &[u16],
        publications: &[Publication],
        out: &mut Outgoing,
        now: Instant,
    ) -> Repeated {
        let mut by_ssrc = self.subscriptions.iter_mut();
        let Some(subscription) = by_ssrc.find(|s| s.stream.ssrc == ssrc) else {
            return Repeated::default();
        };
        let mut sender = Sender {
            transport: &mut self.transport,
            flow: &mut self.flow,
            out,
            now,
        };
        let repeated = subscription.retransmit(seqs, publications, &mut sender);
        self.counters.nacked += repeated.asked;
        self.counters.packets_out += repeated.sent;
        self.counters.bytes_out += repeated.bytes;
        self.counters.retransmitted += repeated.sent;
        repeated
    }

    /// Sends sender reports about everything it receives.
    pub(crate) fn send_sender_reports(
        &mut self,
        publications: &[Publication],
        clock: ServerClock,
        out: &mut Outgoing,
        now: Instant,
    ) {
        let mut compound = Compound::default();
        for subscription in &self.subscriptions {
            let shown = publications.iter().find(|p| subscription.shows(p.id));
            let state = shown.and_then(|p| subscription.sender_state(p, clock.micros(now)));
            if let Some(state) = state {
                compound.sender_report(&state, clock.ntp(now));
            }
        }
        self.send(compound, out);
        self.sender_report_at = Some(now + REPORT_INTERVAL);
    }

    /// Sends the reports about what it publishes that are due.
    pub(crate) fn send_reception_reports(
        &mut self,
        publications: &mut [Publication],
        clock: ServerClock,
        out: &mut Outgoing,
        now: Instant,
    ) {
        let mine = publications.iter().filter(|p| p.peer == self.id);
        let ssrcs: Vec<_> = mine
            .flat_map(|p| p.layers.iter().filter_map(|layer| layer.ssrc))
            .collect();
        let any = ssrcs.first().copied().unwrap_or(Ssrc(0));
        while let Some(feedback) = self.ingress.arrivals.poll(now) {
            let mut compound = Compound::default();
            compound.feedback(any, &feedback);
            self.send(compound, out);
        }
        if self.ingress.report_at.is_some_and(|at| now < at) {
            return;
        }
        self.ingress.report_at = Some(now + REPORT_INTERVAL);
        let mine = publications.iter_mut().filter(|p| p.peer == self.id);
        let layers = mine.flat_map(|p| p.layers.iter_mut());
        let blocks: Vec<_> = layers
            .filter_map(|layer| Some((layer.ssrc?, layer.reception.block(now)?)))
            .collect();
        let mut compound = Compound::default();
        compound.receiver_report(&blocks);
        compound.reference_time(clock.ntp(now));
        if !self.ingress.has_feedback {
            compound.bitrate(GENEROUS_BITRATE, &ssrcs);
        }
        self.send(compound, out);
    }

    /// Encrypts a compound packet.
    pub(crate) fn send(&mut self, compound: Compound, out: &mut Outgoing) {
        if let Some(packet) = compound.finish() {
            self.transport.seal_rtcp(&packet, out);
        }
    }

    /// Returns until when the peer lives if nothing more is heard of it.
    pub(crate) fn expires_at(&self, connect_timeout: Duration) -> Instant {
        if self.transport.is_connected() {
            self.transport.last_heard() + CONSENT
        } else {
            self.joined_at + connect_timeout
        }
    }

    /// Returns when something is due.
    pub(crate) fn poll_timeout(&self, connect_timeout: Duration) -> Option<Instant> {
        [
            Some(self.expires_at(connect_timeout)),
            self.transport.poll_timeout(),
            self.media_timeout(),
            self.flow.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Returns when a report is due.
    pub(crate) fn media_timeout(&self) -> Option<Instant> {
        let deadlines = match self.join.role {
            Role::Publisher => [self.ingress.arrivals.poll_timeout(), self.ingress.report_at],
            Role::Viewer => [self.sender_report_at, None],
        };
        deadlines.into_iter().flatten().min()
    }
}

/// How often sender and receiver reports are sent.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// How long a peer may be silent (RFC 7675 §5.1).
const CONSENT: Duration = Duration::from_secs(30);

/// What a publisher without transport-wide feedback may send, bit/s: more than any browser does.
const GENEROUS_BITRATE: f32 = 10_000_000.0;

/// Packets of padding at one time: more than any probe has.
const MOST_PADDING: usize = 2048;
