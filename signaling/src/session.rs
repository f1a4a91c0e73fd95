//! One WebSocket session: what its messages mean and when it ends. Pure: input and time in, actions out.

use std::time::{Duration, Instant};

use sfu::{PeerId, Role};

use crate::{
    Problem,
    auth::{Grant, Member},
    protocol::{ClientMessage, ErrorCode, MediaRole, ServerMessage, close_code},
    service::MediaOffer,
};

/// The state of one session.
#[derive(Debug)]
pub(crate) struct Session {
    state: State,
    heard_at: Instant,
    ping_at: Instant,
    bad_messages: u32,
}

#[derive(Debug)]
enum State {
    /// Nothing was said yet.
    Arrived { deadline: Instant },
    /// The token is being looked at.
    Admitting,
    /// In the room.
    Joined { member: Member, media: Media },
    /// Told to close.
    Closed,
}

/// The media connections of a session.
#[derive(Debug, Default)]
struct Media {
    publish: Option<PeerId>,
    watch: Option<PeerId>,
}

impl Media {
    fn of(&mut self, role: MediaRole) -> &mut Option<PeerId> {
        match role {
            MediaRole::Publish => &mut self.publish,
            MediaRole::Watch => &mut self.watch,
        }
    }
}

/// Why a socket's bytes were no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BrokenFrame {
    /// Longer than the limit.
    TooLong,
    /// A text that is not UTF-8.
    NotUtf8,
}

/// What the driver of a session is to do, in order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Send this.
    Send(ServerMessage),
    /// Find out who this is, then call [`Session::handle_admission`].
    Admit {
        token: Option<String>,
        name: Option<String>,
    },
    /// Enter the room and send `joined`.
    Enter(Member),
    /// Offer this to the SFU, then call [`Session::handle_negotiated`].
    Negotiate(MediaOffer),
    /// Close this peer: the session is done with it.
    ClosePeer(PeerId),
    /// Close this peer: its participant is, and a broadcast of theirs is over.
    Stop(PeerId),
    /// The participant is done, whose publishing peer is gone already.
    Finish,
    /// Pause or go on.
    SetPaused(bool),
    /// Begin a new ICE session of this peer, and send what comes of it.
    RestartIce {
        media: MediaRole,
        peer: Option<PeerId>,
        fragment: String,
    },
    /// Limit the layers that this peer receives.
    Limit(PeerId, Option<u8>),
    /// Note what the picture is: how high its layers are, and whether it is a screen.
    SetLayers { heights: Vec<u32>, screen: bool },
    /// Send a ping frame.
    Ping,
    /// Send what is waiting, then close the socket.
    Close { code: u16, reason: &'static str },
}

