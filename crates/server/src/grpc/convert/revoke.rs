//! Revoking one thing, in the services that manage such things.

use tessera_authority::{RevokeRequest, RevokeTarget, Revoked};

use crate::{error::ApiError, fields::Fields};

/// A request to revoke one thing, from the services that manage it.
pub(crate) fn revoke_one(target: RevokeTarget, reason: &str) -> Result<RevokeRequest, ApiError> {
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
