//! A client of the server and what it does.

use std::time::{Duration, Instant};

use sfu_core::{Path, PeerId};

use super::{publisher::Publisher, viewer::Viewer};
use crate::support::client::Client;

/// A client and what it does.
pub(crate) struct Member {
    pub(crate) peer: PeerId,
    pub(crate) app: App,
    /// Whether it has vanished without a word.
    pub(crate) silent: bool,
    /// Whether its checks nominate.
    pub(crate) nominates: bool,
    /// The server's username fragment and password.
    pub(crate) credentials: (String, String),
    pub(super) client: Client,
    pub(super) address: Path,
    /// Addresses that it had before: nothing reaches it there.
    pub(super) gone: Vec<Path>,
    pub(super) next_check: Instant,
    pub(super) started: bool,
}

pub(crate) enum App {
    Publisher(Box<Publisher>),
    Viewer(Box<Viewer>),
}

impl Member {
    pub(super) fn tick(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let mut datagrams = Vec::new();
        if now >= self.next_check {
            let (ufrag, pwd) = &self.credentials;
            datagrams.push(self.client.check(ufrag, pwd, self.nominates));
            self.next_check = now + Duration::from_secs(4);
            if !self.started {
                self.started = true;
                self.client.connect(now);
            }
        }
        datagrams.extend(self.client.poll(now));
        if self.client.is_connected() && !self.client.is_closed {
            let (rtp, rtcp) = match &mut self.app {
                App::Publisher(publisher) => publisher.tick(now),
                App::Viewer(viewer) => (Vec::new(), viewer.tick(now)),
            };
            datagrams.extend(rtp.iter().map(|packet| self.client.seal_rtp(packet)));
            datagrams.extend(rtcp.iter().map(|packet| self.client.seal_rtcp(packet)));
        }
        datagrams
    }

    pub(super) fn receive(&mut self, datagram: &[u8], now: Instant) {
        match datagram[0] {
            20..=63 => self.client.handle_dtls(datagram, now),
            128..=191 if self.client.is_connected() => {
                if (192..224).contains(&datagram[1]) {
                    let packet = self.client.open_rtcp(datagram);
                    match &mut self.app {
                        App::Publisher(publisher) => publisher.handle_rtcp(&packet, now),
                        App::Viewer(viewer) => viewer.handle_rtcp(&packet, now),
                    }
                } else if let App::Viewer(viewer) = &mut self.app {
                    viewer.handle_rtp(&self.client.open_rtp(datagram), now);
                }
            }
            _ => {}
        }
    }
}
