//! A session that publishes one stream: handshake, commands, media, acknowledgements, goodbye.

use super::{
    amf::{self, Value},
    chunk::{self, Head, Message, Reader},
};

/// A publishing client. Whoever drives it passes on what arrives, and sends what is in [`Self::output`].
#[derive(Debug)]
pub(crate) struct Client {
    stage: Stage,
    wanted: Wanted,
    /// The server's part of the handshake, until it is whole.
    greeting: Vec<u8>,
    reader: Reader,
    output: Vec<u8>,
    acknowledged: u64,
    received: u64,
    reported: u64,
    /// After how many bytes the server wants a report.
    window: u64,
    /// The message stream that the server made.
    stream: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Version,
    Greeting,
    Connecting,
    Creating,
    Asking,
    Publishing,
    Over,
}

#[derive(Debug)]
struct Wanted {
    application: String,
    url: String,
    key: String,
}

/// Why a server does not take the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// In the server's words: a code such as `NetStream.Publish.BadName`, and a description.
    Said { code: String, description: String },
    /// It does not speak RTMP, or not well.
    NotRtmp,
}

/// How far a server went along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It has not shaken hands.
    Nothing,
    /// It was asked for the application.
    Greeted,
    /// It has the application, and was asked to take the stream.
    Connected,
    /// It took the stream.
    Published,
}

/// What players are told before the first frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Metadata {
    /// Width and height, if there is picture.
    pub(crate) video: Option<(u16, u16)>,
    pub(crate) audio_rate: u32,
}

impl Client {
    /// Starts a session with an application (query included) at `url`, publishing as `key`. `random` fills the
    /// handshake.
    pub(crate) fn new(application: &str, url: &str, key: &str, random: &[u8; RANDOM]) -> Self {
        let mut client = Self {
            stage: Stage::Version,
            wanted: Wanted {
                application: application.to_owned(),
                url: url.to_owned(),
                key: key.to_owned(),
            },
            greeting: Vec::new(),
            reader: Reader::new(),
            output: vec![VERSION, 0, 0, 0, 0, 0, 0, 0, 0],
            acknowledged: 0,
            received: 0,
            reported: 0,
            window: u64::MAX,
            stream: 0,
        };
        client.output.extend_from_slice(random);
        client
    }

    /// Takes in what the server sent.
    ///
    /// # Errors
    /// [`Refusal`] when it is a refusal; the session is then over.
    pub(crate) fn handle_input(&mut self, mut bytes: &[u8]) -> Result<(), Refusal> {
        self.received += bytes.len() as u64;
        if matches!(self.stage, Stage::Version | Stage::Greeting) {
            bytes = self.greet(bytes)?;
        }
        self.reader.push(bytes);
        while let Some(message) = self.reader.next().map_err(|_| Refusal::NotRtmp)? {
            self.handle_message(&message)?;
        }
        if self.received - self.reported >= self.window / 2 {
            self.reported = self.received;
            let [.., a, b, c, d] = self.received.to_be_bytes();
            self.control(ACKNOWLEDGEMENT, &[a, b, c, d]);
        }
        Ok(())
    }

    /// What is to be sent; the driver takes it away from the front.
    pub(crate) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Returns how far the server went along: where it stops, it refuses what it was asked for.
    pub(crate) fn progress(&self) -> Progress {
        match self.stage {
            Stage::Version | Stage::Greeting => Progress::Nothing,
            Stage::Connecting => Progress::Greeted,
            Stage::Creating | Stage::Asking => Progress::Connected,
            Stage::Publishing | Stage::Over => Progress::Published,
        }
    }

    /// Returns whether the server has accepted the stream.
    pub(crate) fn is_publishing(&self) -> bool {
        self.stage == Stage::Publishing
    }