impl Session {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            state: State::Arrived {
                deadline: now + JOIN_WITHIN,
            },
            heard_at: now,
            ping_at: now + PING_EVERY,
            bad_messages: 0,
        }
    }

    /// Takes a text message.
    pub(crate) fn handle_text(&mut self, text: &str, now: Instant) -> Vec<Action> {
        self.heard_at = now;
        match serde_json::from_str::<ClientMessage>(text) {
            Ok(message) => self.handle_message(message),
            Err(error) => {
                self.refuse_message(format!("This message cannot be understood: {error}."))
            }
        }
    }

    /// Takes a message that is not text.
    pub(crate) fn handle_binary(&mut self, now: Instant) -> Vec<Action> {
        self.heard_at = now;
        self.refuse_message("Messages are JSON texts.".to_owned())
    }

    /// Takes bytes that cannot be read as a message, after which nothing else can be read either.
    pub(crate) fn handle_broken(&mut self, broken: BrokenFrame) -> Vec<Action> {
        if self.is_closed() {
            return Vec::new();
        }
        self.state = State::Closed;
        let (problem, close) = match broken {
            BrokenFrame::TooLong => (
                Problem::new(ErrorCode::BodyTooLarge, "This message is too long."),
                Action::Close {
                    code: close_code::TOO_LONG,
                    reason: "message too long",
                },
            ),
            BrokenFrame::NotUtf8 => (
                Problem::new(ErrorCode::BadMessage, "This message is not UTF-8 text."),
                Action::Close {
                    code: close_code::NOT_UTF8,
                    reason: "message is not UTF-8",
                },
            ),
        };
        vec![error(problem), close]
    }

    /// Takes a ping or pong frame.
    pub(crate) fn handle_sign_of_life(&mut self, now: Instant) {
        self.heard_at = now;
    }

    /// Takes the answer to [`Action::Admit`].
    pub(crate) fn handle_admission(&mut self, admission: Result<Member, Problem>) -> Vec<Action> {
        match admission {
            Ok(member) => {
                self.state = State::Joined {
                    member: member.clone(),
                    media: Media::default(),
                };
                vec![Action::Enter(member)]
            }
            Err(problem) => {
                self.state = State::Closed;
                let (code, reason) = closing(problem.code);
                vec![error(problem), Action::Close { code, reason }]
            }
        }
    }

    /// Notes that a peer which outlived an earlier session of this member is this session's.
    pub(crate) fn adopt(&mut self, role: Role, peer: PeerId) {
        if let State::Joined { media, .. } = &mut self.state {
            *media.of(media_role(role)) = Some(peer);
        }
    }

    /// Takes the answer to [`Action::Negotiate`].
    pub(crate) fn handle_negotiated(
        &mut self,
        role: Role,
        outcome: Result<(PeerId, String), Problem>,
    ) -> Vec<Action> {
        let State::Joined { media, .. } = &mut self.state else {
            return Vec::new();
        };
        match outcome {
            Ok((peer, sdp)) => {
                let before = media.of(media_role(role)).replace(peer);
                let answer = Action::Send(ServerMessage::Answer { sdp });
                // A publisher goes on until the SFU has connected its successor: viewers see a cut only.
                let old = before
                    .filter(|_| role == Role::Viewer)
                    .map(Action::ClosePeer);
                std::iter::once(answer).chain(old).collect()
            }
            Err(problem) => vec![error(problem)],
        }
    }

    /// Takes the end of one of this session's peers.
    pub(crate) fn handle_media_closed(&mut self, peer: PeerId, reason: &str) -> Vec<Action> {
        let State::Joined { media, .. } = &mut self.state else {
            return Vec::new();
        };
        for role in MEDIA {
            if *media.of(role) == Some(peer) {
                *media.of(role) = None;
                let message = ServerMessage::MediaClosed {
                    media: role,
                    reason: reason.to_owned(),
                };
                return vec![Action::Send(message)];
            }
        }
        Vec::new()
    }

    /// Does what is due at [`Session::poll_timeout`].
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Vec<Action> {
        let late = match self.state {
            State::Arrived { deadline } => now >= deadline,
            State::Admitting | State::Joined { .. } => now >= self.heard_at + SILENCE,
            State::Closed => false,
        };
        if late {
            self.state = State::Closed;
            return vec![Action::Close {
                code: close_code::SILENT,
                reason: "silent",
            }];
        }
        if now >= self.ping_at {
            self.ping_at = now + PING_EVERY;
            if !self.is_closed() {
                return vec![Action::Ping];
            }
        }
        Vec::new()
    }

    /// Returns whether the session has ended by its own decision.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Returns when [`Session::handle_timeout`] wants to be called.
    pub(crate) fn poll_timeout(&self) -> Instant {
        let end = match self.state {
            State::Arrived { deadline } => deadline,
            State::Admitting | State::Joined { .. } => self.heard_at + SILENCE,
            State::Closed => self.ping_at,
        };
        end.min(self.ping_at)
    }

    fn handle_message(&mut self, message: ClientMessage) -> Vec<Action> {
        match (message, &mut self.state) {
            (_, State::Closed | State::Admitting) => Vec::new(),
            (ClientMessage::Ping {}, _) => vec![Action::Send(ServerMessage::Pong {})],
            (ClientMessage::Join { token, name }, State::Arrived { .. }) => {
                self.state = State::Admitting;
                vec![Action::Admit { token, name }]
            }
            (_, State::Arrived { .. }) => {
                self.refuse_message("The first message is join.".to_owned())
            }
            (ClientMessage::Join { .. }, State::Joined { .. }) => {
                self.refuse_message("This session has joined already.".to_owned())
            }
            (ClientMessage::Publish { sdp }, State::Joined { member, .. }) => {
                let (role, own) = (Role::Publisher, false);
                negotiate(member, MediaOffer { role, sdp, own })
            }
            (ClientMessage::Watch { sdp, own }, State::Joined { member, .. }) => {
                let role = Role::Viewer;
                negotiate(member, MediaOffer { role, sdp, own })
            }
            // Not needed: the server learns addresses from checks (ICE-lite).
            (ClientMessage::Candidate { .. }, State::Joined { .. }) => Vec::new(),
            (ClientMessage::SetPaused { paused }, State::Joined { .. }) => {
                vec![Action::SetPaused(paused)]
            }
            (ClientMessage::RestartIce { media, fragment }, State::Joined { media: has, .. }) => {
                let peer = *has.of(media);
                vec![Action::RestartIce {
                    media,
                    peer,
                    fragment,
                }]
            }
            (ClientMessage::Limit { layer }, State::Joined { media, .. }) => media
                .watch
                .map(|peer| Action::Limit(peer, layer))
                .into_iter()
                .collect(),
            (ClientMessage::Layers { heights, screen }, State::Joined { .. }) => {
                vec![Action::SetLayers { heights, screen }]
            }
            (ClientMessage::Stop { media: which }, State::Joined { media, .. }) => MEDIA
                .into_iter()
                .filter(|role| which.is_none_or(|which| which == *role))
                .filter_map(|role| match (media.of(role).take(), role) {
                    (Some(peer), _) => Some(Action::Stop(peer)),
                    // Its goodbye over UDP was faster.
                    (None, MediaRole::Publish) => Some(Action::Finish),
                    (None, MediaRole::Watch) => None,
                })
                .collect(),
        }
    }

    fn refuse_message(&mut self, message: String) -> Vec<Action> {
        if matches!(self.state, State::Closed) {
            return Vec::new();
        }
        self.bad_messages += 1;
        let refusal = error(Problem::new(ErrorCode::BadMessage, message));
        if self.bad_messages < BAD_MESSAGES {
            return vec![refusal];
        }
        self.state = State::Closed;
        let close = Action::Close {
            code: close_code::BAD_MESSAGES,
            reason: "bad messages",
        };
        vec![refusal, close]
    }
}

