//! Logs: lines for people on a terminal, JSON elsewhere if so set. `RUST_LOG` chooses what is logged.
//!
//! Every value is escaped, cut, and cleared of what has the shape of a secret, in one place: who calls may
//! have written it. So nobody makes a line of their own, or fills the log with one.

mod line;

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt};

use line::Lines;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines: one JSON document a line.
    Json,
}

/// Sends logs to stderr. Call it once, before anything is logged; `default_filter` holds unless
/// `RUST_LOG` is set.
pub fn init(format: LogFormat, default_filter: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default_filter));
    let lines = Lines {
        format,
        is_colored: std::io::stderr().is_terminal(),
    };
    // A second initialization fails; the first one stays, which is what its caller wanted.
    let _ = fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .event_format(lines)
        .try_init();
}
