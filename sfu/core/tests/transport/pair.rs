//! A client, a server and the wire between them.

use std::{
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use sfu_core::{
    Outgoing, Path,
    transport::{IceCredentials, Offer, PacketError, Shared, Transport, TransportEvent},
};

use crate::support::{client::Client, memory::Memory};

pub(crate) const UFRAG: &str = "core";
pub(crate) const PWD: &str = "abcdefghijklmnopqrstuvwxyz";
const MID: &str = "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n";

/// A client, a server and the wire between them.
pub(crate) struct Pair {
    pub(crate) client: Client,
    pub(crate) shared: Rc<Shared>,
    pub(crate) server: Transport,
    pub(crate) out: Outgoing,
    pub(crate) now: Instant,
    /// Where the server sent something, in order, repetitions left out; STUN excepted.
    pub(crate) sent_to: Vec<Path>,
    /// What the server allocated since it was made.
    pub(crate) memory: Memory,
}

impl Pair {
    pub(crate) fn new(profiles: &[SrtpProtectionProfile]) -> Self {
        let client = Client::new(profiles);
        let offer = client.offer(&media());
        Self::with_offer(client, &offer)
    }

    /// A pair whose server was offered something, by the client or by somebody else.
    pub(crate) fn with_offer(client: Client, offer: &str) -> Self {
        let shared = Rc::new(Shared::new(&[address(9).remote]));
        Self::at(shared, client, offer)
    }

    fn at(shared: Rc<Shared>, client: Client, offer: &str) -> Self {
        let now = Instant::now();
        let offer = Offer::parse(offer).unwrap();
        let extensions = offer.media[0].extensions;
        let server = Transport::new(&shared, credentials(), &offer, extensions, now);
        Self {
            client,
            shared,
            server,
            out: Outgoing::default(),
            now,
            sent_to: Vec::new(),
            memory: Memory::default(),
        }
    }

    pub(crate) fn connected(profiles: &[SrtpProtectionProfile]) -> Self {
        let mut pair = Self::new(profiles);
        pair.connect();
        pair
    }

    /// Another client of the same server.
    pub(crate) fn beside(&self, profiles: &[SrtpProtectionProfile]) -> Self {
        let client = Client::new(profiles);
        let offer = client.offer(&media());
        let mut pair = Self::at(Rc::clone(&self.shared), client, &offer);
        pair.connect();
        pair
    }

    fn connect(&mut self) {
        self.check(1, true);
        self.client.connect(self.now);
        self.run(Duration::from_secs(1), |_| true);
        assert!(self.client.is_connected() && self.server.is_connected());
    }

    /// Sends a check from a port; returns whether it was answered.
    pub(crate) fn check(&mut self, port: u16, nominate: bool) -> bool {
        let datagram = self.client.check(UFRAG, PWD, nominate);
        self.server
            .handle_stun(
                &self.shared,
                address(port),
                &datagram,
                self.now,
                &mut self.out,
            )
            .unwrap();
        let answered = self
            .out
            .iter()
            .any(|(to, answer)| to == address(port) && answer[..2] == [1, 1]);
        self.out.clear();
        answered
    }

    /// Lets time pass in steps of 10 ms; `keep` decides which datagrams arrive.
    pub(crate) fn run(&mut self, time: Duration, mut keep: impl FnMut(&[u8]) -> bool) {
        let end = self.now + time;
        while self.now < end {
            for (to, datagram) in self.out.iter() {
                if self.sent_to.last() != Some(&to) {
                    self.sent_to.push(to);
                }
                if keep(datagram) {
                    self.client.handle_dtls(datagram, self.now);
                }
            }
            self.out.clear();
            for datagram in self.client.poll(self.now) {
                if keep(&datagram) {
                    let _ = self.send_to_server(&datagram);
                }
            }
            self.now += Duration::from_millis(10);
            self.client.handle_timeout(self.now);
            if self
                .server
                .poll_timeout()
                .is_some_and(|due| due <= self.now)
            {
                let (server, out) = (&mut self.server, &mut self.out);
                self.memory.measure(|| server.handle_timeout(self.now, out));
            }
            let due = self.server.poll_timeout();
            assert!(due.is_none_or(|due| due > self.now), "due for ever");
        }
    }

    /// Hands the server a DTLS datagram.
    pub(crate) fn send_to_server(&mut self, datagram: &[u8]) -> Result<(), PacketError> {
        let (server, out) = (&mut self.server, &mut self.out);
        self.memory
            .measure(|| server.handle_dtls(&self.shared, datagram, self.now, out))
    }

    pub(crate) fn events(&mut self) -> Vec<TransportEvent> {
        std::iter::from_fn(|| self.server.poll_event()).collect()
    }

    pub(crate) fn send(&mut self, label: &str, payload: &'static [u8]) -> bool {
        self.server
            .send_message(label, &Bytes::from_static(payload), self.now, &mut self.out)
    }
}

pub(crate) fn media() -> String {
    format!("m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:v\r\na=rtpmap:96 VP8/90000\r\n{MID}")
}

fn credentials() -> IceCredentials {
    IceCredentials {
        ufrag: UFRAG.to_owned(),
        pwd: PWD.to_owned(),
    }
}

pub(crate) fn address(port: u16) -> Path {
    SocketAddr::from(([192, 0, 2, 1], port)).into()
}
