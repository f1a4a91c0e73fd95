//! A virtual network between one `Sfu` and real client stacks. Time and chance are values.

pub(crate) mod continuity;
mod handshake;
pub(crate) mod link;
pub(crate) mod member;
pub(crate) mod payload;
pub(crate) mod publisher;
pub(crate) mod svc;
pub(crate) mod viewer;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use sfu_core::{
    Codec, Config, Event, Join, ParticipantId, Path, PeerId, PublicationId, Role, RoomConfig,
    RoomId, Sfu, ShardId, TapId, TapPacket,
};

use crate::support::{
    client::{CHROMIUM_ORDER, Client},
    memory::Memory,
};
use link::Link;
use member::{App, Member};
use publisher::Publisher;
use viewer::Viewer;

pub(crate) const ROOM: RoomId = RoomId(7);

pub(crate) const HERE: ShardId = ShardId(0);
pub(crate) const ELSEWHERE: ShardId = ShardId(1);

/// What the network does to media; handshakes are spared, they have tests of their own.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Network {
    /// Per cent lost, in each direction.
    pub(crate) loss: u64,
    /// Per cent that arrive twice.
    pub(crate) duplicate: u64,
    /// Most milliseconds of delay on top of [`DELAY`]; reorders.
    pub(crate) jitter: u64,
}

/// From none to bad, with what is sent over them.
pub(crate) const NETWORKS: [(Codec, Network); 5] = {
    const fn network(loss: u64, duplicate: u64, jitter: u64) -> Network {
        Network {
            loss,
            duplicate,
            jitter,
        }
    }
    [
        (Codec::H264, network(0, 0, 0)),
        (Codec::Vp8, network(2, 1, 3)),
        (Codec::H264, network(5, 2, 8)),
        (Codec::Vp8, network(10, 5, 15)),
        (Codec::H264, network(20, 5, 20)),
    ]
};

/// One way.
pub(crate) const DELAY: Duration = Duration::from_millis(10);

/// Returns milliseconds.
pub(crate) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// How many flushes are remembered.
const SERVED: usize = 100;

/// Returns whether a datagram is RTP or RTCP.
fn is_media(datagram: &[u8]) -> bool {
    (128..192).contains(&datagram[0])
}

/// Returns whether a datagram is RTP.
fn is_rtp(datagram: &[u8]) -> bool {
    is_media(datagram) && !(192..224).contains(&datagram[1])
}

fn is_rtcp(datagram: &[u8]) -> bool {
    is_media(datagram) && !is_rtp(datagram)
}

/// Returns whether a datagram begins with an unencrypted record of a DTLS handshake.
fn is_handshake(datagram: &[u8]) -> bool {
    datagram[0] == 22 && datagram[3..5] == [0, 0]
}

/// Returns whether an RTP packet of a publisher is a repeat.
fn is_repair(datagram: &[u8]) -> bool {
    [46, 97, 99, 103].contains(&(datagram[1] & 0x7f))
}

type Staged = (
    Vec<Option<PublicationId>>,
    Vec<Option<PublicationId>>,
    Option<PublicationId>,
);

/// The server, its peers and the time.
pub(crate) struct World {
    pub(crate) sfu: Sfu,
    /// Another one, for rooms whose home is the first.
    pub(crate) elsewhere: Sfu,
    /// Whether who joins does so at the other one.
    pub(crate) joins_elsewhere: bool,
    /// Whether who joins next is shown what the same participant publishes.
    pub(crate) sees_own: bool,
    /// Whether nothing that happened at home arrives at the other one.
    pub(crate) loses_news: bool,
    pub(crate) start: Instant,
    pub(crate) now: Instant,
    pub(crate) network: Network,
    /// How long packets may wait for others at the server.
    pub(crate) hold: Duration,
    /// What happens to packets on their first way from a member: the same to the same packet, whatever else does.
    pub(crate) uplinks: BTreeMap<usize, Network>,
    /// What whoever joins says about the room.
    pub(crate) config: RoomConfig,
    pub(crate) members: Vec<Member>,
    pub(crate) events: Vec<Event>,
    /// Who sent which publication.
    pub(crate) published: Vec<(PublicationId, PeerId)>,
    /// What the last stage event said: video slots, audio slots, program.
    pub(crate) stage: Option<Staged>,
    pub(crate) tapped: Vec<(TapId, TapPacket)>,
    /// Who was sent media in each of the last flushes, in that order.
    pub(crate) served: VecDeque<Vec<usize>>,
    /// How long a datagram travels, one way.
    pub(crate) delay: Duration,
    /// The way to a member, where it is narrow.
    pub(crate) links: BTreeMap<usize, Link>,
    /// Per mille lost of the RTCP packets of members behind such a way.
    pub(crate) reports_lost: u64,
    /// After which time members say again what they said in a handshake.
    pub(crate) patience: Option<Duration>,
    /// Whether the first messages of members come in two datagrams each.
    pub(crate) has_long_hellos: bool,
    /// What the server has allocated, but for what it was made with.
    pub(crate) memory: Memory,
    pub(crate) costs: Costs,
    random: u64,
    wire: BTreeMap<(Instant, u64), Flight>,
    flights: u64,
}

