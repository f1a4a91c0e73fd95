//! What may be said.

use crate::{
    auth::{Grant, Member, is_hidden},
    protocol::{CHAT_TEXT_LIMIT, ChatRequest, ErrorCode},
};

/// A message as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) text: String,
    pub(super) nonce: Option<String>,
}

/// Why a message is not taken, with the sender's nonce so that they know which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: ErrorCode,
    pub(super) reason: String,
    pub(super) nonce: Option<String>,
}

/// Reads what a member sent, and decides whether they may say it. How fast is decided elsewhere.
pub(super) fn read(payload: &[u8], by: &Member) -> Result<Said, Refusal> {
    let refusal = |code, reason: &str, nonce| Refusal {
        code,
        reason: reason.to_owned(),
        nonce,
    };
    let request = (payload.len() <= MAX_REQUEST)
        .then(|| serde_json::from_slice::<ChatRequest>(payload).ok())
        .flatten();
    let Some(ChatRequest::Say { text, nonce }) = request else {
        return Err(refusal(
            ErrorCode::BadMessage,
            "This message cannot be understood.",
            None,
        ));
    };
    if nonce.as_ref().is_some_and(|nonce| nonce.len() > MAX_NONCE) {
        return Err(refusal(
            ErrorCode::BadMessage,
            "The nonce is too long.",
            None,
        ));
    }
    if by.allow(Grant::Chat).is_err() {
        return Err(refusal(
            ErrorCode::ChatNotAllowed,
            "You may not write in this chat.",
            nonce,
        ));
    }
    let text: String = text
        .chars()
        .filter(|c| *c == '\n' || !is_hidden(*c))
        .collect();
    let text = text.trim();
    match text.chars().count() {
        0 => Err(refusal(
            ErrorCode::ChatEmpty,
            "There is nothing in this message.",
            nonce,
        )),
        1..=CHAT_TEXT_LIMIT => Ok(Said {
            text: text.to_owned(),
            nonce,
        }),
        length => Err(Refusal {
            code: ErrorCode::ChatTooLong,
            reason: format!("This message has {length} characters; at most {CHAT_TEXT_LIMIT} fit."),
            nonce,
        }),
    }
}

/// Most bytes of a request: 500 characters, each escaped at its longest, and the rest.
pub(crate) const MAX_REQUEST: usize = 8 * 1024;
const MAX_NONCE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Grants;

    #[test]
    fn messages_are_cleaned_or_refused() {
        let longest = "é".repeat(500);
        let too_long = "é".repeat(501);
        let rows: [(&str, &str, Result<&str, ErrorCode>); 9] = [
            ("plain", "hello", Ok("hello")),
            ("spaces around", "  hi there \n", Ok("hi there")),
            ("lines stay", "a\nb", Ok("a\nb")),
            ("control characters go", "a\u{7}\u{202e}b\u{0}", Ok("ab")),
            ("longest", &longest, Ok(&longest)),
            ("longest with spaces", &format!(" {longest} "), Ok(&longest)),
            ("too long", &too_long, Err(ErrorCode::ChatTooLong)),
            ("empty", "", Err(ErrorCode::ChatEmpty)),
            (
                "nothing visible",
                " \u{200b}\t\n",
                Err(ErrorCode::ChatEmpty),
            ),
        ];
        for (label, text, expected) in rows {
            let payload =
                serde_json::json!({"type": "say", "text": text, "nonce": "n"}).to_string();
            match (read(payload.as_bytes(), &member(true)), expected) {
                (Ok(said), Ok(text)) => {
                    assert_eq!(
                        (said.text.as_str(), said.nonce.as_deref()),
                        (text, Some("n")),
                        "{label}"
                    );
                }
                (Err(refusal), Err(code)) => {
                    assert_eq!(
                        (refusal.code, refusal.nonce.as_deref()),
                        (code, Some("n")),
                        "{label}"
                    );
                }
                (found, _) => panic!("{label}: {found:?}"),
            }
        }
    }

    #[test]
    fn what_is_no_request_is_a_bad_message() {
        let long_nonce = format!(
            r#"{{"type":"say","text":"a","nonce":"{}"}}"#,
            "n".repeat(65)
        );
        let huge = format!(r#"{{"type":"say","text":"{}"}}"#, "a".repeat(9000));
        let rows: [&[u8]; 8] = [
            b"",
            b"{",
            b"[]",
            b"\xff\xfe",
            br#"{"type":"shout","text":"a"}"#,
            br#"{"type":"say","text":"a","admin":true}"#,
            long_nonce.as_bytes(),
            huge.as_bytes(),
        ];
        for payload in rows {
            let refusal = read(payload, &member(true)).unwrap_err();
            assert_eq!(
                refusal.code,
                ErrorCode::BadMessage,
                "{}",
                payload.escape_ascii()
            );
        }
    }

    #[test]
    fn writing_needs_the_grant() {
        let refusal = read(br#"{"type":"say","text":"a"}"#, &member(false)).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::ChatNotAllowed);
    }

    fn member(chat: bool) -> Member {
        Member {
            identity: "ann".into(),
            name: "Ann".into(),
            grants: Grants {
                chat,
                ..Grants::default()
            },
            anonymous: false,
            invited_until: None,
        }
    }
}
