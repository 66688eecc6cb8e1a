//! The baseline: a bare tonic server with one echo and one fan-out, in the form that tonic's own generator writes.

pub(crate) mod client;
pub(crate) mod server;

/// Answers with the requested padding.
const ECHO: &str = "/tessera.bench.Echo/Echo";
/// The same, after it sent an event to every subscriber.
const BROADCAST: &str = "/tessera.bench.Echo/Broadcast";
/// Streams events.
const SUBSCRIBE: &str = "/tessera.bench.Echo/Subscribe";
