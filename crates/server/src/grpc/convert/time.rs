//! Times, and lengths of time.

use prost_types::{Duration as WireDuration, Timestamp as WireTimestamp};
use tessera_core::{Seconds, Timestamp};

use crate::fields::Fields;

pub(crate) fn timestamp(time: Timestamp) -> WireTimestamp {
    let millis = time.as_millis().rem_euclid(1000);
    WireTimestamp {
        seconds: time.as_seconds(),
        nanos: i32::try_from(millis).unwrap_or(0) * 1_000_000,
    }
}

/// Whether it is a valid sub-second part of a time, or of a non-negative duration, by the well-known types of protobuf.
pub(crate) fn are_nanos(nanos: i32) -> bool {
    (0..1_000_000_000).contains(&nanos)
}

/// A length of time in whole seconds that may be left out.
pub(crate) fn seconds(fields: &mut Fields, field: &str, duration: Option<&WireDuration>) -> Option<Seconds> {
    let duration = duration?;
    match u32::try_from(duration.seconds) {
        Ok(seconds) if duration.nanos == 0 => Some(Seconds(seconds)),
        _ => {
            fields.reject(field, "must be a whole number of seconds, from 0 to 4294967295");
            None
        }
    }
}
