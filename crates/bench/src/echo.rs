//! The baseline: a bare tonic server with one echo and one fan-out, as tonic's own generator would have
//! written it.

pub(crate) mod client;
pub(crate) mod server;

/// Answers with the padding asked for.
const ECHO: &str = "/tessera.bench.Echo/Echo";
/// The same, after it sent an event to every subscriber.
const BROADCAST: &str = "/tessera.bench.Echo/Broadcast";
/// Streams events.
const SUBSCRIBE: &str = "/tessera.bench.Echo/Subscribe";
