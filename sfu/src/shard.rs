//! One shard: a media port, a clock and a command queue around one `Sfu`.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    time::{Duration, Instant},
};

use sfu_core::{CloseReason, Event, NegotiateError, Path, PeerId, Sfu};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Answer,
    events::EventQueue,
    handle::Command,
    hold::Hold,
    link::{Letter, Links},
    load::Place,
    meters::Meters,
    port::Port,
    receive::{Arrived, RECEIVE_BATCH, ReceiveBatch},
    rest::Rest,
    socket::Socket,
    tap::{Taps, Wish},
    tcp::{Arrival, Connections, Inbound},
};

/// What a shard is made of.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) sockets: Vec<Socket>,
    pub(crate) connections: Connections,
    pub(crate) core: sfu_core::Config,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) links: Links,
    pub(crate) events: EventQueue,
    pub(crate) hold: Hold,
}

/// Drives one [`Sfu`].
pub(crate) struct Shard {
    ports: Ports,
    commands: mpsc::Receiver<Command>,
    core: Core,
    inbound: ReceiveBatch,
    receive_failures: u32,
    rest: Rest,
}

/// Where datagrams come from and go to.
struct Ports {
    udp: Port,
    tcp: Connections,
}

/// The state machine and everything its output goes to.
struct Core {
    sfu: Sfu,
    events: EventQueue,
    taps: Taps,
    links: Links,
    peers: BTreeMap<PeerId, Place>,
    /// Peers that have published something.
    publishers: BTreeSet<PeerId>,
    meters: Meters,
    hold: Hold,
}

/// What a turn is about.
enum Turn {
    Received(io::Result<Arrived>),
    Tcp(Inbound),
    Letter(Letter),
    Command(Command),
    Clock,
    Wishes,
    Events,
}

impl Shard {
    /// Starts the SFU. Call it within the runtime that will run the shard.
    ///
    /// # Errors
    /// When the reactor does not take the socket.
    pub(crate) fn new(plan: Plan) -> io::Result<Self> {
        let shard = plan.core.shard;
        Ok(Self {
            ports: Ports {
                udp: Port::new(plan.sockets)?,
                tcp: plan.connections,
            },
            commands: plan.commands,
            core: Core {
                sfu: Sfu::new(plan.core, Instant::now()),
                events: plan.events,
                taps: Taps::default(),
                peers: BTreeMap::new(),
                publishers: BTreeSet::new(),
                meters: Meters::new(shard),
                links: plan.links,
                hold: plan.hold,
            },
            inbound: ReceiveBatch::new(),
            receive_failures: 0,
            rest: Rest::default(),
        })
    }

    /// Runs until cancelled, then says goodbye to all peers. Each turn takes one input (a batch of datagrams
    /// or of commands, or the clock) and sends all output, so none of them waits long for another.
    ///
    /// # Errors
    /// When the socket fails again and again.
    pub(crate) async fn run(mut self, cancel: CancellationToken) -> io::Result<()> {
        let mut alarm = Box::pin(sleep_until(Instant::now().into()));
        loop {
            self.core
                .set_alarm(alarm.as_mut(), self.rest.poll_timeout());
            let turn = tokio::select! {
                () = cancel.cancelled() => break,
                received = self.ports.udp.receive(&mut self.inbound) => Turn::Received(received),
                Some(inbound) = self.ports.tcp.recv() => Turn::Tcp(inbound),
                Some(command) = self.commands.recv() => Turn::Command(command),
                Some(letter) = self.core.links.recv() => Turn::Letter(letter),
                () = alarm.as_mut() => Turn::Clock,
                () = self.core.taps.wished() => Turn::Wishes,
                () = self.core.events.drain() => Turn::Events,
            };
            let start = Instant::now();
            self.take(turn, start)?;
            self.core.send_output(&mut self.ports, start);
            self.look_at_doors(Instant::now())?;
            self.core.worked(start);
            self.decide_on_rest(start)?;
        }
        self.core.say_goodbye(&mut self.ports, Instant::now());
        Ok(())
    }

