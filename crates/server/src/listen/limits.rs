//! Bounds of a socket.

use std::time::Duration;

/// Bounds of a socket.
#[derive(Clone, Debug)]
pub(crate) struct SocketLimits {
    /// How many connections there may be at once; further ones wait in the listener's backlog, unless an idle
    /// one can be ended for them.
    pub(crate) connections_max: usize,
    pub(crate) connections_per_address_max: usize,
    pub(crate) streams_per_connection_max: u32,
    pub(crate) connection_idle_max: Duration,
    /// The same if no client was authenticated on the connection.
    pub(crate) stranger_idle_max: Duration,
    pub(crate) answer_time_max: Duration,
}
