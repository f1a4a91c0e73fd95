//! The committed TypeScript types are what the Rust types generate. `UPDATE_TYPES=1` rewrites them.

use std::{fmt::Write as _, fs, path::Path};

use signaling::protocol::{self, close_code};
use ts_rs::TS;

const COMMITTED: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../web/sdk/src/generated/protocol.ts"
);

#[test]
fn committed_types_match_the_rust_types() {
    let config = ts_rs::Config::new().with_large_int("number");
    let mut generated = String::from(
        "// Made from signaling/src/protocol.rs by `UPDATE_TYPES=1 cargo test -p signaling`. Do not edit.\n",
    );
    macro_rules! declare {
        ($($name:ident),* $(,)?) => {
            $(declare::<protocol::$name>(&mut generated, &config);)*
        };
    }
    declare!(
        ClientMessage,
        ServerMessage,
        RoomInfo,
        StageMember,
        Layout,
        Look,
        RoomImage,
        Corner,
        ImageKind,
        MediaRole,
        IceCredentials,
        Grants,
        IceServer,
        ChatRequest,
        ChatEvent,
        ChatMessage,
        RoomEvent,
        Slot,
        TrackKind,
        ErrorCode,
        ProblemBody,
        CreateRoom,
        ChangeRoom,
        ChangeLook,
        RoomList,
        CreateToken,
        CreatedToken,
        CreateInvite,
        CreatedInvite,
        Feature,
        ParticipantList,
        Participant,
        ParticipantStats,
    );
    let _ = write!(
        generated,
        "\n/** Why the server closed a WebSocket. */\nexport const CLOSE_CODE = {{\n  \
         notUtf8: {},\n  tooLong: {},\n  restarting: {},\n  badMessages: {},\n  token: {},\n  notAllowed: {},\n  roomUnknown: {},\n  \
         silent: {},\n  tooSlow: {},\n  serverFull: {},\n}} as const;\n",
        close_code::NOT_UTF8,
        close_code::TOO_LONG,
        close_code::RESTARTING,
        close_code::BAD_MESSAGES,
        close_code::TOKEN,
        close_code::NOT_ALLOWED,
        close_code::ROOM_UNKNOWN,
        close_code::SILENT,
        close_code::TOO_SLOW,
        close_code::SERVER_FULL,
    );
    let _ = write!(
        generated,
        "\nexport const CHAT_CHANNEL = '{}';\nexport const EVENTS_CHANNEL = '{}';\n\
         export const CHAT_TEXT_LIMIT = {};\nexport const NAME_LIMIT = {};\nexport const STAGE_LIMIT = {};\n\
         export const AUDIO_SLOTS = {};\n",
        protocol::CHAT_CHANNEL,
        protocol::EVENTS_CHANNEL,
        protocol::CHAT_TEXT_LIMIT,
        protocol::NAME_LIMIT,
        protocol::STAGE_LIMIT,
        protocol::AUDIO_SLOTS,
    );
    let committed = Path::new(COMMITTED);
    if std::env::var_os("UPDATE_TYPES").is_some() {
        fs::create_dir_all(committed.parent().unwrap()).unwrap();
        fs::write(committed, &generated).unwrap();
    }
    let found = fs::read_to_string(committed).unwrap_or_default();
    assert!(
        found == generated,
        "{} differs from the Rust types: run `UPDATE_TYPES=1 cargo test` and commit it",
        committed.display()
    );
}

/// Appends `/** docs */ export type … = …;`.
fn declare<T: TS + 'static>(to: &mut String, config: &ts_rs::Config) {
    let docs = T::docs().unwrap_or_default();
    let _ = write!(to, "\n{docs}export {}\n", T::decl(config));
}