    fn take(&mut self, turn: Turn, now: Instant) -> io::Result<()> {
        let core = &mut self.core;
        match turn {
            Turn::Received(Ok(arrived)) => {
                self.receive_failures = 0;
                core.meters.arrived(arrived);
                core.handle_datagrams(&mut self.inbound, &mut self.ports, now);
            }
            Turn::Received(Err(error)) => {
                self.fail(error)?;
            }
            Turn::Tcp(first) => {
                core.handle_inbound(first, &mut self.ports, now);
                for _ in 1..RECEIVE_BATCH {
                    let Some(inbound) = self.ports.tcp.try_recv() else {
                        break;
                    };
                    core.handle_inbound(inbound, &mut self.ports, now);
                }
                core.meters.connections(self.ports.tcp.len());
            }
            Turn::Letter(first) => core.handle_letters(first, &mut self.ports, now),
            Turn::Command(command) => {
                core.meters
                    .depths(self.commands.len() + 1, core.events.backlog());
                core.handle_command(command, now);
                for _ in 1..COMMAND_BATCH {
                    let Ok(command) = self.commands.try_recv() else {
                        break;
                    };
                    core.handle_command(command, now);
                }
            }
            Turn::Clock => core.sfu.handle_timeout(now),
            Turn::Wishes => core.grant_wishes(now),
            Turn::Events => {}
        }
        Ok(())
    }
}

impl Shard {
    /// While the doors are not watched: reads what viewers have sent.
    fn look_at_doors(&mut self, now: Instant) -> io::Result<()> {
        if !self.rest.should_look(now) {
            return Ok(());
        }
        let mut position = 0;
        for _ in 0..MAX_LOOKS {
            match self.ports.udp.look(position, &mut self.inbound) {
                Ok(None) => return Ok(()),
                Ok(Some((next, arrived))) => {
                    position = next;
                    self.take(Turn::Received(Ok(arrived)), now)?;
                    self.core.send_output(&mut self.ports, now);
                }
                Err(error) => return self.fail(error),
            }
        }
        Ok(())
    }

    /// Gives publishers lanes where they have moved or come, and decides whether to wait for them only.
    fn decide_on_rest(&mut self, now: Instant) -> io::Result<()> {
        if self.rest.is_survey_due(now) {
            let core = &self.core;
            let paths = core.publishers.iter().map(|peer| core.sfu.path_of(*peer));
            let paths: Vec<Path> = paths.flatten().collect();
            let have_all = self.ports.udp.set_lanes(&paths);
            if let Some(is_watched) = self.rest.decide(core.hold.busy(), have_all, now) {
                self.ports.udp.watch_doors(is_watched)?;
            }
        }
        Ok(())
    }

    fn fail(&mut self, error: io::Error) -> io::Result<()> {
        self.core.meters.receive_failed();
        self.receive_failures += 1;
        match self.receive_failures > MAX_RECEIVE_FAILURES {
            true => Err(error),
            false => Ok(()),
        }
    }
}

impl Core {
    fn set_alarm(&self, alarm: std::pin::Pin<&mut Sleep>, look_at: Option<Instant>) {
        let now = Instant::now();
        let due = [self.sfu.poll_timeout(), look_at];
        let at = due.into_iter().flatten().min().unwrap_or(now + IDLE);
        if alarm.is_elapsed() || alarm.deadline().into_std() != at {
            alarm.reset(at.into());
        }
    }

    /// Takes received datagrams, sending what they cause in portions. Several at once become runs for the
    /// kernel to split, but each becomes as many as there are viewers, and all of a portion are in memory.
    fn handle_datagrams(&mut self, inbound: &mut ReceiveBatch, ports: &mut Ports, now: Instant) {
        for (path, datagram) in inbound.datagrams() {
            self.handle_datagram(path, datagram, ports, now);
        }
    }

    fn handle_datagram(
        &mut self,
        path: Path,
        datagram: &mut [u8],
        ports: &mut Ports,
        now: Instant,
    ) {
        self.sfu.handle_datagram(path, datagram, now);
        if self.sfu.waiting() >= self.portion() {
            self.send_all(Duration::ZERO, ports, now);
        }
    }

