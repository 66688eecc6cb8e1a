//! The paths of its methods.

/// Answers with the requested padding.
pub(super) const ECHO: &str = "/tessera.bench.Echo/Echo";
/// The same, after it sent an event to every subscriber.
pub(super) const BROADCAST: &str = "/tessera.bench.Echo/Broadcast";
/// Streams events.
pub(super) const SUBSCRIBE: &str = "/tessera.bench.Echo/Subscribe";