    /// Returns how many bytes the server has acknowledged; 0 while it acknowledges nothing.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Announces the media that follow.
    pub(crate) fn send_metadata(&mut self, metadata: Metadata) {
        let number = |name: &str, value: f64| (name.to_owned(), Value::Number(value));
        let mut fields = vec![
            number("audiocodecid", 10.0),
            number("audiosamplerate", f64::from(metadata.audio_rate)),
            ("stereo".to_owned(), Value::Boolean(true)),
            ("encoder".to_owned(), Value::text(AGENT)),
        ];
        if let Some((width, height)) = metadata.video {
            fields.push(number("videocodecid", 7.0));
            fields.push(number("width", f64::from(width)));
            fields.push(number("height", f64::from(height)));
        }
        let mut payload = Vec::new();
        let name = [Value::text("@setDataFrame"), Value::text("onMetaData")];
        amf::write(&name, &mut payload);
        amf::write(&[Value::Object(fields)], &mut payload);
        self.send(COMMAND_CHUNKS, DATA, 0, [&payload, &[]]);
    }

    /// Sends the H.264 decoder configuration (`avcC`).
    pub(crate) fn send_video_config(&mut self, avcc: &[u8], time_ms: u32) {
        self.send(VIDEO_CHUNKS, VIDEO, time_ms, [&[0x17, 0, 0, 0, 0], avcc]);
    }

    /// Sends an access unit of length-prefixed NAL units.
    pub(crate) fn send_video(&mut self, keyframe: bool, data: &[u8], time_ms: u32) {
        let kind = if keyframe { 0x17 } else { 0x27 };
        self.send(VIDEO_CHUNKS, VIDEO, time_ms, [&[kind, 1, 0, 0, 0], data]);
    }

    /// Sends the AAC configuration (`AudioSpecificConfig`).
    pub(crate) fn send_audio_config(&mut self, config: &[u8], time_ms: u32) {
        self.send(AUDIO_CHUNKS, AUDIO, time_ms, [&[0xaf, 0], config]);
    }

    /// Sends an AAC frame.
    pub(crate) fn send_audio(&mut self, data: &[u8], time_ms: u32) {
        self.send(AUDIO_CHUNKS, AUDIO, time_ms, [&[0xaf, 1], data]);
    }

    /// Says goodbye. What is in the output then is the last.
    pub(crate) fn end(&mut self) {
        if matches!(self.stage, Stage::Asking | Stage::Publishing) {
            let key = Value::text(&self.wanted.key);
            self.command("FCUnpublish", 6.0, &[Value::Null, key], 0);
            let stream = Value::Number(f64::from(self.stream));
            self.command("deleteStream", 7.0, &[Value::Null, stream], 0);
        }
        self.stage = Stage::Over;
    }

    /// Takes the server's part of the handshake and returns what follows it.
    fn greet<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Refusal> {
        let missing = 1 + 2 * GREETING - self.greeting.len();
        let (part, rest) = bytes.split_at(bytes.len().min(missing));
        self.greeting.extend_from_slice(part);
        if self
            .greeting
            .first()
            .is_some_and(|version| *version != VERSION)
        {
            return Err(Refusal::NotRtmp);
        }
        if self.stage == Stage::Version
            && let Some(theirs) = self.greeting.get(1..=GREETING)
        {
            self.output.extend_from_slice(theirs);
            self.stage = Stage::Greeting;
        }
        if self.greeting.len() == 1 + 2 * GREETING {
            self.greeting = Vec::new();
            self.stage = Stage::Connecting;
            let text = |name: &str, value: &str| (name.to_owned(), Value::text(value));
            let object = Value::Object(vec![
                text("app", &self.wanted.application),
                text("type", "nonprivate"),
                text("flashVer", AGENT),
                text("tcUrl", &self.wanted.url),
            ]);
            self.command("connect", 1.0, &[object], 0);
        }
        Ok(rest)
    }