    fn handle_inbound(&mut self, inbound: Inbound, ports: &mut Ports, now: Instant) {
        let is_new = matches!(inbound, Inbound::Opened(_));
        match ports.tcp.handle(inbound) {
            Some(Arrival::Datagram(path, mut datagram)) => {
                self.handle_datagram(path, &mut datagram, ports, now);
                if is_new && !self.sfu.knows(path) {
                    ports.tcp.close(path);
                }
            }
            Some(Arrival::Gone(path)) => self.sfu.forget(path),
            Some(Arrival::Sweep) => ports.tcp.sweep(|path| self.sfu.knows(path)),
            None => {}
        }
    }

    fn handle_command(&mut self, command: Command, now: Instant) {
        match command {
            Command::Negotiate {
                join,
                offer,
                home,
                place,
                reply,
            } => {
                let result = if self.events.is_congested() {
                    Err(NegotiateError::Full)
                } else {
                    self.sfu.negotiate(join, &offer, now)
                };
                if let Ok(answer) = &result {
                    self.peers.insert(answer.peer, place);
                    self.sfu.follow(join.room, home);
                }
                self.answer(result, reply, now);
            }
            Command::Close { peer, reason } => {
                self.sfu.close(peer, reason, now);
                // Its place is free for the next command already.
                self.peers.remove(&peer);
            }
            Command::Send {
                peer,
                label,
                payload,
            } => {
                self.sfu.send(peer, label, &payload, now);
            }
            Command::Broadcast {
                room,
                label,
                payload,
            } => self.sfu.broadcast(room, label, &payload, now),
            Command::Feature { room, participant } => self.sfu.feature(room, participant, now),
            Command::Tap {
                room,
                source,
                reply,
            } => {
                let id = self.sfu.add_tap(room, source, now);
                // A tap whose caller has gone is dropped here, which wakes the shard to end it.
                let _ = reply.send(self.taps.open(id));
            }
            Command::RestartIce {
                peer,
                fragment,
                reply,
            } => drop(reply.send(self.sfu.restart_ice(peer, &fragment, now))),
            Command::Limit { peer, highest } => self.sfu.limit(peer, highest, now),
            // Callers that have gone do not need their answers.
            Command::Stats { reply } => drop(reply.send(self.sfu.stats())),
            Command::RoomStats { room, reply } => {
                drop(reply.send(self.sfu.room_stats(room, now)));
            }
            Command::Snapshot { room, fresh, reply } => {
                drop(reply.send(self.sfu.snapshot(room, fresh, now)));
            }
            Command::PeerStats { peer, reply } => drop(reply.send(self.sfu.peer_stats(peer, now))),
        }
    }

    fn answer(
        &mut self,
        result: Result<Answer, NegotiateError>,
        reply: oneshot::Sender<Result<Answer, NegotiateError>>,
        now: Instant,
    ) {
        // Nobody would ever use or close a peer whose caller has gone.
        if let Err(Ok(answer)) = reply.send(result) {
            self.sfu.close(answer.peer, CloseReason::Requested, now);
        }
    }

    fn grant_wishes(&mut self, now: Instant) {
        for wish in self.taps.wishes() {
            match wish {
                Wish::Keyframe(tap) => self.sfu.request_keyframe(tap, now),
                Wish::Video(tap, video) => self.sfu.set_tap_video(tap, video, now),
                Wish::Layers(tap, layers) => self.sfu.set_tap_layers(tap, layers, now),
                Wish::End(tap) => self.sfu.remove_tap(tap),
            }
        }
    }

    /// Takes what other shards say, in portions like datagrams.
    fn handle_letters(&mut self, first: Letter, ports: &mut Ports, now: Instant) {
        let mut next = Some(first);
        for _ in 0..LETTER_BATCH {
            let Some((from, message)) = next.take() else {
                return;
            };
            self.sfu.handle_relay(from, &message, now);
            if self.sfu.waiting() >= self.portion() {
                self.send_all(Duration::ZERO, ports, now);
            }
            next = self.links.try_recv();
        }
        if let Some((from, message)) = next {
            self.sfu.handle_relay(from, &message, now);
        }
    }

