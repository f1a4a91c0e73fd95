//! What went wrong with an SRT connection, as a code and in words that help.

use crate::{
    link::{Failure, SrtTarget},
    status::FailureCode,
};

/// Explains what the sink said. `live` says whether data had been confirmed, `silent` whether nothing had been
/// for a while before.
pub(super) fn explain(text: &str, target: &SrtTarget, live: bool, silent: bool) -> Failure {
    let code = match (live, silent) {
        (true, true) => FailureCode::Stalled,
        (true, false) => FailureCode::ClosedByServer,
        (false, _) => refusal(text),
    };
    failure(code, target, reason(text))
}

/// Reads the reason out of libsrt's words (`srt_rejectreason_str`).
fn refusal(text: &str) -> FailureCode {
    let table = [
        ("incorrect passphrase", FailureCode::PassphraseWrong),
        ("password required", FailureCode::PassphraseWrong),
        ("failed to authenticate", FailureCode::PassphraseWrong),
        ("timeout", FailureCode::Timeout),
        ("backlog", FailureCode::AlreadyPublishing),
        ("network is unreachable", FailureCode::Unreachable),
        ("no route", FailureCode::Unreachable),
    ];
    let text = text.to_lowercase();
    let found = table.iter().find(|(words, _)| text.contains(words));
    found.map_or(FailureCode::Rejected, |(_, code)| *code)
}

/// Returns what comes after the sink's own words.
fn reason(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default();
    let line = line.split(" ../").next().unwrap_or_default();
    line.rsplit(": ").next().unwrap_or_default().trim()
}

/// Explains a failure.
pub(super) fn failure(code: FailureCode, target: &SrtTarget, said: &str) -> Failure {
    let server = format!("{}:{}", target.host, target.port);
    let said: String = target.scrub(said).chars().take(200).collect();
    let said = if said.is_empty() {
        said
    } else {
        format!(" (“{said}”)")
    };
    let message = match code {
        FailureCode::HostNotFound => {
            format!(
                "There is no server called “{}”. Check the URL.",
                target.host
            )
        }
        FailureCode::PrivateAddress => format!(
            "“{}” leads to a private or local address, where only the owner of this server may send to.",
            target.host
        ),
        FailureCode::PassphraseWrong => format!(
            "The receiver at {server} does not accept the passphrase{said}. Both sides need the same one, or \
             none."
        ),
        FailureCode::Rejected => format!(
            "The receiver at {server} refused the stream{said}. Check the stream id, and that it expects a \
             caller (its mode is listener)."
        ),
        FailureCode::AlreadyPublishing => format!(
            "The receiver at {server} is busy with somebody else{said}. End the other one, or wait."
        ),
        FailureCode::Timeout | FailureCode::ConnectionRefused | FailureCode::Unreachable => {
            format!(
                "No SRT receiver answered at {server}{said}. Check that it runs in listener mode, its UDP port, and \
             whether a firewall is in between."
            )
        }
        FailureCode::ClosedByServer => {
            format!("The receiver closed the connection{said}. It is called again.")
        }
        FailureCode::Stalled => {
            "The receiver stopped confirming data, or the network is too slow. It is called again."
                .to_owned()
        }
        FailureCode::TlsFailed
        | FailureCode::CodecUnsupported
        | FailureCode::DiskFull
        | FailureCode::NothingRecorded
        | FailureCode::WorkerDied
        | FailureCode::Overloaded
        | FailureCode::Internal => format!("This output could not be sent{said}."),
    };
    Failure { code, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> SrtTarget {
        SrtTarget {
            host: "live.example.com".into(),
            port: 9000,
            latency_ms: 120,
            stream_id: "publish/abcd-efgh".into(),
            passphrase: Some("correct horse".into()),
        }
    }

    #[test]
    fn what_the_sink_says_gets_its_code() {
        let said = "Failed to write to SRT socket: ";
        let table = [
            (
                "Failed to authenticate: Incorrect passphrase",
                FailureCode::PassphraseWrong,
            ),
            (
                "Failed to authenticate: Password required or unexpected",
                FailureCode::PassphraseWrong,
            ),
            (
                "Error on SRT socket: Connection timeout",
                FailureCode::Timeout,
            ),
            (
                "Error on SRT socket: Peer rejected connection",
                FailureCode::Rejected,
            ),
            (
                "Error on SRT socket: Listener's backlog exceeded",
                FailureCode::AlreadyPublishing,
            ),
            ("Connection does not exist", FailureCode::Rejected),
        ];
        for (text, code) in table {
            let failure = explain(
                &format!("{said}{text} ../ext/srt/x.c(1): y"),
                &target(),
                false,
                false,
            );
            assert_eq!(failure.code, code, "{text}");
            let reason = text.rsplit(": ").next().unwrap();
            assert!(
                failure.message.contains(&format!("(“{reason}”)")),
                "{}",
                failure.message
            );
        }
        let code = |silent| explain("Socket is broken or closed", &target(), true, silent).code;
        assert_eq!(code(false), FailureCode::ClosedByServer);
        assert_eq!(code(true), FailureCode::Stalled);
    }

    #[test]
    fn secrets_are_never_repeated() {
        for secret in ["publish/abcd-efgh", "correct horse"] {
            let failure = explain(&format!("no {secret}"), &target(), false, false);
            assert!(!failure.message.contains(secret), "{}", failure.message);
        }
    }
}
