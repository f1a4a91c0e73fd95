//! What signaling counts for operators, in words.

use metrics::{counter, describe_counter, describe_gauge};

/// Describes the meters, and shows those without labels from the start.
pub(crate) fn describe() {
    describe_gauge!(
        "fanlight_sessions",
        "Signaling sessions: WebSockets, and WHIP and WHEP resources"
    );
    for (name, help) in PLAIN {
        describe_counter!(name, help);
        counter!(name).increment(0);
    }
    for (name, help) in BY_LABEL {
        describe_counter!(name, help);
    }
}

const PLAIN: [(&str, &str); 2] = [
    (
        "fanlight_joins_total",
        "Sessions begun by WebSocket, WHIP or WHEP",
    ),
    (
        "fanlight_chat_messages_total",
        "Chat messages taken and passed on",
    ),
];

const BY_LABEL: [(&str, &str); 5] = [
    (
        "fanlight_refusals_total",
        "Requests about rooms and sessions that were refused, by code",
    ),
    (
        "fanlight_sessions_closed_total",
        "WebSockets that the server closed, by reason",
    ),
    (
        "fanlight_chat_refusals_total",
        "Chat messages that were refused, by code",
    ),
    (
        "fanlight_chat_dropped_total",
        "Chat messages dropped unread, by reason",
    ),
    (
        "fanlight_errands_dropped_total",
        "Greetings of newcomers and chat messages dropped, as too many were waiting",
    ),
];