/// How often the server allocates for what is forwarded.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Costs {
    /// RTP packets that arrived.
    pub(crate) packets: u64,
    /// Allocations while these were taken.
    pub(crate) taking: u64,
    pub(crate) flushes: u64,
    /// Allocations meanwhile.
    pub(crate) flushing: u64,
}

struct Flight {
    member: usize,
    to_server: bool,
    datagram: Vec<u8>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self::remembering(1024, seed)
    }

    /// A server that keeps so many packets of a layer.
    pub(crate) fn remembering(history_packets: usize, seed: u64) -> Self {
        println!("seed {seed}");
        let start = Instant::now();
        let config = Config {
            advertise: vec![([192, 0, 2, 1], 7000).into()],
            advertise_tcp: vec![([192, 0, 2, 1], 7000).into()],
            shard: HERE,
            max_peers: 1100,
            history_packets,
            connect_timeout: Duration::from_secs(10),
            unix_time: Duration::from_secs(1_700_000_000),
            seed: [seed as u8; 32],
        };
        let elsewhere = Config {
            shard: ELSEWHERE,
            ..config.clone()
        };
        Self {
            sfu: Sfu::new(config, start),
            elsewhere: Sfu::new(elsewhere, start),
            joins_elsewhere: false,
            sees_own: false,
            loses_news: false,
            start,
            now: start,
            network: Network::default(),
            hold: Duration::ZERO,
            uplinks: BTreeMap::new(),
            config: RoomConfig::default(),
            members: Vec::new(),
            events: Vec::new(),
            published: Vec::new(),
            stage: None,
            tapped: Vec::new(),
            served: VecDeque::new(),
            delay: DELAY,
            links: BTreeMap::new(),
            reports_lost: 0,
            patience: None,
            has_long_hellos: false,
            memory: Memory::default(),
            costs: Costs::default(),
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            wire: BTreeMap::new(),
            flights: 0,
        }
    }

    /// A broadcast that has lasted for so many milliseconds.
    pub(crate) fn live(seed: u64, publisher: Publisher, ms: u64) -> Self {
        let mut world = Self::new(seed);
        world.publish(publisher);
        world.run(ms);
        world
    }

    /// Publishes as participant 1.
    pub(crate) fn publish(&mut self, publisher: Publisher) -> usize {
        self.publish_as(1, publisher)
    }

    pub(crate) fn publish_as(&mut self, participant: u64, publisher: Publisher) -> usize {
        let client = Client::new(CHROMIUM_ORDER);
        let offer = client.offer(&publisher.media());
        let join = self.of(participant, Role::Publisher);
        self.join(client, &offer, join, |_| {
            App::Publisher(Box::new(publisher))
        })
    }

    /// Watches as somebody who does not publish.
    pub(crate) fn watch(&mut self, media: &str) -> usize {
        self.watch_as(1000 + self.members.len() as u64, media)
    }

    pub(crate) fn watch_as(&mut self, participant: u64, media: &str) -> usize {
        let client = Client::new(CHROMIUM_ORDER);
        let offer = client.offer(media);
        let join = self.of(participant, Role::Viewer);
        self.join(client, &offer, join, |answer| {
            App::Viewer(Box::new(Viewer::new(answer)))
        })
    }

    fn of(&self, participant: u64, role: Role) -> Join {
        Join {
            room: ROOM,
            participant: ParticipantId(participant),
            role,
            sees_own: self.sees_own,
            config: self.config,
        }
    }

    pub(crate) fn join(
        &mut self,
        client: Client,
        offer: &str,
        join: Join,
        app: impl FnOnce(&str) -> App,
    ) -> usize {
        let index = self.members.len();
        let sfu = match self.joins_elsewhere {
            false => &mut self.sfu,
            true => &mut self.elsewhere,
        };
        let answer = sfu.negotiate(join, offer, self.now).unwrap();
        sfu.follow(join.room, HERE);
        let value = |name: &str| {
            let line = answer.sdp.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().to_owned()
        };
        assert_eq!(value("a=ice-ufrag:"), answer.ice_ufrag);
        self.members.push(Member {
            peer: answer.peer,
            app: app(&answer.sdp),
            silent: false,
            nominates: true,
            gone: Vec::new(),
            client,
            address: SocketAddr::from(([198, 51, 100, 1], 1000 + index as u16)).into(),
            credentials: (answer.ice_ufrag.clone(), value("a=ice-pwd:")),
            next_check: self.now,
            started: false,
        });
        index
    }

    /// Gives a member another path, at once and without a word: what is under way to the old one is lost.
    pub(crate) fn rebind(&mut self, index: usize, path: Path) {
        let member = &mut self.members[index];
        member
            .gone
            .push(std::mem::replace(&mut member.address, path));
        self.wire
            .retain(|_, flight| flight.to_server || flight.member != index);
    }

    /// Lets time pass, a millisecond at a time.
    pub(crate) fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now += Duration::from_millis(1);
            self.deliver();
            for sfu in [&mut self.sfu, &mut self.elsewhere] {
                if sfu.poll_timeout().is_some_and(|due| due <= self.now) {
                    self.memory.measure(|| sfu.handle_timeout(self.now));
                }
            }
            self.flush();
            for sfu in [&self.sfu, &self.elsewhere] {
                let due = sfu.poll_timeout();
                assert!(
                    due.is_none_or(|due| due > self.now),
                    "a timer that never ends"
                );
            }
            for index in 0..self.members.len() {
                let member = &mut self.members[index];
                if member.silent {
                    continue;
                }
                for datagram in member.tick(self.now) {
                    self.transmit(index, true, &datagram);
                }
            }
        }
    }

    /// Lets time pass over a network, and then what was lost come again.
    pub(crate) fn run_over(&mut self, network: Network, ms: u64) {
        self.network = network;
        self.run(ms);
        self.network = Network::default();
        self.run(1500);
    }

    /// Changes what the link to a member carries.
    pub(crate) fn set_rate(&mut self, index: usize, rate: u64) {
        self.links.get_mut(&index).unwrap().conditions.rate = rate;
    }

    /// Returns whether a member's handshake is done.
    pub(crate) fn is_connected(&self, index: usize) -> bool {
        self.members[index].client.is_connected()
    }

    /// Returns how long after `since` the first picture of a viewer, a keyframe, was whole.
    pub(crate) fn first_picture(&self, index: usize, since: Instant) -> Option<Duration> {
        let video = &self.viewer(index).video;
        let mut numbers = video.numbers.iter();
        let (first, packet) = numbers.next()?;
        let first_packet = packet.filter(|packet| packet.starts_keyframe)?;
        let mut last = *first;
        let mut is_whole = first_packet.marker;
        while !is_whole {
            let (number, packet) = numbers.next()?;
            let packet = packet.filter(|_| *number == last + 1)?;
            (last, is_whole) = (*number, packet.marker);
        }
        let arrivals = video.arrivals.iter();
        let its = arrivals.filter(|(_, packet)| packet.timestamp == first_packet.timestamp);
        let at = its.map(|(at, _)| *at).max()?;
        Some(at - since)
    }

    pub(crate) fn viewer(&self, index: usize) -> &Viewer {
        match &self.members[index].app {
            App::Viewer(viewer) => viewer,
            App::Publisher(_) => panic!("member {index} publishes"),
        }
    }

    pub(crate) fn viewer_mut(&mut self, index: usize) -> &mut Viewer {
        match &mut self.members[index].app {
            App::Viewer(viewer) => viewer,
            App::Publisher(_) => panic!("member {index} publishes"),
        }
    }

    pub(crate) fn publisher(&mut self, index: usize) -> &mut Publisher {
        match &mut self.members[index].app {
            App::Publisher(publisher) => publisher,
            App::Viewer(_) => panic!("member {index} watches"),
        }
    }

    /// Sends an RTP packet that a member's application would not.
    pub(crate) fn send_rtp(&mut self, index: usize, packet: &[u8]) {
        let sealed = self.members[index].client.seal_rtp(packet);
        self.send_raw(index, &sealed);
    }

    /// Sends an RTCP packet that a member's application would not.
    pub(crate) fn send_rtcp(&mut self, index: usize, packet: &[u8]) {
        let sealed = self.members[index].client.seal_rtcp(packet);
        self.send_raw(index, &sealed);
    }

    /// Sends anything from a member's address, at once.
    pub(crate) fn send_raw(&mut self, index: usize, datagram: &[u8]) {
        let source = self.members[index].address;
        let shard = ShardId::of_peer(self.members[index].peer);
        self.handle(shard, source, &mut datagram.to_vec());
        self.flush();
    }

    /// Hands one of the servers a datagram.
    pub(crate) fn handle(&mut self, shard: ShardId, source: Path, datagram: &mut [u8]) {
        let is_rtp = datagram.len() > 1 && is_rtp(datagram);
        let sfu = match shard {
            HERE => &mut self.sfu,
            _ => &mut self.elsewhere,
        };
        let before = self.memory.allocations;
        self.memory
            .measure(|| sfu.handle_datagram(source, datagram, self.now));
        if is_rtp {
            self.costs.packets += 1;
            self.costs.taking += self.memory.allocations - before;
        }
    }

    /// Returns whether media arrives in the room.
    pub(crate) fn is_live(&self) -> bool {
        self.sfu.room_stats(ROOM, self.now).live
    }

    /// Returns how much was dropped for a reason.
    pub(crate) fn dropped(&self, reason: &str) -> u64 {
        let dropped = self.sfu.stats().dropped;
        let counts = dropped.iter().filter(|(r, _)| *r == reason);
        counts.map(|(_, count)| count).sum()
    }

    pub(crate) fn leave(&mut self, index: usize) {
        self.members[index].client.close(self.now);
        for datagram in self.members[index].client.poll(self.now) {
            self.transmit(index, true, &datagram);
        }
        self.members[index].silent = true;
    }

    fn deliver(&mut self) {
        while let Some(entry) = self.wire.first_entry()
            && entry.key().0 <= self.now
        {
            let mut flight = entry.remove();
            let member = &mut self.members[flight.member];
            if flight.to_server {
                let (source, shard) = (member.address, ShardId::of_peer(member.peer));
                self.handle(shard, source, &mut flight.datagram);
                self.flush();
            } else if !member.silent {
                member.receive(&flight.datagram, self.now);
            }
        }
    }

    /// Returns the server that a member is at.
    pub(crate) fn sfu_of(&mut self, index: usize) -> &mut Sfu {
        match ShardId::of_peer(self.members[index].peer) {
            HERE => &mut self.sfu,
            _ => &mut self.elsewhere,
        }
    }

    fn flush(&mut self) {
        let mut datagrams = Vec::new();
        let mut has_letters = true;
        while has_letters {
            has_letters = false;
            for sfu in [&mut self.sfu, &mut self.elsewhere] {
                let before = self.memory.allocations;
                self.memory
                    .measure(|| while sfu.flush_part(self.hold, self.now) {});
                self.costs.flushes += 1;
                self.costs.flushing += self.memory.allocations - before;
                let out = sfu.outgoing();
                datagrams.extend(out.iter().map(|(to, d)| (to, d.to_vec())));
                out.clear();
            }
            while let Some((to, message)) = self.sfu.poll_relay() {
                assert_eq!(to, ELSEWHERE);
                if !self.loses_news {
                    has_letters = true;
                    self.elsewhere.handle_relay(HERE, &message, self.now);
                }
            }
            while let Some((to, message)) = self.elsewhere.poll_relay() {
                assert_eq!(to, HERE);
                has_letters = true;
                self.sfu.handle_relay(ELSEWHERE, &message, self.now);
            }
        }
        let mut served = Vec::new();
        for (to, datagram) in datagrams {
            let mut members = self.members.iter();
            match members.position(|m| m.address == to) {
                Some(index) => {
                    if is_media(&datagram) && served.last() != Some(&index) {
                        served.push(index);
                    }
                    self.transmit(index, false, &datagram);
                }
                None => assert!(self.members.iter().any(|m| m.gone.contains(&to))),
            }
        }
        if !served.is_empty() {
            self.served.push_back(served);
        }
        if self.served.len() > SERVED {
            self.served.pop_front();
        }
        let mut events: Vec<_> = std::iter::from_fn(|| self.sfu.poll_event()).collect();
        events.extend(std::iter::from_fn(|| self.elsewhere.poll_event()));
        for event in events {
            match &event {
                Event::Published {
                    peer, publication, ..
                } => self.published.push((*publication, *peer)),
                Event::Stage {
                    video,
                    audio,
                    program,
                    ..
                } => self.stage = Some((video.clone(), audio.clone(), *program)),
                _ => {}
            }
            self.events.push(event);
        }
        self.tapped
            .extend(std::iter::from_fn(|| self.sfu.poll_tap()));
    }

    fn transmit(&mut self, member: usize, to_server: bool, datagram: &[u8]) {
        if !to_server
            && is_rtp(datagram)
            && let App::Viewer(viewer) = &mut self.members[member].app
        {
            viewer.note_sent(datagram);
        }
        let is_report = to_server && is_rtcp(datagram) && self.links.contains_key(&member);
        if is_report && self.reports_lost > 0 && self.next_random() % 1000 < self.reports_lost {
            return;
        }
        let link = self.links.get_mut(&member).filter(|_| !to_server);
        if let Some(link) = link {
            for at in link.send(datagram.len() + 28, self.now) {
                self.fly(member, to_server, datagram, at);
            }
            return;
        }
        let uplink = self.uplinks.get(&member).filter(|_| to_server);
        if let Some(network) = uplink.filter(|_| is_rtp(datagram) && !is_repair(datagram)) {
            let draw = |salt: u64| {
                let mixed = datagram[2..12].iter().fold(salt, |sum, byte| {
                    (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
                });
                mixed >> 24
            };
            let at = self.now + self.delay + ms(draw(1) % (network.jitter + 1));
            if draw(2) % 100 >= network.loss {
                self.fly(member, to_server, datagram, at);
            }
            return;
        }
        let is_rewritten = self.patience.is_some() || self.has_long_hellos;
        if to_server && is_rewritten && is_handshake(datagram) {
            self.shake_hands(member, datagram);
            return;
        }
        let network = if is_media(datagram) {
            self.network
        } else {
            Network::default()
        };
        let copies = 1 + u64::from(self.chance(network.duplicate));
        for _ in 0..copies {
            if self.chance(network.loss) {
                continue;
            }
            let jitter = self.next_random() % (network.jitter + 1);
            let at = self.now + self.delay + Duration::from_millis(jitter);
            self.fly(member, to_server, datagram, at);
        }
    }

    fn shake_hands(&mut self, member: usize, datagram: &[u8]) {
        let at = self.now + self.delay;
        let again = self.patience.map(|patience| at + patience);
        for (at, copy) in [at].into_iter().chain(again).zip(0..) {
            for datagram in handshake::datagrams(datagram, self.has_long_hellos, copy) {
                self.fly(member, true, &datagram, at);
            }
        }
    }

    fn fly(&mut self, member: usize, to_server: bool, datagram: &[u8], at: Instant) {
        self.flights += 1;
        let flight = Flight {
            member,
            to_server,
            datagram: datagram.to_vec(),
        };
        self.wire.insert((at, self.flights), flight);
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.next_random() % 100 < percent
    }

    pub(crate) fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 8
    }
}
