//! What went wrong with an RTMP connection, as a code and in words that help.

use std::io;

use super::dial;
use crate::{
    link::{Failure, RtmpTarget},
    rtmp::{Progress, Refusal},
    status::FailureCode,
};

/// Explains what the server said, which had gone along so far.
pub(super) fn refused(refusal: &Refusal, target: &RtmpTarget, progress: Progress) -> Failure {
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
    match (progress, busy) {
        (Progress::Published, _) => failure(FailureCode::ClosedByServer, target, &said),
        (_, true) => failure(FailureCode::AlreadyPublishing, target, &said),
        (_, false) => rejected(target, progress, &said),
    }
}

/// Explains an error of the connection with a server that had gone along so far.
pub(super) fn broken(error: &io::Error, target: &RtmpTarget, progress: Progress) -> Failure {
    use io::ErrorKind as Kind;
    let closed = matches!(
        error.kind(),
        Kind::UnexpectedEof | Kind::ConnectionReset | Kind::BrokenPipe | Kind::ConnectionAborted
    );
    if error.get_ref().is_some_and(|e| e.is::<rustls::Error>()) {
        return failure(FailureCode::TlsFailed, target, &error.to_string());
    }
    match (closed, progress) {
        (true, Progress::Published) => failure(FailureCode::ClosedByServer, target, CLOSED),
        // Before it accepts the stream, that is how many servers refuse it.
        (true, _) => rejected(target, progress, CLOSED),
        (false, Progress::Published) if error.kind() == Kind::TimedOut => {
            failure(FailureCode::Stalled, target, "")
        }
        (false, _) => failure(dial::code(error), target, ""),
    }
}

/// Explains that the server refused what it was asked for last.
fn rejected(target: &RtmpTarget, progress: Progress, said: &str) -> Failure {
    let words = quoted(said);
    let message = match progress {
        // Some platforms want their secrets in the query.
        Progress::Greeted => format!(
            "The server refused the application “{}”{words}, before it was told the key. Copy the server's URL again \
             from the platform's live settings: the application is what comes after the server's name.",
            target.application.split('?').next().unwrap_or_default()
        ),
        Progress::Connected => format!(
            "The server knows the application, and refused the stream{words}. Copy the key again from the platform's \
             live settings, and check that nothing else is sending with this key."
        ),
        Progress::Nothing | Progress::Published => {
            return failure(FailureCode::Rejected, target, said);
        }
    };
    Failure {
        code: FailureCode::Rejected,
        message,
    }
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

const CLOSED: &str = "the connection was closed";

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
            let progress = if published {
                Progress::Published
            } else {
                Progress::Connected
            };
            let failure = refused(&said(code, description), &target(), progress);
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
            let progress = if published {
                Progress::Published
            } else {
                Progress::Connected
            };
            let failure = broken(&kind.into(), &target(), progress);
            assert_eq!(failure.code, expected, "{kind:?}");
        }
    }

    #[test]
    fn what_was_asked_for_last_is_what_to_look_at() {
        let mut target = target();
        target.application = "app?secret=1".into();
        let closed = |progress| broken(&io::ErrorKind::UnexpectedEof.into(), &target, progress);
        let refused = |progress| {
            let no = said("NetConnection.Connect.Rejected", "no");
            refused(&no, &target, progress)
        };
        let of: [&dyn Fn(Progress) -> Failure; 2] = [&closed, &refused];
        for explain in of {
            let application = explain(Progress::Greeted);
            assert_eq!(application.code, FailureCode::Rejected);
            assert!(
                application.message.contains("the application “app”"),
                "{application:?}"
            );
            assert!(!application.message.contains("secret"), "{application:?}");
            assert!(
                !application.message.contains("Copy the key"),
                "{application:?}"
            );
            let key = explain(Progress::Connected);
            assert_eq!(key.code, FailureCode::Rejected);
            assert!(key.message.contains("Copy the key"), "{key:?}");
            assert_ne!(explain(Progress::Nothing).message, key.message);
        }
    }

    #[test]
    fn the_key_is_never_repeated() {
        for text in [
            "no such stream abcd-efgh?token=1",
            "no such stream abcd-efgh",
        ] {
            let failure = refused(&said("x", text), &target(), Progress::Connected);
            assert!(
                !failure.message.contains("abcd-efgh"),
                "{}",
                failure.message
            );
        }
    }
}
