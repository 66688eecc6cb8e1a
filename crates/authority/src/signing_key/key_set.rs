//! The signing and verifying keys at one moment.

use std::{collections::BTreeMap, sync::Arc};

use sha2::{Digest, Sha256};
use tessera_core::{KeyId, KeyStatus, Realm, RealmName, SigningKey, Timestamp};
use tessera_token::{KeyError, Keyring, ServerKeys, SigningKeyPair};

/// The signing and verifying keys at one moment, parsed once.
pub(crate) struct KeySet {
    signers: BTreeMap<RealmName, SigningKeyPair>,
    keyring: Keyring,
    records: Vec<SigningKey>,
    digests: BTreeMap<RealmName, String>,
}

/// A verifying key as it is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedKey {
    /// Its PASERK id, `k4.pid.…`.
    pub id: KeyId,
    /// The key as PASERK, `k4.public.…`.
    pub paserk: String,
    /// The realm.
    pub realm: RealmName,
    /// The `iss` of the tokens it signs.
    pub issuer: String,
    /// Its status.
    pub status: KeyStatus,
    /// It signs nothing before this.
    pub not_before: Timestamp,
    /// Nothing that it signed is valid after this; for a revoked one, when it was revoked. `None` if it is published or
    /// active.
    pub not_after: Option<Timestamp>,
}

impl KeySet {
    /// Opens the records of the realms that are served.
    pub(crate) fn open(
        records: Vec<SigningKey>,
        realms: &BTreeMap<RealmName, Arc<Realm>>,
        server_keys: &ServerKeys,
    ) -> Result<Self, KeyError> {
        let records: Vec<_> = records
            .into_iter()
            .filter(|record| realms.contains_key(&record.realm))
            .collect();
        let keyring = Keyring::from_records(&records, |realm| {
            realms.get(realm).map(|realm| realm.issuer.clone())
        })?;
        let mut signers = BTreeMap::new();
        for record in records.iter().filter(|record| record.status == KeyStatus::Active) {
            signers.insert(record.realm.clone(), SigningKeyPair::unseal(record, server_keys)?);
        }
        let digests = realms
            .keys()
            .map(|realm| (realm.clone(), digest(realm, &records)))
            .collect();
        Ok(Self {
            signers,
            keyring,
            records,
            digests,
        })
    }

    pub(crate) fn signer(&self, realm: &RealmName) -> Option<&SigningKeyPair> {
        self.signers.get(realm)
    }

    pub(crate) fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = &SigningKey> + Clone {
        self.records.iter()
    }

    pub(crate) fn record(&self, id: &KeyId) -> Option<&SigningKey> {
        self.records.iter().find(|record| record.id == *id)
    }

    /// Changes whenever a realm's verifying keys change.
    pub(crate) fn digest(&self, realm: &RealmName) -> &str {
        self.digests.get(realm).map_or("", String::as_str)
    }
}

fn digest(realm: &RealmName, records: &[SigningKey]) -> String {
    let mut digest = Sha256::new();
    for record in records.iter().filter(|record| record.realm == *realm) {
        digest.update(format!(
            "{} {:?} {:?}\n",
            record.id, record.status, record.not_after
        ));
    }
    let digest: [u8; 32] = digest.finalize().into();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