fn negotiate(member: &Member, offer: MediaOffer) -> Vec<Action> {
    let grant = match offer.role {
        Role::Publisher => Grant::Stage,
        Role::Viewer => Grant::Subscribe,
    };
    match member.allow(grant) {
        Ok(()) => vec![Action::Negotiate(offer)],
        Err(problem) => vec![error(problem)],
    }
}

fn media_role(role: Role) -> MediaRole {
    match role {
        Role::Publisher => MediaRole::Publish,
        Role::Viewer => MediaRole::Watch,
    }
}

fn error(problem: Problem) -> Action {
    Action::Send(ServerMessage::Error {
        code: problem.code,
        message: problem.detail,
    })
}

/// How a socket is closed after a refused join.
fn closing(code: ErrorCode) -> (u16, &'static str) {
    if matches!(
        code,
        ErrorCode::TokenMissing | ErrorCode::TokenInvalid | ErrorCode::TokenExpired
    ) {
        (close_code::TOKEN, "token")
    } else if matches!(code, ErrorCode::RoomUnknown | ErrorCode::RoomNameInvalid) {
        (close_code::ROOM_UNKNOWN, "room unknown")
    } else if matches!(code, ErrorCode::ServerFull | ErrorCode::Internal) {
        (close_code::SERVER_FULL, "try again later")
    } else {
        (close_code::NOT_ALLOWED, "not allowed")
    }
}

