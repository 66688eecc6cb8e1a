//! The server keys, which seal the signing keys: what needs which key, and how one key replaces another.
//!
//! The signing keys are the only data that is stored sealed. Refresh tokens, which clients hold, are encrypted with the
//! server key of their time, and each Refresh replaces a token by one of the current key. So an earlier key is needed
//! until the last of its tokens has gone idle.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use tessera_core::{
    AuditAction, AuditRecord, KeyStatus, Realm, RealmName, Seconds, SigningKey, Timestamp, audit::Actor,
};
use tessera_store::{Changes, StoreError};
use tessera_token::{ServerKeys, SigningKeyPair};

use crate::{
    error::{SetupError, Unavailable},
    signing_key::signing_keys::SigningKeys,
};

/// What the server keys are needed for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerKeyStatus {
    /// The id of the current one.
    pub current: String,
    /// How many signing keys it sealed.
    pub signing_keys: usize,
    /// The earlier ones.
    pub previous: Vec<PreviousServerKey>,
    /// Whether the files could not be used when they last changed.
    pub is_last_change_refused: bool,
}

/// What an earlier server key is needed for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviousServerKey {
    /// Its id.
    pub id: String,
    /// How many signing keys it sealed. None are left once the current one has sealed them.
    pub signing_keys: usize,
    /// Until when a refresh token that it encrypted may be used.
    pub refresh_tokens_until: Timestamp,
}

impl SigningKeys {
    /// What the server keys are needed for.
    #[must_use]
    pub fn server_key_status(&self) -> ServerKeyStatus {
        let (server_keys, keys) = (self.shared.server_keys.load(), self.keys.load());
        let sealed_with = |id: &str| keys.records().filter(|key| key.sealed_with == id).count();
        let current = server_keys.current().id();
        let since = keys.records().filter(|key| key.sealed_with == current);
        let since = since.map(|key| key.sealed_at).min();
        let idle = self
            .shared
            .realms
            .values()
            .map(|realm| realm.limits.idle_ttl)
            .max();
        let until = since
            .unwrap_or_else(|| self.shared.clock.now())
            .plus(idle.unwrap_or(Seconds::DAY));
        ServerKeyStatus {
            current: current.to_owned(),
            signing_keys: sealed_with(current),
            previous: server_keys
                .previous()
                .iter()
                .map(|key| PreviousServerKey {
                    id: key.id().to_owned(),
                    signing_keys: sealed_with(key.id()),
                    refresh_tokens_until: until,
                })
                .collect(),
            is_last_change_refused: self.server_keys_refused.load(Ordering::Relaxed),
        }
    }

    /// Whether these server keys are those in use, in this order.
    #[must_use]
    pub fn has_server_keys(&self, keys: &ServerKeys) -> bool {
        self.has_server_keys_of(keys.ids())
    }

    /// The same for the ids of keys, the current one first.
    pub fn has_server_keys_of<'a>(&self, ids: impl Iterator<Item = &'a str>) -> bool {
        self.shared.server_keys.load().ids().eq(ids)
    }

    /// The files of the server keys changed, and can't be used; or they can be used again.
    pub fn note_server_keys_refused(&self, is_refused: bool) {
        self.server_keys_refused.store(is_refused, Ordering::Relaxed);
    }

    /// Uses other server keys from now on, and seals with the current one what an earlier one sealed. Returns how many
    /// signing keys were sealed again.
    ///
    /// # Errors
    /// Fails if a needed server key is missing, or if the store can't be written: the keys from before stay in use.
    pub async fn replace_server_keys(&self, keys: ServerKeys) -> Result<usize, SetupError> {
        let mut turn = self.turn_to_change_keys().await.map_err(unavailable)?;
        let records = self.shared.store.signing_keys().await?;
        check_sealed(&records, &self.shared.realms, &keys)?;
        let signing_keys = reseal(&records, &keys, self.shared.clock.now());
        let resealed = signing_keys.len();
        let current = keys.current().id().to_owned();
        let before = self.shared.server_keys.swap(Arc::new(keys));
        let is_other = before.current().id() != current;
        let realms = self.shared.realms.keys().filter(|_| is_other);
        let changes = Changes {
            signing_keys,
            audit: replaced(realms, &current, self.shared.clock.now()),
            ..Changes::default()
        };
        if let Err(error) = self.commit_keys(&mut turn, changes).await {
            self.shared.server_keys.store(before);
            return Err(unavailable(error));
        }
        Ok(resealed)
    }
}

/// The records of another server key, one for each realm.
pub(crate) fn replaced<'a>(
    realms: impl Iterator<Item = &'a RealmName>,
    id: &str,
    at: Timestamp,
) -> Vec<AuditRecord> {
    let records = realms.map(|realm| AuditRecord {
        at,
        realm: realm.clone(),
        actor: Actor::Operator,
        request: None,
        action: AuditAction::ServerKeyReplaced {
            server_key: id.to_owned(),
        },
    });
    records.collect()
}

fn unavailable(error: Unavailable) -> SetupError {
    match error {
        Unavailable::Store(error) => SetupError::Store(error),
        error => SetupError::Store(StoreError::Failed {
            detail: error.to_string(),
        }),
    }
}

