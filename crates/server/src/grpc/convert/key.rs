//! `KeyService` from the wire and back.

use tessera_authority::PublishedKey;
use tessera_core::{KeyStatus, RealmName};
use tessera_proto::v1;

use super::time::timestamp;
use crate::{error::ApiError, fields::Fields};

/// The realm whose keys are listed, and the size of a page.
pub(crate) fn list_keys(wire: &v1::ListKeysRequest) -> Result<(Option<RealmName>, usize), ApiError> {
    let mut fields = Fields::default();
    let realm = fields.optional("realm", &wire.realm, RealmName::parse);
    let page_size = fields.page_size(wire.page_size);
    fields.finish(Some((realm, page_size)))
}

pub(crate) fn verifying_key(key: PublishedKey) -> v1::VerifyingKey {
    v1::VerifyingKey {
        kid: key.id.to_string(),
        paserk: key.paserk,
        realm: key.realm.to_string(),
        issuer: key.issuer,
        status: key_status(key.status).into(),
        not_before: Some(timestamp(key.not_before)),
        not_after: key.not_after.map(timestamp),
    }
}

pub(super) fn key_status(status: KeyStatus) -> v1::KeyStatus {
    match status {
        KeyStatus::Published => v1::KeyStatus::Published,
        KeyStatus::Active => v1::KeyStatus::Active,
        KeyStatus::Retired => v1::KeyStatus::Retired,
        KeyStatus::Revoked => v1::KeyStatus::Revoked,
    }
}
