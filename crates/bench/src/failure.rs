//! Why there are no figures.

use std::fmt;

/// One line for the user at the terminal.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// `error` happened while doing `what`.
    pub(crate) fn at(what: impl fmt::Display, error: impl fmt::Display) -> Self {
        Self(format!("{what} failed: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