    fn handle_message(&mut self, message: &Message) -> Result<(), Refusal> {
        let number = message
            .payload
            .first_chunk::<4>()
            .map(|bytes| u32::from_be_bytes(*bytes));
        match (message.kind, number) {
            (SET_CHUNK_SIZE, Some(size)) => self.reader.set_chunk_size(size),
            (ABORT, Some(chunks)) => self.reader.abort(chunks),
            (ACKNOWLEDGEMENT, Some(sequence)) => {
                // Counts modulo 2^32.
                let [.., a, b, c, d] = self.acknowledged.to_be_bytes();
                let more = sequence.wrapping_sub(u32::from_be_bytes([a, b, c, d]));
                if more < u32::MAX / 2 {
                    self.acknowledged += u64::from(more);
                }
            }
            (WINDOW, Some(window)) => self.window = u64::from(window.max(1)),
            (USER_CONTROL, _) => {
                if let Some((&[0, PING], rest)) = message.payload.split_first_chunk() {
                    let pong = [&[0, PONG], rest].concat();
                    self.control(USER_CONTROL, &pong);
                }
            }
            (COMMAND, _) => self.handle_command(&amf::read(&message.payload))?,
            (COMMAND_AMF3, _) => {
                let payload = message.payload.get(1..).unwrap_or_default();
                self.handle_command(&amf::read(payload))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn handle_command(&mut self, values: &[Value]) -> Result<(), Refusal> {
        let (Some(Value::Text(name)), Some(Value::Number(transaction))) =
            (values.first(), values.get(1))
        else {
            return Ok(());
        };
        let answer = values.get(3).unwrap_or(&Value::Null);
        // Transactions are the small numbers given out below.
        let is = |number: f64| (transaction - number).abs() < 0.5;
        match (name.as_str(), self.stage) {
            ("_result", Stage::Connecting) if is(1.0) => {
                self.stage = Stage::Creating;
                self.control(SET_CHUNK_SIZE, &CHUNK_SIZE.to_be_bytes());
                self.control(WINDOW, &ACK_WINDOW.to_be_bytes());
                let key = Value::text(&self.wanted.key);
                self.command("releaseStream", 2.0, &[Value::Null, key.clone()], 0);
                self.command("FCPublish", 3.0, &[Value::Null, key], 0);
                self.command("createStream", 4.0, &[Value::Null], 0);
            }
            ("_result", Stage::Creating) if is(4.0) => {
                let Value::Number(stream) = answer else {
                    return Err(Refusal::NotRtmp);
                };
                self.stream = stream_id(*stream).ok_or(Refusal::NotRtmp)?;
                self.stage = Stage::Asking;
                let key = Value::text(&self.wanted.key);
                let arguments = [Value::Null, key, Value::text("live")];
                self.command("publish", 5.0, &arguments, self.stream);
            }
            ("_error", Stage::Connecting | Stage::Creating | Stage::Asking)
                // Many servers know neither of the two that come before.
                if is(1.0) || is(4.0) || is(5.0) =>
            {
                return Err(said(answer));
            }
            ("onStatus", _) if answer.field("level") == Some("error") => return Err(said(answer)),
            ("onStatus", Stage::Asking)
                if answer.field("code") == Some("NetStream.Publish.Start") =>
            {
                self.stage = Stage::Publishing;
            }
            ("close", _) => return Err(said(answer)),
            _ => {}
        }
        Ok(())
    }

    fn command(&mut self, name: &str, transaction: f64, arguments: &[Value], stream: u32) {
        let mut payload = Vec::new();
        amf::write(
            &[Value::text(name), Value::Number(transaction)],
            &mut payload,
        );
        amf::write(arguments, &mut payload);
        let head = Head {
            chunks: COMMAND_CHUNKS,
            kind: COMMAND,
            stream,
            timestamp: 0,
        };
        self.write(head, [&payload, &[]]);
    }

    fn control(&mut self, kind: u8, payload: &[u8]) {
        let head = Head {
            chunks: CONTROL_CHUNKS,
            kind,
            stream: 0,
            timestamp: 0,
        };
        self.write(head, [payload, &[]]);
    }

    fn send(&mut self, chunks: u8, kind: u8, timestamp: u32, parts: [&[u8]; 2]) {
        let head = Head {
            chunks,
            kind,
            stream: self.stream,
            timestamp,
        };
        self.write(head, parts);
    }

    fn write(&mut self, head: Head, parts: [&[u8]; 2]) {
        // Ours takes effect behind the message that announces it.
        let announced = !matches!(
            self.stage,
            Stage::Version | Stage::Greeting | Stage::Connecting
        ) && head.kind != SET_CHUNK_SIZE;
        let size = if announced { CHUNK_SIZE as usize } else { 128 };
        chunk::write(head, parts, size, &mut self.output);
    }
}

fn said(answer: &Value) -> Refusal {
    let field = |name| answer.field(name).unwrap_or_default().to_owned();
    Refusal::Said {
        code: field("code"),
        description: field("description"),
    }
}

fn stream_id(number: f64) -> Option<u32> {
    // Servers count from 1.
    (0_u32..=0xffff).find(|id| (f64::from(*id) - number).abs() < 0.5)
}

/// What a driver gives for the handshake.
pub(crate) const RANDOM: usize = GREETING - 8;
const GREETING: usize = 1536;
const VERSION: u8 = 3;
const AGENT: &str = "FMLE/3.0 (compatible; Fanlight)";
const CHUNK_SIZE: u32 = 8192;
/// How often a server is to acknowledge: about once a second at 2 Mbit/s.
pub(crate) const ACK_WINDOW: u32 = 256 << 10;

const CONTROL_CHUNKS: u8 = 2;
const COMMAND_CHUNKS: u8 = 3;
const AUDIO_CHUNKS: u8 = 4;
const VIDEO_CHUNKS: u8 = 6;

const SET_CHUNK_SIZE: u8 = 1;
const ABORT: u8 = 2;
const ACKNOWLEDGEMENT: u8 = 3;
const USER_CONTROL: u8 = 4;
const WINDOW: u8 = 5;
const AUDIO: u8 = 8;
const VIDEO: u8 = 9;
const COMMAND_AMF3: u8 = 17;
const DATA: u8 = 18;
const COMMAND: u8 = 20;
const PING: u8 = 6;
const PONG: u8 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that has been greeted.
    struct Server {
        reader: Reader,
        client: Client,
    }

    impl Server {
        fn greeted() -> Self {
            let mut client = Client::new("app", "rtmp://host/app", "key", &[7; RANDOM]);
            assert_eq!(client.output().len(), 1 + GREETING);
            client.output().clear();
            let mut greeting = vec![VERSION];
            greeting.extend_from_slice(&[5; 2 * GREETING]);
            for part in greeting.chunks(1000) {
                client.handle_input(part).unwrap();
            }
            assert_eq!(client.output()[..GREETING], [5; GREETING]);
            client.output().drain(..GREETING);
            Self {
                reader: Reader::new(),
                client,
            }
        }

        fn received(&mut self) -> Vec<Message> {
            let mut messages = Vec::new();
            self.reader.push(&std::mem::take(self.client.output()));
            while let Some(message) = self.reader.next().unwrap() {
                if message.kind == SET_CHUNK_SIZE {
                    self.reader.set_chunk_size(CHUNK_SIZE);
                }
                messages.push(message);
            }
            messages
        }

        fn commands(&mut self) -> Vec<String> {
            let messages = self.received();
            let commands = messages.iter().filter(|m| m.kind == COMMAND);
            commands
                .map(|m| match amf::read(&m.payload).first() {
                    Some(Value::Text(name)) => name.clone(),
                    Some(_) | None => panic!("no name"),
                })
                .collect()
        }

        fn say(&mut self, kind: u8, payload: &[u8]) -> Result<(), Refusal> {
            let mut wire = Vec::new();
            let head = Head {
                chunks: 3,
                kind,
                stream: 0,
                timestamp: 0,
            };
            chunk::write(head, [payload, &[]], 128, &mut wire);
            self.client.handle_input(&wire)
        }

        fn answer(&mut self, name: &str, transaction: f64, value: Value) -> Result<(), Refusal> {
            let mut payload = Vec::new();
            let values = [
                Value::text(name),
                Value::Number(transaction),
                Value::Null,
                value,
            ];
            amf::write(&values, &mut payload);
            self.say(COMMAND, &payload)
        }

        fn asked() -> Self {
            let mut server = Self::greeted();
            assert_eq!(server.commands(), ["connect"]);
            server.answer("_result", 1.0, Value::Null).unwrap();
            assert_eq!(
                server.commands(),
                ["releaseStream", "FCPublish", "createStream"]
            );
            server.answer("_error", 2.0, Value::Null).unwrap();
            server.answer("_result", 4.0, Value::Number(1.0)).unwrap();
            assert_eq!(server.commands(), ["publish"]);
            server
        }
    }

    fn status(level: &str, code: &str, description: &str) -> Value {
        let text = |name: &str, value: &str| (name.to_owned(), Value::text(value));
        Value::Object(vec![
            text("level", level),
            text("code", code),
            text("description", description),
        ])
    }

    #[test]
    fn a_stream_is_published_acknowledged_and_ended() {
        let mut server = Server::asked();
        assert!(!server.client.is_publishing());
        let start = status("status", "NetStream.Publish.Start", "");
        server.answer("onStatus", 0.0, start).unwrap();
        assert!(server.client.is_publishing());
        server.client.send_video_config(&[1, 2], 0);
        server.client.send_video(true, &[9; 20_000], 0x0100_0000);
        server.client.send_audio(&[8; 10], 0x0100_0001);
        let messages = server.received();
        assert_eq!(messages[0].payload, [0x17, 0, 0, 0, 0, 1, 2]);
        assert_eq!(messages[1].timestamp, 0x0100_0000);
        assert_eq!(messages[1].payload.len(), 20_005);
        assert_eq!((messages[2].kind, messages[2].stream), (AUDIO, 1));

        for (sequence, total) in [(1000, 1000), (u32::MAX / 3, u64::from(u32::MAX / 3))] {
            server
                .say(ACKNOWLEDGEMENT, &sequence.to_be_bytes())
                .unwrap();
            assert_eq!(server.client.acknowledged(), total);
        }
        for sequence in [u32::MAX / 3 * 2, u32::MAX, 9] {
            server
                .say(ACKNOWLEDGEMENT, &sequence.to_be_bytes())
                .unwrap();
        }
        assert_eq!(
            server.client.acknowledged(),
            (1 << 32) + 9,
            "it counts round"
        );

        server.client.end();
        assert_eq!(server.commands(), ["FCUnpublish", "deleteStream"]);
    }

    #[test]
    fn refusals_bear_the_servers_words() {
        let bad_name = status("error", "NetStream.Publish.BadName", "Already publishing");
        let refusal = Refusal::Said {
            code: "NetStream.Publish.BadName".into(),
            description: "Already publishing".into(),
        };
        let mut server = Server::asked();
        let error = server.answer("onStatus", 0.0, bad_name.clone());
        assert_eq!(error, Err(refusal.clone()));
        let mut server = Server::greeted();
        assert_eq!(server.answer("_error", 1.0, bad_name), Err(refusal));
        let mut client = Client::new("app", "rtmp://host/app", "key", &[7; RANDOM]);
        assert_eq!(client.handle_input(b"HTTP/1.1 400"), Err(Refusal::NotRtmp));
    }

    #[test]
    fn pings_are_answered_and_bytes_are_reported() {
        let mut server = Server::asked();
        server.say(WINDOW, &4000_u32.to_be_bytes()).unwrap();
        server.received();
        server.say(USER_CONTROL, &[0, PING, 1, 2, 3, 4]).unwrap();
        assert_eq!(server.received()[0].payload, [0, PONG, 1, 2, 3, 4]);
        for _ in 0..200 {
            server.say(USER_CONTROL, &[0, 31]).unwrap();
        }
        assert!(server.received().iter().any(|m| m.kind == ACKNOWLEDGEMENT));
    }
}
