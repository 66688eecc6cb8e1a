//! Lengths of time on the wire.

use tessera_core::Seconds;

/// A duration in the form of the wire.
pub(crate) fn duration(length: Seconds) -> prost_types::Duration {
    prost_types::Duration {
        seconds: length.0.into(),
        nanos: 0,
    }
}
