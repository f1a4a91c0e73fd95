//! Publishers and viewers of one server: who joins, who leaves, and where they do it.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Instant};

use anyhow::Context;
use url::Url;

use crate::{
    client::{Identity, Offer},
    crowd::Crowd,
    http::{Http, Session},
    peer::Peer,
    publisher::Publisher,
    sent_frames::SentFrames,
    socket::wall_clock,
    viewer::Viewer,
};

/// Where to join, and how.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Where to publish: each publisher at the next one.
    pub(crate) whip: Vec<Url>,
    /// Where to watch: each viewer at the next one.
    pub(crate) whep: Vec<Url>,
    /// Whether viewers offer transport-wide feedback.
    pub(crate) transport_cc: bool,
    /// Whether viewers ask for a data channel.
    pub(crate) channel: bool,
}

/// Bearer tokens. Viewers with a publisher's token would be that very participant, who does not get back what
/// it publishes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tokens {
    /// For WHIP.
    pub(crate) publisher: Option<String>,
    /// For WHEP.
    pub(crate) viewer: Option<String>,
}

/// Everybody at a place.
pub(crate) struct Audience {
    place: Place,
    identity: Arc<Identity>,
    publishing: Http,
    watching: Http,
    sent_frames: Arc<SentFrames>,
    /// The viewers.
    pub(crate) crowd: Arc<Crowd>,
    /// The publishers.
    pub(crate) publishers: Vec<Publisher>,
    /// Sessions of publishers and of viewers, the oldest first.
    published: Vec<Session>,
    sessions: VecDeque<(u64, Session)>,
    next_id: u64,
    /// Where the server receives media, as told to the last publisher.
    pub(crate) media: Option<SocketAddr>,
}

/// A viewer on its way in.
pub(crate) struct Arriving {
    id: u64,
    whep: Url,
    offer: Offer,
    identity: Arc<Identity>,
    http: Http,
    sent_frames: Arc<SentFrames>,
    crowd: Arc<Crowd>,
}

impl Audience {
    /// Creates an empty audience, with the tokens of publishers and of viewers.
    ///
    /// # Errors
    /// When there is no certificate or no HTTP.
    pub(crate) fn new(place: Place, tokens: Tokens, crowd: Crowd) -> anyhow::Result<Self> {
        Ok(Self {
            place,
            identity: Identity::new()?,
            publishing: Http::new(tokens.publisher)?,
            watching: Http::new(tokens.viewer)?,
            sent_frames: Arc::new(SentFrames::new()),
            crowd: Arc::new(crowd),
            publishers: Vec::new(),
            published: Vec::new(),
            sessions: VecDeque::new(),
            next_id: 0,
            media: None,
        })
    }

    /// Adds a publisher that sends nothing yet.
    ///
    /// # Errors
    /// When it is refused or does not connect.
    pub(crate) async fn publish(&mut self) -> anyhow::Result<&Publisher> {
        let index = u32::try_from(self.publishers.len()).context("number the publisher")?;
        let places = self.place.whip.iter().cycle();
        let whip = places
            .clone()
            .nth(self.publishers.len())
            .context("no address to publish at")?;
        let (mut peer, offer) = Peer::new(&self.identity, Publisher::offer(index))?;
        let session = self.publishing.post(whip, offer).await.context("publish")?;
        peer.accept(&session.sdp, Instant::now())?;
        self.media = peer.answer.candidates.first().copied();
        self.published.push(session);
        let publisher = Publisher::start(peer, index, Arc::clone(&self.sent_frames))?;
        self.publishers.push(publisher);
        self.publishers.last().context("it was added")
    }

    /// Prepares a viewer.
    ///
    /// # Errors
    /// When there is nowhere to watch.
    pub(crate) fn arriving(&mut self) -> anyhow::Result<Arriving> {
        let id = self.next_id;
        self.next_id += 1;
        let place = usize::try_from(id)? % self.place.whep.len().max(1);
        Ok(Arriving {
            id,
            whep: self
                .place
                .whep
                .get(place)
                .context("no address to watch at")?
                .clone(),
            offer: Offer {
                publishes: None,
                transport_cc: self.place.transport_cc,
                channel: self.place.channel,
            },
            identity: Arc::clone(&self.identity),
            http: self.watching.clone(),
            sent_frames: Arc::clone(&self.sent_frames),
            crowd: Arc::clone(&self.crowd),
        })
    }

    /// Notes that a viewer has joined.
    pub(crate) fn joined(&mut self, joined: (u64, Session)) {
        self.sessions.push_back(joined);
    }

    /// Lets the viewer leave that has been there longest. Returns its farewell to the server.
    pub(crate) fn leave(&mut self) -> Option<impl Future<Output = anyhow::Result<()>> + use<>> {
        let (id, session) = self.sessions.pop_front()?;
        let (http, crowd) = (self.watching.clone(), Arc::clone(&self.crowd));
        Some(async move {
            crowd.expect_end(id);
            let ended = http.end(&session).await;
            crowd.leave(id);
            ended
        })
    }

    /// Returns how many keyframe requests reached the publishers so far.
    pub(crate) fn keyframe_requests(&self) -> u64 {
        self.publishers
            .iter()
            .map(Publisher::keyframe_requests)
            .sum()
    }

    /// Ends the sessions of the publishers.
    pub(crate) async fn unpublish(&mut self) {
        self.publishers.clear();
        for session in self.published.drain(..) {
            // The server may have ended it first.
            let _ = self.publishing.end(&session).await;
        }
    }
}

impl Arriving {
    /// Joins. Its media goes on in the crowd.
    ///
    /// # Errors
    /// When it is refused.
    pub(crate) async fn join(self) -> anyhow::Result<(u64, Session)> {
        let (mut peer, offer) = Peer::new(&self.identity, self.offer)?;
        let posted = wall_clock();
        let session = self.http.post(&self.whep, offer).await?;
        peer.accept(&session.sdp, Instant::now())?;
        self.crowd
            .admit(Viewer::new(self.id, peer, posted, self.sent_frames))?;
        Ok((self.id, session))
    }
}
