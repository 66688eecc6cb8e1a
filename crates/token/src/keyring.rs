//! The keys that verify access tokens: a fixed map, parsed once.

use std::{collections::HashMap, fmt, sync::Arc};

use pasetors::{keys::AsymmetricPublicKey, version4::V4};
use tessera_core::{KeyId, KeyStatus, RealmName, SigningKey, Timestamp};

use crate::{KeyError, key_id::public_key_id};

/// The verifying keys of one or several realms. It is immutable: a keyring with other keys is a new one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Keyring {
    keys: HashMap<KeyId, Arc<VerifyingKey>>,
}

/// The public half of a signing key, and whose tokens it verifies.
#[derive(Clone, PartialEq)]
pub struct VerifyingKey {
    id: KeyId,
    public: AsymmetricPublicKey<V4>,
    realm: RealmName,
    issuer: String,
    not_after: Option<Timestamp>,
}

impl VerifyingKey {
    /// Parses a PASERK `k4.public.…` that verifies the tokens of `realm`, whose `iss` is `issuer`, until
    /// `not_after`.
    ///
    /// # Errors
    /// Fails if `paserk` is not such a key.
    pub fn parse(
        paserk: &str,
        realm: RealmName,
        issuer: String,
        not_after: Option<Timestamp>,
    ) -> Result<Self, KeyError> {
        let error = KeyError {
            expected: "a PASERK `k4.public.…` of an Ed25519 key",
        };
        let public = AsymmetricPublicKey::<V4>::try_from(paserk).map_err(|_| error)?;
        let id = public_key_id(&public).ok_or(error)?;
        Ok(Self {
            id,
            public,
            realm,
            issuer,
            not_after,
        })
    }

    /// Its PASERK id, `k4.pid.…`.
    #[must_use]
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// The realm whose tokens it verifies.
    #[must_use]
    pub fn realm(&self) -> &RealmName {
        &self.realm
    }

    /// The `iss` of the tokens it verifies.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Whether it still verifies at `now`.
    #[must_use]
    pub fn verifies_at(&self, now: Timestamp) -> bool {
        self.not_after.is_none_or(|end| now <= end)
    }

    pub(crate) fn public(&self) -> &AsymmetricPublicKey<V4> {
        &self.public
    }
}

impl Keyring {
    /// The keyring of the records whose realm `issuer_of` knows; revoked keys are left out.
    ///
    /// # Errors
    /// Fails if a record's public half is not a key.
    pub fn from_records<'a>(
        records: impl IntoIterator<Item = &'a SigningKey>,
        issuer_of: impl Fn(&RealmName) -> Option<String>,
    ) -> Result<Self, KeyError> {
        let mut keyring = Self::default();
        for record in records
            .into_iter()
            .filter(|record| record.status != KeyStatus::Revoked)
        {
            let Some(issuer) = issuer_of(&record.realm) else {
                continue;
            };
            keyring.insert(VerifyingKey::parse(
                &record.public,
                record.realm.clone(),
                issuer,
                record.not_after,
            )?);
        }
        Ok(keyring)
    }

    /// Adds a key.
    pub fn insert(&mut self, key: VerifyingKey) {
        self.keys.insert(key.id, Arc::new(key));
    }

    /// The key with this id.
    #[must_use]
    pub fn get(&self, id: &KeyId) -> Option<&VerifyingKey> {
        self.shared(id).map(Arc::as_ref)
    }

    /// The same, for callers that keep it beside each token that it verified.
    pub(crate) fn shared(&self, id: &KeyId) -> Option<&Arc<VerifyingKey>> {
        self.keys.get(id)
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no key: nothing verifies.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({} of {})", self.id, self.realm)
    }
}
