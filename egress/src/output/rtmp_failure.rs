//! What went wrong with an RTMP connection, as a code and in words that help.

use crate::{
    link::{Failure, RtmpTarget},
    status::FailureCode,
};

/// Explains an error of the RTMP sink. `published` says whether media had been accepted in this attempt.
pub(super) fn explain(message: &str, debug: &str, target: &RtmpTarget, published: bool) -> Failure {
    if message.to_lowercase().contains("short read") {
        return no_rtmp(target);
    }
    let code = classify(message, debug, published);
    let said: String = target
        .scrub(words_of_server(message))
        .chars()
        .take(200)
        .collect();
    failure(code, target, &said)
}

/// Explains that something else than RTMP answered.
pub(super) fn no_rtmp(target: &RtmpTarget) -> Failure {
    let (host, port) = (&target.host, target.port);
    let message = format!(
        "What answers at {host}:{port} does not speak RTMP. Check the port: RTMP is on 1935 unless the \
         platform says otherwise."
    );
    Failure {
        code: FailureCode::Rejected,
        message,
    }
}

/// Explains a failure that the sink does not tell.
pub(super) fn failure(code: FailureCode, target: &RtmpTarget, said: &str) -> Failure {
    let server = format!("{}:{}", target.host, target.port);
    let message = match code {
        FailureCode::ConnectionRefused => format!(
            "Nothing accepts connections at {server}. Check the server's address and port, and that it runs."
        ),
        FailureCode::HostNotFound => {
            format!(
                "There is no server called “{}”. Check the URL.",
                target.host
            )
        }
        FailureCode::Unreachable => format!(
            "{server} cannot be reached from this server. Check the address and the network."
        ),
        FailureCode::Timeout => format!(
            "{server} did not answer in time. Check the address and port, and whether a firewall is in between{}.",
            if target.tls {
                "; a server without TLS does not answer rtmps:// either"
            } else {
                ""
            }
        ),
        FailureCode::Rejected => format!(
            "The server refused the stream{}. Copy the URL and the key again from the platform's live \
             settings, and check that nothing else is sending with this key.",
            quoted(said)
        ),
        FailureCode::ClosedByServer => format!(
            "The server closed the connection{}. It is connected again.",
            quoted(said)
        ),
        FailureCode::Stalled => {
            "The server stopped taking data, or the network is too slow. It is connected again."
                .to_owned()
        }
        FailureCode::TlsFailed => format!(
            "The secure connection to {server} failed{}. Check that the server offers rtmps:// on this port.",
            quoted(said)
        ),
        FailureCode::CodecUnsupported | FailureCode::WorkerDied | FailureCode::Internal => {
            format!("This output could not be sent{}.", quoted(said))
        }
    };
    Failure { code, message }
}

fn classify(message: &str, debug: &str, published: bool) -> FailureCode {
    let text = message.to_lowercase();
    let has = |needle: &str| text.contains(needle);
    let domain = |name: &str| debug.contains(name);
    if domain("g-resolver-error-quark") || has("resolv") {
        FailureCode::HostNotFound
    } else if has("refused") && has("connect") && !has("publish") {
        FailureCode::ConnectionRefused
    } else if has("unreachable") || has("no route") {
        FailureCode::Unreachable
    } else if domain("g-tls-error-quark") || has("tls") || has("certificate") {
        FailureCode::TlsFailed
    } else if has("timed out") {
        FailureCode::Timeout
    } else if published {
        FailureCode::ClosedByServer
    } else if has("denied")
        || has("publish")
        || has("'connect' cmd")
        || has("closed")
        || has("auth")
        || has("reset")
        || has("broken pipe")
    {
        FailureCode::Rejected
    } else {
        FailureCode::Internal
    }
}

/// Returns what is left without the sink's own prefixes.
fn words_of_server(message: &str) -> &str {
    let prefixes = ["Failed to connect: ", "Connection error: "];
    prefixes
        .iter()
        .find_map(|prefix| message.strip_prefix(prefix))
        .unwrap_or(message)
}

fn quoted(said: &str) -> String {
    if said.is_empty() {
        String::new()
    } else {
        format!(" (“{said}”)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> RtmpTarget {
        RtmpTarget {
            tls: false,
            host: "live.example.com".into(),
            port: 1935,
            application: "app".into(),
            key: "abcd-efgh?token=1".into(),
        }
    }

    #[test]
    fn what_the_sink_says_gets_its_code() {
        let table = [
            (
                "Connection refused: Could not connect to 127.0.0.1: Connection refused",
                "",
                false,
                FailureCode::ConnectionRefused,
            ),
            (
                "Failed to connect: Error resolving “nosuch.invalid”: Name or service not known",
                "domain g-resolver-error-quark, code 0",
                false,
                FailureCode::HostNotFound,
            ),
            (
                "Connection error: connection closed remotely",
                "domain g-io-error-quark, code 44",
                false,
                FailureCode::Rejected,
            ),
            (
                "Connection error: connection closed remotely",
                "domain g-io-error-quark, code 44",
                true,
                FailureCode::ClosedByServer,
            ),
            (
                "Failed to connect: 'connect' cmd failed: connection closed remotely",
                "domain g-io-error-quark, code 0",
                false,
                FailureCode::Rejected,
            ),
            (
                "Failed to connect: Socket I/O timed out",
                "domain g-io-error-quark, code 24",
                false,
                FailureCode::Timeout,
            ),
            (
                "Failed to connect: publish denied; stream already exists: { \"code\": \"NetStream.Publish.BadName\" }",
                "domain g-io-error-quark, code 2",
                false,
                FailureCode::Rejected,
            ),
            (
                "Failed to connect: Could not connect to 10.255.255.1: Network is unreachable",
                "",
                false,
                FailureCode::Unreachable,
            ),
            (
                "Failed to connect: TLS handshake failed",
                "domain g-tls-error-quark, code 1",
                false,
                FailureCode::TlsFailed,
            ),
        ];
        for (message, debug, published, code) in table {
            let failure = explain(message, debug, &target(), published);
            assert_eq!(failure.code, code, "{message}");
        }
    }

    #[test]
    fn the_key_is_never_repeated() {
        for said in [
            "no such stream abcd-efgh?token=1",
            "no such stream abcd-efgh",
        ] {
            let failure = explain(said, "", &target(), false);
            assert!(
                !failure.message.contains("abcd-efgh"),
                "{}",
                failure.message
            );
        }
    }
}
