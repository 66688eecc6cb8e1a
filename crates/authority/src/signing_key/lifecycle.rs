//! The life of a signing key: how one is made.

use std::iter;

use tessera_core::{KeyStatus, Realm, RealmName, SigningKey, Timestamp, audit::Actor};
use tessera_store::Store;
use tessera_token::{ServerKeys, SigningKeyPair};

use crate::{error::SetupError, signing_key::key_change::KeyChange};

/// Whether a realm has a key that signs.
pub(crate) fn has_active_key(records: &[SigningKey], realm: &RealmName) -> bool {
    records
        .iter()
        .any(|key| key.realm == *realm && key.status == KeyStatus::Active)
}

/// A key for a realm, not stored yet.
pub(crate) fn new_key(
    realm: &Realm,
    server_keys: &ServerKeys,
    now: Timestamp,
) -> Result<SigningKey, SetupError> {
    let pair = SigningKeyPair::generate()?;
    pair.to_record(&realm.name, realm.limits.access_ttl_max, server_keys, now)
        .map_err(SetupError::WrongServerKey)
}

/// Makes a key that signs at once, and records it in the log and the audit trail.
pub(crate) async fn make_key(
    store: &dyn Store,
    realm: &Realm,
    server_keys: &ServerKeys,
    now: Timestamp,
) -> Result<SigningKey, SetupError> {
    let record = new_key(realm, server_keys, now)?;
    let change = KeyChange {
        realm: &realm.name,
        actor: &Actor::Operator,
        now,
    };
    store.write(change.begin(record.clone(), iter::empty())).await?;
    Ok(record)
}