    /// Returns how many datagrams may be taken before all of them are forwarded.
    fn portion(&self) -> usize {
        let forwarded = self.peers.len().max(1) * FORWARDED_BYTES;
        (PORTION_BYTES / forwarded).max(1)
    }

    /// Forwards what need not wait, and sends everything the SFU has to say.
    fn send_output(&mut self, ports: &mut Ports, now: Instant) {
        // The clock that ends the wait may be late by its grain.
        let hold = self.hold.limit().saturating_sub(CLOCK_GRAIN);
        self.send_all(hold, ports, now);
    }

    fn send_all(&mut self, hold: Duration, ports: &mut Ports, now: Instant) {
        let mut now = now;
        ports.udp.begin_flush();
        loop {
            while {
                let has_more = self.sfu.flush_part(hold, now);
                // Other shards are told first: they have as much to do.
                self.write_letters();
                self.send_part(ports);
                now = Instant::now();
                has_more
            } {}
            while let Some(event) = self.sfu.poll_event() {
                self.note_event(event);
            }
            if !self.feed_taps(now) {
                break;
            }
        }
    }

    fn send_part(&mut self, ports: &mut Ports) {
        let outgoing = self.sfu.outgoing();
        if !outgoing.is_empty() {
            ports.udp.send(outgoing, |sent| self.meters.sent(sent));
            self.meters.tcp_dropped(ports.tcp.send(outgoing));
            outgoing.clear();
        }
    }

    fn worked(&mut self, from: Instant) {
        self.hold.worked(from, Instant::now());
        self.meters.busy(self.hold.busy(), self.hold.limit());
    }

    fn write_letters(&mut self) {
        for shard in self.links.recover() {
            self.sfu.relay_lost(shard);
        }
        while let Some((to, message)) = self.sfu.poll_relay() {
            if !self.links.send(to, message) {
                self.meters.relay_dropped();
            }
        }
    }

    fn note_event(&mut self, event: Event) {
        match &event {
            Event::Closed { peer, .. } => {
                self.peers.remove(peer);
                self.publishers.remove(peer);
            }
            Event::Published { peer, .. } => {
                self.publishers.insert(*peer);
            }
            Event::Connected { .. }
            | Event::ChannelOpened { .. }
            | Event::Message { .. }
            | Event::Stage { .. }
            | Event::LayersWanted { .. }
            | Event::Unpublished { .. } => {}
        }
        if !self.events.push(event) {
            self.meters.event_dropped();
        }
    }

    /// Gives the taps their packets. Returns whether that made the SFU say more.
    fn feed_taps(&mut self, now: Instant) -> bool {
        let mut asked = false;
        while let Some((tap, packet)) = self.sfu.poll_tap() {
            let pushed = self.taps.push(tap, packet, now);
            if pushed.dropped {
                self.meters.tap_dropped();
            }
            if pushed.ask_keyframe {
                self.sfu.request_keyframe(tap, now);
                asked = true;
            }
        }
        asked
    }

    fn say_goodbye(&mut self, ports: &mut Ports, now: Instant) {
        for peer in std::mem::take(&mut self.peers).into_keys() {
            self.sfu.close(peer, CloseReason::Requested, now);
        }
        self.send_output(ports, now);
    }
}

/// Most letters of other shards read in one turn.
const LETTER_BATCH: usize = 16;

/// Most commands served in one turn.
const COMMAND_BATCH: usize = 16;

/// Most bytes that a portion of received datagrams should become, and what one datagram becomes per viewer.
const PORTION_BYTES: usize = 4 << 20;
const FORWARDED_BYTES: usize = 1200;

/// Most batches that are read at once of doors that are not watched.
const MAX_LOOKS: usize = 64;

/// How late the clock may be.
const CLOCK_GRAIN: Duration = Duration::from_millis(1);

/// Receive calls that may fail one after the other before the socket counts as beyond repair.
const MAX_RECEIVE_FAILURES: u32 = 1000;

/// How long the clock sleeps when the SFU waits for nothing.
const IDLE: Duration = Duration::from_secs(3600);
