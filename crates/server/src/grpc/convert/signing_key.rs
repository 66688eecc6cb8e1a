//! `SigningKeyService` from the wire and back.

use tessera_authority::SigningKeyState;
use tessera_proto::v1;

use super::{key::key_status, time::timestamp};
use crate::error::ApiError;

/// Whether the new key signs at once. There is no default.
pub(crate) fn activates_at_once(wire: &v1::RotateSigningKeyRequest) -> Result<bool, ApiError> {
    match wire.activation() {
        v1::Activation::WhenKnown => Ok(false),
        v1::Activation::AtOnce => Ok(true),
        v1::Activation::Unspecified => {
            let problem = "must be chosen: when known, or at once";
            Err(ApiError::invalid_field("activation", problem))
        }
    }
}

pub(crate) fn signing_key(key: &SigningKeyState) -> v1::SigningKey {
    v1::SigningKey {
        kid: key.id.to_string(),
        realm: key.realm.to_string(),
        status: key_status(key.status).into(),
        publish_time: Some(timestamp(key.published_at)),
        not_before: Some(timestamp(key.not_before)),
        not_after: key.not_after.map(timestamp),
        waits_for: key.waits_for.iter().map(ToString::to_string).collect(),
    }
}
