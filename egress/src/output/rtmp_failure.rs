//! What went wrong with an RTMP connection, as a code and in words that help.

use std::io;

use super::dial;
use crate::{
    link::{Failure, RtmpTarget},
    rtmp::Refusal,
    status::FailureCode,
};

/// Explains what the server said. `published` says whether it had accepted the stream before.
pub(super) fn refused(refusal: &Refusal, target: &RtmpTarget, published: bool) -> Failure {
    let (code, description) = match refusal {
        Refusal::NotRtmp => return no_rtmp(target),
        Refusal::Said { code, description } => (code, description),
    };
    let said = [code.as_str(), description.as_str()];
    let said = said.into_iter().filter(|part| !part.is_empty());
    let said = target.scrub(&said.collect::<Vec<_>>().join(": "));
    let said: String = said.chars().take(200).collect();
    let words = description.to_lowercase();
    let busy = words.contains("already") || words.contains("in use");
    let code = match (published, busy) {
        (true, _) => FailureCode::ClosedByServer,
        (false, true) => FailureCode::AlreadyPublishing,
        (false, false) => FailureCode::Rejected,
    };
    failure(code, target, &said)
}

/// Explains an error of the connection.
pub(super) fn broken(error: &io::Error, target: &RtmpTarget, published: bool) -> Failure {
    use io::ErrorKind as Kind;
    let closed = matches!(
        error.kind(),
        Kind::UnexpectedEof | Kind::ConnectionReset | Kind::BrokenPipe | Kind::ConnectionAborted
    );
    if error.get_ref().is_some_and(|e| e.is::<rustls::Error>()) {
        return failure(FailureCode::TlsFailed, target, &error.to_string());
    }
    let code = match (closed, published) {
        (true, true) => FailureCode::ClosedByServer,
        // Before it accepts the stream, that is how many servers refuse it.
        (true, false) => FailureCode::Rejected,
        (false, true) if error.kind() == Kind::TimedOut => FailureCode::Stalled,
        (false, _) => dial::code(error),
    };
    let said = if closed {
        "the connection was closed"
    } else {
        ""
    };
    failure(code, target, said)
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
        FailureCode::AlreadyPublishing => format!(
            "Somebody is sending with this key already{}. End the other one, or wait: a server may need a \
             minute to notice that an earlier connection is gone.",
            quoted(said)
        ),
        FailureCode::PrivateAddress => format!(
            "“{}” leads to a private or local address, where only the owner of this server may send to.",
            target.host
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
        FailureCode::PassphraseWrong
        | FailureCode::CodecUnsupported
        | FailureCode::DiskFull
        | FailureCode::NothingRecorded
        | FailureCode::WorkerDied
        | FailureCode::Overloaded
        | FailureCode::Internal => {
            format!("This output could not be sent{}.", quoted(said))
        }
    };
    Failure { code, message }
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

    fn said(code: &str, description: &str) -> Refusal {
        Refusal::Said {
            code: code.into(),
            description: description.into(),
        }
    }

    #[test]
    fn what_a_server_says_gets_its_code() {
        let table = [
            (
                "NetStream.Publish.BadName",
                "Already publishing",
                false,
                FailureCode::AlreadyPublishing,
            ),
            (
                "NetStream.Publish.BadName",
                "stream already exists",
                false,
                FailureCode::AlreadyPublishing,
            ),
            (
                "NetStream.Publish.BadName",
                "no such key",
                false,
                FailureCode::Rejected,
            ),
            (
                "NetConnection.Connect.InvalidApp",
                "",
                false,
                FailureCode::Rejected,
            ),
            (
                "NetStream.Unpublish",
                "kicked",
                true,
                FailureCode::ClosedByServer,
            ),
        ];
        for (code, description, published, expected) in table {
            let failure = refused(&said(code, description), &target(), published);
            assert_eq!(failure.code, expected, "{code}: {description}");
            assert!(failure.message.contains(code), "{}", failure.message);
        }
    }

    #[test]
    fn how_a_connection_breaks_gets_its_code() {
        use io::ErrorKind as Kind;
        let table = [
            (Kind::UnexpectedEof, false, FailureCode::Rejected),
            (Kind::ConnectionReset, true, FailureCode::ClosedByServer),
            (Kind::TimedOut, true, FailureCode::Stalled),
            (Kind::TimedOut, false, FailureCode::Timeout),
            (
                Kind::ConnectionRefused,
                false,
                FailureCode::ConnectionRefused,
            ),
            (Kind::NetworkUnreachable, false, FailureCode::Unreachable),
        ];
        for (kind, published, expected) in table {
            let failure = broken(&kind.into(), &target(), published);
            assert_eq!(failure.code, expected, "{kind:?}");
        }
    }

    #[test]
    fn the_key_is_never_repeated() {
        for text in [
            "no such stream abcd-efgh?token=1",
            "no such stream abcd-efgh",
        ] {
            let failure = refused(&said("x", text), &target(), false);
            assert!(
                !failure.message.contains("abcd-efgh"),
                "{}",
                failure.message
            );
        }
    }
}
