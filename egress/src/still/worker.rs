//! The body of the decoding process.

use std::{
    io::{self, Write as _},
    os::{fd::AsFd as _, unix::net::UnixStream},
    process::ExitCode,
    sync::mpsc::{RecvTimeoutError, sync_channel},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use gstreamer as gst;

use super::decode::{self, Answer, Head};
use crate::{
    link,
    sandbox::{self, Reach},
};

/// Decodes pictures until the server closes the socket: the body of `fanlight still-worker`.
///
/// Standard input and output are a socket that the server made; nothing else may use it.
pub fn run_still_worker() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> anyhow::Result<()> {
    // What is decoded comes from strangers: it reaches no file and no network.
    let mut gaps = sandbox::close_in();
    let socket = io::stdin().as_fd().try_clone_to_owned();
    let mut socket = UnixStream::from(socket.context("take the socket")?);
    gst::init().context("initialise GStreamer")?;
    gaps.extend(sandbox::confine(&Reach::default()));
    for gap in gaps {
        eprintln!("a right could not be given up: {gap}");
    }
    let (working, watched) = sync_channel::<bool>(0);
    // A server that was killed does not end what hangs.
    thread::spawn(move || {
        let mut busy = false;
        loop {
            match watched.recv_timeout(STUCK) {
                Ok(now) => busy = now,
                Err(RecvTimeoutError::Timeout) if busy => std::process::exit(3),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    });
    let mut answer = link::encode_frame(&Answer::Picture, &[])?;
    loop {
        socket.write_all(&answer).context("answer")?;
        let Ok((head, body)) = link::read_frame::<Head>(&mut socket) else {
            return Ok(());
        };
        let _ = working.send(true);
        answer = match decode::run(&head, &body) {
            Ok(picture) => link::encode_frame(&Answer::Picture, &picture)?,
            Err(error) => {
                let reason = error.to_string();
                link::encode_frame(&Answer::Failed { reason }, &[])?
            }
        };
        let _ = working.send(false);
    }
}

const STUCK: Duration = Duration::from_secs(5);
