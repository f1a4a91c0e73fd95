//! What arrives at an [`Sfu`], and whose time has come.

use std::time::Instant;

use bytes::Bytes;

use super::{Role, Sfu, TICK};
use crate::{
    CloseReason, Event, Path, PeerId,
    clock::ntp_micros,
    fallback::Reception,
    ingress::Routed,
    room::Heard,
    timers::Owner,
    transport::{
        Rtp, TransportEvent, binding_request_ufrag,
        rtcp::{self, Report},
    },
};

impl Sfu {
    pub(super) fn handle_stun(
        &mut self,
        from: Path,
        datagram: &[u8],
        now: Instant,
    ) -> Result<(), &'static str> {
        let ufrag = binding_request_ufrag(datagram).ok_or("not_a_binding_request")?;
        let id = self.demux.find_ufrag(ufrag).ok_or("unknown_ufrag")?;
        let peer = self.peers.get_mut(id).ok_or("unknown_ufrag")?;
        peer.transport
            .handle_stun(&self.shared, from, datagram, now, &mut self.out)
            .map_err(|error| error.reason())?;
        let is_first = peer.bound.is_empty();
        let paths = peer.transport.paths();
        self.demux.bind(id, &mut peer.bound, paths);
        self.demux.keep(&mut peer.bound, &peer.transport.ufrags());
        let join = peer.join;
        if is_first && join.role == Role::Viewer {
            self.prepare_start(id, now);
        }
        self.reschedule(id, now);
        Ok(())
    }

    pub(super) fn handle_dtls(
        &mut self,
        id: PeerId,
        datagram: &[u8],
        now: Instant,
    ) -> Result<(), &'static str> {
        let peer = self.peers.get_mut(id).ok_or("unknown_source_address")?;
        let result = peer
            .transport
            .handle_dtls(&self.shared, datagram, now, &mut self.out);
        self.handle_transport_events(id, now);
        self.reschedule(id, now);
        result.map_err(|error| error.reason())
    }

    pub(super) fn handle_rtp(
        &mut self,
        id: PeerId,
        datagram: &mut [u8],
        now: Instant,
    ) -> Result<(), &'static str> {
        let len = datagram.len() as u64;
        let peer = self.peers.get_mut(id).ok_or("unknown_source_address")?;
        let ingress = &mut peer.ingress;
        let packet = peer
            .transport
            .open_rtp(datagram, |ssrc| ingress.knows(ssrc))
            .map_err(|error| error.reason())?;
        self.take_packet(id, len, &packet, now)
    }

    /// Takes a packet that is decrypted.
    pub(super) fn take_packet(
        &mut self,
        id: PeerId,
        len: u64,
        packet: &Rtp<'_>,
        now: Instant,
    ) -> Result<(), &'static str> {
        let peer = self.peers.get_mut(id).ok_or("unknown_source_address")?;
        let ingress = &mut peer.ingress;
        peer.counters.packets_in += 1;
        peer.counters.bytes_in += len;
        self.totals.stats.packets_in += 1;
        self.totals.stats.bytes_in += len;
        if ingress.has_feedback
            && let Some(seq) = packet.transport_seq
        {
            ingress.arrivals.record(seq, self.clock, now);
        }
        ingress.report_at.get_or_insert(now);
        let at = peer.media_timeout().map(|at| at.max(now + TICK));
        self.timers
            .schedule(Owner::Peer(peer.id), &mut peer.scheduled, at);
        let ingress = &mut peer.ingress;
        let (route, restart) = match ingress.route(packet, now) {
            Routed::Known(route) => (route, false),
            Routed::Replaced(route) => (route, true),
            Routed::Unknown => return Err("unknown_source"),
        };
        let heard = Heard {
            route,
            restart,
            red: ingress.is_red(packet.pt),
            packet,
        };
        let id = peer.join.room;
        let room = self.rooms.get_mut(&id).ok_or("unknown_source")?;
        let remote = &mut ingress.remote;
        let published = room.receive(&heard, remote, self.clock, now);
        if let Some(published) = published? {
            self.events.push_back(Event::Published {
                peer: peer.id,
                room: id,
                publication: published.publication,
                kind: published.codec.kind(),
                codec: published.codec,
            });
        }
        self.note(id);
        self.waiting += 1;
        Ok(())
    }

    pub(super) fn handle_rtcp(
        &mut self,
        id: PeerId,
        datagram: &[u8],
        now: Instant,
    ) -> Result<(), &'static str> {
        let peer = self.peers.get_mut(id).ok_or("unknown_source_address")?;
        let compound = peer
            .transport
            .open_rtcp(datagram)
            .map_err(|error| error.reason())?;
        self.take_reports(id, &compound, now)
    }

    /// Takes a compound RTCP packet that is decrypted.
    pub(super) fn take_reports(
        &mut self,
        id: PeerId,
        compound: &Bytes,
        now: Instant,
    ) -> Result<(), &'static str> {
        let reports = rtcp::parse(compound).ok_or("malformed_rtcp")?;
        for report in reports {
            self.handle_report(id, &report, now);
        }
        if let Some(peer) = self.peers.get_mut(id) {
            peer.flow.judge_loss(now);
        }
        Ok(())
    }

    fn handle_report(&mut self, id: PeerId, report: &Report, now: Instant) {
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        let Some(room) = self.rooms.get_mut(&peer.join.room) else {
            return;
        };
        match report {
            Report::Sender {
                ssrc,
                ntp,
                timestamp,
            } => {
                if let Some(route) = peer.ingress.route_of(*ssrc).filter(|route| !route.repair)
                    && let Some(layer) = room.find_layer(route)
                {
                    layer.reception.handle_sender_report(*ntp, now);
                    let remote = &mut peer.ingress.remote;
                    layer
                        .clock
                        .handle_report(ntp_micros(*ntp), *timestamp, remote);
                }
            }
            Report::Reception {
                ssrc,
                fraction_lost,
                highest,
                last_sender_report,
                delay,
            } => {
                let mut subscriptions = peer.subscriptions.iter();
                if let Some(subscription) = subscriptions.find(|s| s.stream.ssrc == *ssrc) {
                    let (sent, _) = subscription.counts();
                    peer.counters.fraction_lost = *fraction_lost;
                    let reception = Reception {
                        ssrc: *ssrc,
                        fraction_lost: *fraction_lost,
                        highest: *highest,
                        sent,
                    };
                    peer.flow.handle_reception(&reception);
                    let rtt = rtcp::round_trip(self.clock.ntp(now), *last_sender_report, *delay);
                    rtt.into_iter().for_each(|rtt| peer.flow.handle_rtt(rtt));
                }
            }
            Report::ReferenceTime { last, delay } => {
                let rtt = rtcp::round_trip(self.clock.ntp(now), *last, *delay);
                rtt.into_iter().for_each(|rtt| peer.flow.handle_rtt(rtt));
            }
            Report::Arrivals(report) => {
                let news = peer.flow.handle_arrivals(report, now);
                peer.handle_news(news, now);
                if peer.allotment.is_due(now) {
                    peer.allot(&room.shown(), now);
                }
                peer.probe(&mut self.out, now);
                self.reschedule(id, now);
            }
            Report::Bitrate(bitrate) => {
                let news = peer.flow.handle_bitrate(*bitrate, now);
                peer.handle_news(news, now);
                peer.allot(&room.shown(), now);
            }
            Report::Nack { ssrc, seqs } => {
                let repeated = peer.retransmit(*ssrc, seqs, &room.publications, &mut self.out, now);
                self.totals.repeated(&repeated);
            }
            Report::Keyframe { ssrc } => {
                peer.counters.keyframe_requests += 1;
                let mut subscriptions = peer.subscriptions.iter();
                if let Some(subscription) = subscriptions.find(|s| s.stream.ssrc == *ssrc) {
                    room.request_keyframe_for(subscription, &peer.join);
                    let room = peer.join.room;
                    self.touch(room);
                }
            }
            Report::Goodbye { ssrc } => {
                if let Some(route) = peer.ingress.route_of(*ssrc).filter(|route| !route.repair) {
                    room.stop(route, *ssrc);
                }
            }
        }
    }

    pub(super) fn handle_transport_events(&mut self, id: PeerId, now: Instant) {
        while let Some(peer) = self.peers.get_mut(id)
            && let Some(event) = peer.transport.poll_event()
        {
            match event {
                TransportEvent::Connected => self.handle_connected(id, now),
                TransportEvent::ChannelOpened { label } => {
                    self.events
                        .push_back(Event::ChannelOpened { peer: id, label });
                }
                TransportEvent::Message { label, payload } => {
                    if self.events.len() >= MAX_EVENTS {
                        self.totals.drop("event_queue_full");
                        continue;
                    }
                    self.events.push_back(Event::Message {
                        peer: id,
                        label,
                        payload,
                    });
                }
                TransportEvent::Left => self.close(id, CloseReason::Left, now),
                TransportEvent::HandshakeFailed => {
                    self.close(id, CloseReason::HandshakeFailed, now);
                }
            }
        }
    }

    fn handle_connected(&mut self, id: PeerId, now: Instant) {
        self.events.push_back(Event::Connected { peer: id });
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        let join = peer.join;
        let has_reports = peer.transport.has_feedback();
        peer.flow.begin(peer.transport.shown(), has_reports, now);
        if join.role == Role::Publisher
            && let Some(room) = self.rooms.get(&join.room)
        {
            // Ids grow with age: what the participant negotiated before this one has been replaced.
            let older = room.publishers().iter().filter(|p| **p < id);
            let older = older.filter_map(|p| self.peers.get(*p));
            let theirs = older.filter(|p| p.join.participant == join.participant);
            let replaced: Vec<_> = theirs.map(|p| p.id).collect();
            for peer in replaced {
                self.close(peer, CloseReason::Replaced, now);
            }
        }
        self.touch(join.room);
    }

    pub(super) fn handle_peer_timeout(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        self.timers.cancel(Owner::Peer(id), &mut peer.scheduled);
        if now >= peer.expires_at(self.config.connect_timeout) {
            let reason = match peer.transport.is_connected() {
                true => CloseReason::ConsentExpired,
                false => CloseReason::NeverConnected,
            };
            self.close(id, reason, now);
            return;
        }
        if peer.transport.poll_timeout().is_some_and(|at| at <= now) {
            peer.transport.handle_timeout(now, &mut self.out);
        }
        if peer.media_timeout().is_some_and(|at| at <= now)
            && let Some(room) = self.rooms.get_mut(&peer.join.room)
        {
            let publications = &mut room.publications;
            match peer.join.role {
                Role::Publisher => {
                    peer.send_reception_reports(publications, self.clock, &mut self.out, now);
                }
                Role::Viewer => {
                    peer.send_sender_reports(publications, self.clock, &mut self.out, now);
                }
            }
        }
        let news = peer.flow.handle_timeout(now);
        peer.handle_news(news, now);
        peer.probe(&mut self.out, now);
        self.handle_transport_events(id, now);
        self.reschedule(id, now);
    }

    /// Asks for keyframes while a newcomer still shakes hands, unless the history can start it.
    fn prepare_start(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peers.get(id) else {
            return;
        };
        let id = peer.join.room;
        let reports = peer.transport.has_feedback();
        if let Some(room) = self.rooms.get_mut(&id) {
            let mut asked = false;
            for subscription in &peer.subscriptions {
                asked |= room.prepare_start(subscription.view, reports, now);
            }
            if asked {
                self.touch(id);
            }
        }
    }
}

/// Messages waiting to be read; what comes beyond is dropped. Other events are few.
const MAX_EVENTS: usize = 4096;