/// Refuses server keys if the key is missing that sealed a signing key which signs, or will sign.
pub(crate) fn check_sealed(
    records: &[SigningKey],
    realms: &BTreeMap<RealmName, Arc<Realm>>,
    server_keys: &ServerKeys,
) -> Result<(), SetupError> {
    let signs = |key: &SigningKey| {
        matches!(key.status, KeyStatus::Active | KeyStatus::Published) && realms.contains_key(&key.realm)
    };
    let lacks = |key: &SigningKey| server_keys.by_id(&key.sealed_with).is_none();
    let missing: Vec<_> = records.iter().filter(|key| signs(key) && lacks(key)).collect();
    let Some(first) = missing.first() else {
        return Ok(());
    };
    let of_first = missing.iter().filter(|key| key.sealed_with == first.sealed_with);
    Err(SetupError::ServerKeyMissing {
        id: first.sealed_with.clone(),
        signing_keys: of_first.count(),
    })
}

/// The records that the current server key did not seal, sealed by it. A record that no configured key opens stays as
/// it is: its realm is not served, or it no longer signs.
pub(crate) fn reseal(records: &[SigningKey], server_keys: &ServerKeys, now: Timestamp) -> Vec<SigningKey> {
    let resealed = records
        .iter()
        .map(|key| SigningKeyPair::reseal(key, server_keys, now));
    resealed.filter_map(Result::ok).flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use tessera_token::ServerKey;

    use super::*;
    use crate::testing::{at, realm};

    /// Server keys 1 to 3.
    fn key(number: usize) -> ServerKey {
        static KEYS: LazyLock<Vec<String>> = LazyLock::new(|| {
            let new = || ServerKey::generate().unwrap().to_paserk().to_string();
            (0..3).map(|_| new()).collect()
        });
        ServerKey::parse(&KEYS[number - 1]).unwrap()
    }

    fn keys(current: usize, previous: &[usize]) -> ServerKeys {
        ServerKeys::new(key(current), previous.iter().map(|number| key(*number)).collect())
    }

    fn sealed(by: usize, status: KeyStatus) -> SigningKey {
        let pair = SigningKeyPair::generate().unwrap();
        let record = pair
            .to_record(&realm().name, Seconds::HOUR, &keys(by, &[]), at(0))
            .unwrap();
        SigningKey { status, ..record }
    }

    /// How many signing keys need a server key that is gone: the first one.
    fn missing(records: &[SigningKey], keys: &ServerKeys) -> Option<usize> {
        let realms = BTreeMap::from([(realm().name, Arc::new(realm()))]);
        match check_sealed(records, &realms, keys) {
            Err(SetupError::ServerKeyMissing { id, signing_keys }) => {
                assert_eq!(id, key(1).id());
                Some(signing_keys)
            }
            Err(error) => panic!("{error}"),
            Ok(()) => None,
        }
    }

    #[test]
    fn which_server_keys_are_needed_as_a_table() {
        use KeyStatus::{Active, Published, Retired, Revoked};
        let of_another_realm = SigningKey {
            realm: RealmName::parse("gone").unwrap(),
            ..sealed(1, Active)
        };
        let two_of_three = vec![sealed(1, Active), sealed(2, Active), sealed(1, Published)];
        for (name, records, keys, expected) in [
            ("none is sealed", vec![], keys(2, &[]), None),
            ("by the current one", vec![sealed(2, Active)], keys(2, &[]), None),
            ("by an earlier one", vec![sealed(1, Active)], keys(2, &[1]), None),
            (
                "by one that is gone",
                vec![sealed(1, Active)],
                keys(2, &[3]),
                Some(1),
            ),
            (
                "one that signs later",
                vec![sealed(1, Published)],
                keys(2, &[]),
                Some(1),
            ),
            (
                "one that signs no more",
                vec![sealed(1, Retired)],
                keys(2, &[]),
                None,
            ),
            (
                "one that is revoked",
                vec![sealed(1, Revoked)],
                keys(2, &[]),
                None,
            ),
            (
                "of a realm that is gone",
                vec![of_another_realm],
                keys(2, &[]),
                None,
            ),
            ("two of three", two_of_three, keys(2, &[]), Some(2)),
        ] {
            assert_eq!(missing(&records, &keys), expected, "{name}");
        }
    }

    #[test]
    fn what_an_earlier_key_sealed_is_sealed_anew_and_is_otherwise_the_same() {
        let records = [
            sealed(1, KeyStatus::Active),
            sealed(2, KeyStatus::Active),
            sealed(1, KeyStatus::Retired),
            sealed(3, KeyStatus::Active),
        ];
        let resealed = reseal(&records, &keys(2, &[1]), at(60));
        let ids: Vec<_> = resealed.iter().map(|key| &key.id).collect();
        assert_eq!(ids, [&records[0].id, &records[2].id]);
        for (before, after) in [(&records[0], &resealed[0]), (&records[2], &resealed[1])] {
            assert_eq!(
                (after.sealed_with.as_str(), after.sealed_at),
                (key(2).id(), at(60))
            );
            SigningKeyPair::unseal(after, &keys(2, &[])).unwrap();
            let same = SigningKey {
                sealed_secret: before.sealed_secret.clone(),
                sealed_with: before.sealed_with.clone(),
                sealed_at: before.sealed_at,
                ..after.clone()
            };
            assert_eq!(same, *before);
        }
        assert!(reseal(&resealed, &keys(2, &[]), at(61)).is_empty());
    }
}
