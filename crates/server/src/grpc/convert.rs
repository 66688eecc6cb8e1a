//! From wire messages to the domain and back: one file for each service, and what several share.

use prost_types::{Duration as WireDuration, Timestamp as WireTimestamp};
use tessera_authority::{RevokeRequest, RevokeTarget, Revoked};
use tessera_core::{Scope, Seconds, Timestamp};
use tessera_proto::v1;

use crate::{error::ApiError, fields::Fields};

pub(crate) mod api_key;
pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod key;
pub(crate) mod policy;
pub(crate) mod revocation;
pub(crate) mod session;
pub(crate) mod signing_key;
pub(crate) mod token;

/// A request to revoke one thing, from the services that manage it.
pub(super) fn revoke_one(target: RevokeTarget, reason: &str) -> Result<RevokeRequest, ApiError> {
    let mut fields = Fields::default();
    let reason = fields.remark("reason", reason);
    fields.finish(Some(RevokeRequest {
        request_id: None,
        reason,
        validate_only: false,
        target,
        disables_client: false,
        with_made_keys: false,
    }))
}

/// The position of a revocation in the log; empty if nothing was revoked.
pub(crate) fn cursor_text(revoked: &Revoked) -> String {
    revoked
        .cursor
        .map_or_else(String::new, |cursor| cursor.to_string())
}

pub(super) fn denied_scopes(denied: Vec<(Scope, String)>) -> Vec<v1::DeniedScope> {
    denied
        .into_iter()
        .map(|(scope, reason)| v1::DeniedScope {
            scope: scope.to_string(),
            reason,
        })
        .collect()
}

pub(super) fn timestamp(time: Timestamp) -> WireTimestamp {
    let millis = time.as_millis().rem_euclid(1000);
    WireTimestamp {
        seconds: time.as_seconds(),
        nanos: i32::try_from(millis).unwrap_or(0) * 1_000_000,
    }
}

/// Whether it is a valid sub-second part of a time, or of a non-negative duration, by the well-known types of protobuf.
pub(super) fn are_nanos(nanos: i32) -> bool {
    (0..1_000_000_000).contains(&nanos)
}

/// A length of time in whole seconds that may be left out.
pub(super) fn seconds(fields: &mut Fields, field: &str, duration: Option<&WireDuration>) -> Option<Seconds> {
    let duration = duration?;
    match u32::try_from(duration.seconds) {
        Ok(seconds) if duration.nanos == 0 => Some(Seconds(seconds)),
        _ => {
            fields.reject(field, "must be a whole number of seconds, from 0 to 4294967295");
            None
        }
    }
}