const MEDIA: [MediaRole; 2] = [MediaRole::Publish, MediaRole::Watch];
const JOIN_WITHIN: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(45);
const PING_EVERY: Duration = Duration::from_secs(20);
const BAD_MESSAGES: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Grants;

    #[test]
    fn join_is_admitted_and_entered() {
        let (mut session, t0) = arrived();
        let actions = session.handle_text(r#"{"type":"join","token":"t","name":"Ann"}"#, t0);
        let admit = Action::Admit {
            token: Some("t".into()),
            name: Some("Ann".into()),
        };
        assert_eq!(actions, [admit]);
        assert_eq!(
            session.handle_admission(Ok(member(true))),
            [Action::Enter(member(true))]
        );
    }

    #[test]
    fn refused_join_closes_with_the_codes_reason() {
        for (code, expected) in [
            (ErrorCode::TokenExpired, close_code::TOKEN),
            (ErrorCode::TokenInvalid, close_code::TOKEN),
            (ErrorCode::TokenWrongRoom, close_code::NOT_ALLOWED),
            (ErrorCode::RoomUnknown, close_code::ROOM_UNKNOWN),
            (ErrorCode::RoomNameInvalid, close_code::ROOM_UNKNOWN),
            (ErrorCode::ServerFull, close_code::SERVER_FULL),
        ] {
            let (mut session, t0) = arrived();
            session.handle_text(r#"{"type":"join"}"#, t0);
            let actions = session.handle_admission(Err(Problem::new(code, "no")));
            assert_eq!(error_code(&actions), Some(code));
            assert_eq!(close_code_of(&actions), Some(expected), "{code:?}");
            assert!(
                session.handle_text(r#"{"type":"ping"}"#, t0).is_empty(),
                "{code:?}"
            );
        }
    }

    #[test]
    fn messages_out_of_place_are_refused_and_counted() {
        let rows = [
            "",
            "{",
            "null",
            "[]",
            r#"{"type":"dance"}"#,
            r#"{"type":"publish","sdp":"x"}"#,
            r#"{"type":"join","token":5}"#,
            r#"{"type":"join","extra":1}"#,
            r#"{"sdp":"x"}"#,
        ];
        let (mut session, t0) = arrived();
        for text in rows {
            let actions = session.handle_text(text, t0);
            assert_eq!(error_code(&actions), Some(ErrorCode::BadMessage), "{text}");
            assert_eq!(close_code_of(&actions), None, "{text}");
        }
        let actions = session.handle_binary(t0);
        assert_eq!(error_code(&actions), Some(ErrorCode::BadMessage));
        assert_eq!(
            close_code_of(&actions),
            Some(close_code::BAD_MESSAGES),
            "the tenth"
        );
    }

    #[test]
    fn bad_message_does_not_end_a_joined_session() {
        let (mut session, t0) = joined(true);
        assert_eq!(
            error_code(&session.handle_text("{", t0)),
            Some(ErrorCode::BadMessage)
        );
        assert_eq!(
            error_code(&session.handle_text(JOIN, t0)),
            Some(ErrorCode::BadMessage)
        );
        let pong = [Action::Send(ServerMessage::Pong {})];
        assert_eq!(session.handle_text(r#"{"type":"ping"}"#, t0), pong);
    }

    #[test]
    fn offers_need_their_grant() {
        let rows = [
            (true, r#"{"type":"publish","sdp":"x"}"#, Ok(Role::Publisher)),
            (true, r#"{"type":"watch","sdp":"x"}"#, Ok(Role::Viewer)),
            (
                false,
                r#"{"type":"publish","sdp":"x"}"#,
                Err(ErrorCode::NotAllowed),
            ),
            (false, r#"{"type":"watch","sdp":"x"}"#, Ok(Role::Viewer)),
            (
                true,
                r#"{"type":"watch","sdp":"x","own":true}"#,
                Ok(Role::Viewer),
            ),
        ];
        for (publish, text, expected) in rows {
            let (mut session, t0) = joined(publish);
            let actions = session.handle_text(text, t0);
            match expected {
                Ok(role) => assert_eq!(
                    actions,
                    [Action::Negotiate(MediaOffer {
                        role,
                        sdp: "x".into(),
                        own: text.contains("own"),
                    })]
                ),
                Err(code) => assert_eq!(error_code(&actions), Some(code)),
            }
        }
    }

    #[test]
    fn viewers_old_peer_is_closed_and_a_publishers_is_left_to_the_takeover() {
        for (role, expected) in [
            (Role::Viewer, Some(Action::ClosePeer(PeerId(1)))),
            (Role::Publisher, None),
        ] {
            let (mut session, _) = joined(true);
            session.handle_negotiated(role, Ok((PeerId(1), "a".into())));
            let actions = session.handle_negotiated(role, Ok((PeerId(2), "b".into())));
            assert_eq!(
                actions[0],
                Action::Send(ServerMessage::Answer { sdp: "b".into() })
            );
            assert_eq!(actions.get(1), expected.as_ref());
            let closed = session.handle_media_closed(PeerId(1), "replaced");
            assert!(closed.is_empty(), "the page knows: it offered anew");
        }
    }

    #[test]
    fn end_of_the_present_peer_is_told_once() {
        let (mut session, t0) = joined(true);
        session.handle_negotiated(Role::Publisher, Ok((PeerId(1), "a".into())));
        let told = session.handle_media_closed(PeerId(1), "consent_expired");
        let message = ServerMessage::MediaClosed {
            media: MediaRole::Publish,
            reason: "consent_expired".to_owned(),
        };
        assert_eq!(told, [Action::Send(message)]);
        assert!(session.handle_media_closed(PeerId(1), "left").is_empty());
        let stop = session.handle_text(r#"{"type":"stop"}"#, t0);
        assert_eq!(stop, [Action::Finish], "no peer to stop");
    }

    #[test]
    fn stop_closes_the_peer_without_telling_again() {
        let (mut session, t0) = joined(true);
        session.adopt(Role::Publisher, PeerId(7));
        let actions = session.handle_text(r#"{"type":"stop"}"#, t0);
        assert_eq!(actions, [Action::Stop(PeerId(7))]);
        assert!(
            session
                .handle_media_closed(PeerId(7), "requested")
                .is_empty()
        );
    }

    #[test]
    fn publishing_and_watching_have_a_peer_each() {
        let (mut session, t0) = joined(true);
        session.handle_negotiated(Role::Publisher, Ok((PeerId(1), "a".into())));
        let actions = session.handle_negotiated(Role::Viewer, Ok((PeerId(2), "b".into())));
        assert_eq!(actions.len(), 1, "nothing is closed: {actions:?}");
        let stop = session.handle_text(r#"{"type":"stop","media":"publish"}"#, t0);
        assert_eq!(stop, [Action::Stop(PeerId(1))]);
        let told = session.handle_media_closed(PeerId(2), "left");
        let message = ServerMessage::MediaClosed {
            media: MediaRole::Watch,
            reason: "left".to_owned(),
        };
        assert_eq!(told, [Action::Send(message)]);
    }

    #[test]
    fn picture_is_a_screen_only_if_the_page_says_so() {
        let (mut session, t0) = joined(true);
        for (text, screen) in [
            (r#"{"type":"layers","heights":[720]}"#, false),
            (r#"{"type":"layers","heights":[720],"screen":false}"#, false),
            (r#"{"type":"layers","heights":[720],"screen":true}"#, true),
        ] {
            let heights = vec![720];
            let expected = [Action::SetLayers { heights, screen }];
            assert_eq!(session.handle_text(text, t0), expected, "{text}");
        }
    }

    #[test]
    fn broken_frames_are_answered_and_closed_once() {
        for (broken, expected) in [
            (BrokenFrame::TooLong, close_code::TOO_LONG),
            (BrokenFrame::NotUtf8, close_code::NOT_UTF8),
        ] {
            let (mut session, _) = joined(true);
            let actions = session.handle_broken(broken);
            assert!(error_code(&actions).is_some());
            assert_eq!(close_code_of(&actions), Some(expected));
            assert_eq!(session.handle_broken(broken), []);
        }
    }

    #[test]
    fn silence_is_pinged_then_closed() {
        let (mut session, t0) = joined(false);
        assert_eq!(session.poll_timeout(), t0 + PING_EVERY);
        assert_eq!(session.handle_timeout(t0 + PING_EVERY), [Action::Ping]);
        session.handle_sign_of_life(t0 + PING_EVERY);
        assert_eq!(session.handle_timeout(t0 + SILENCE), [Action::Ping]);
        let end = t0 + PING_EVERY + SILENCE;
        assert_eq!(session.poll_timeout(), end);
        assert_eq!(
            close_code_of(&session.handle_timeout(end)),
            Some(close_code::SILENT)
        );
        while session.poll_timeout() <= end {
            assert_eq!(session.handle_timeout(end), [], "nothing follows the end");
        }
    }

    #[test]
    fn who_does_not_join_is_closed() {
        let (mut session, t0) = arrived();
        session.handle_sign_of_life(t0 + JOIN_WITHIN / 2);
        assert_eq!(session.poll_timeout(), t0 + JOIN_WITHIN);
        let actions = session.handle_timeout(t0 + JOIN_WITHIN);
        assert_eq!(close_code_of(&actions), Some(close_code::SILENT));
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics_or_outlives_the_end(texts in proptest::collection::vec(input(), 0..40)) {
            let (mut session, t0) = arrived();
            for text in texts {
                let closed = session.is_closed();
                let actions = session.handle_text(&text, t0);
                assert!(!closed || actions.is_empty(), "{actions:?} after the end");
                for action in actions {
                    match action {
                        Action::Admit { .. } => drop(session.handle_admission(Ok(member(true)))),
                        Action::Negotiate(MediaOffer { role, .. }) => {
                            drop(session.handle_negotiated(role, Ok((PeerId(1), String::new()))));
                        }
                        Action::Send(_) | Action::Enter(_) | Action::ClosePeer(_) | Action::Stop(_) => {}
                        Action::SetPaused(_) | Action::SetLayers { .. } | Action::Finish | Action::Limit(..) | Action::RestartIce { .. } => {}
                        Action::Ping | Action::Close { .. } => {}
                    }
                }
            }
        }
    }

    fn input() -> impl proptest::strategy::Strategy<Value = String> {
        proptest::prop_oneof![
            ".*",
            r#"\{"type":"(join|publish|watch|stop|ping|set_paused|candidate|x)"\}"#,
            r#"\{"type":"(publish|watch)","sdp":"[a-z]{0,4}"\}"#,
            r#"\{"type":"set_paused","paused":(true|false|1)\}"#,
        ]
    }

    const JOIN: &str = r#"{"type":"join"}"#;

    fn arrived() -> (Session, Instant) {
        let t0 = Instant::now();
        (Session::new(t0), t0)
    }

    fn joined(publish: bool) -> (Session, Instant) {
        let (mut session, t0) = arrived();
        session.handle_text(JOIN, t0);
        session.handle_admission(Ok(member(publish)));
        (session, t0)
    }

    fn member(publish: bool) -> Member {
        Member {
            identity: "ann".into(),
            name: "Ann".into(),
            grants: Grants {
                publish,
                subscribe: true,
                ..Grants::default()
            },
            anonymous: false,
            invited_until: None,
        }
    }

    fn error_code(actions: &[Action]) -> Option<ErrorCode> {
        actions.iter().find_map(|action| {
            let Action::Send(ServerMessage::Error { code, .. }) = action else {
                return None;
            };
            Some(*code)
        })
    }

    fn close_code_of(actions: &[Action]) -> Option<u16> {
        actions.iter().find_map(|action| {
            let Action::Close { code, .. } = action else {
                return None;
            };
            Some(*code)
        })
    }
}
