//! Messages to people, which are no answers: on stderr.

use std::io::{self, Write};

/// Prints one line for people on stderr. If that fails, there is no other output.
pub(crate) fn notice(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = writeln!(stderr, "{text}").and_then(|()| stderr.flush());
}
