//! The progress of work, for a waiting user.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

/// A shorter wait needs no progress.
const AFTER: Duration = Duration::from_secs(2);
const INTERVAL: Duration = Duration::from_millis(200);

/// A line on a terminal's stderr that shows the progress. It is removed when this is dropped.
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
            // Moves to the beginning of the line, and clears it.
            write("\r\u{1b}[K");
        }
    }
}

/// If it can't be written, there is no other output.
fn write(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}
