//! Everything that is logged, for tests of what must not be.

use std::{
    io::{self, Write},
    sync::{Mutex, PoisonError},
};

use tracing_subscriber::fmt::{MakeWriter, TestWriter};

static WRITTEN: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Shows what is logged as tests do, and keeps it.
#[derive(Clone, Copy)]
pub(crate) struct Log;

impl Log {
    /// Logs from here on, once for all tests of the process.
    pub(crate) fn start() {
        let _ = tracing_subscriber::fmt()
            .with_env_filter("egress=debug")
            .with_writer(Self)
            .with_ansi(false)
            .try_init();
    }

    /// Returns what was logged.
    pub(crate) fn text() -> String {
        let written = WRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&written).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = WRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
        written.extend_from_slice(bytes);
        TestWriter::default().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        *self
    }
}
