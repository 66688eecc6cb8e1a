//! How far work is, for a person who waits.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

/// Whoever waits for less needs no progress.
const AFTER: Duration = Duration::from_secs(2);
const INTERVAL: Duration = Duration::from_millis(200);

/// A line on a terminal's stderr that says how far it is. Dropped, it goes.
pub(crate) struct Progress {
    is_terminal: bool,
    next_at: Instant,
    is_shown: bool,
}

impl Progress {
    pub(crate) fn begin() -> Self {
        Self {
            is_terminal: io::stderr().is_terminal(),
            next_at: Instant::now() + AFTER,
            is_shown: false,
        }
    }

    /// Shows the line, if it is time for one.
    pub(crate) fn show(&mut self, line: impl FnOnce() -> String) {
        let now = Instant::now();
        if !self.is_terminal || now < self.next_at {
            return;
        }
        self.next_at = now + INTERVAL;
        self.is_shown = true;
        write(&format!("\r{}", line()));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_shown {
            // To the beginning of the line, and nothing on it.
            write("\r\u{1b}[K");
        }
    }
}

/// Where it can't be written, nobody is left to tell.
fn write(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}
