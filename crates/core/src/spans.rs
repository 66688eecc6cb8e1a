//! What spans of traces are told from log lines by.

/// The target of every span that tells a trace which part of a call took how long. They are for traces alone: no log
/// line has them, and none is made where nobody collects traces. A span holds counts and times, and no name that a
/// caller chose.
pub const SPANS: &str = "tessera_spans";
