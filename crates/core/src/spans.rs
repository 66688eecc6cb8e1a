//! Distinguishing spans of traces from log lines.

/// The target of every span that tells a trace how long a part of a call took. They are only for traces: no log line
/// has them, and none is made if no traces are collected. A span holds counts and times, and no name that a caller
/// chose.
pub const SPANS: &str = "tessera_spans";
