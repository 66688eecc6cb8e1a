//! What a step of a rotation writes: pure functions of the keys of a realm and the time.

use tessera_core::{
    AuditAction, AuditRecord, KeyStatus, RealmName, Seconds, SigningKey, Timestamp, audit::Actor,
};
use tessera_store::Changes;

use crate::log::event::{signing_key_activated, signing_key_begins, signing_key_published};

/// Who changes the signing keys of a realm, and when.
pub(crate) struct KeyChange<'a> {
    pub(crate) realm: &'a RealmName,
    pub(crate) actor: &'a Actor,
    pub(crate) now: Timestamp,
}

impl KeyChange<'_> {
    /// Publishes a new key, which may sign after `publish_for`.
    pub(crate) fn publish(&self, key: SigningKey, publish_for: Seconds) -> Changes {
        let key = SigningKey {
            status: KeyStatus::Published,
            not_before: self.now.plus(publish_for),
            ..key
        };
        Changes {
            audit: vec![self.created(&key)],
            events: vec![signing_key_published(&key, self.now, self.until(&key))],
            signing_keys: vec![key],
            ..Changes::default()
        }
    }

    /// Publishes a new key that signs at once. Those of `keys` that sign retire.
    pub(crate) fn begin<'k>(&self, key: SigningKey, keys: impl Iterator<Item = &'k SigningKey>) -> Changes {
        let mut signing_keys = self.retired(keys);
        let audit = vec![self.created(&key), self.activated(&key, &signing_keys)];
        let events = signing_key_begins(&key, self.now, self.until(&key)).into();
        signing_keys.push(key);
        Changes {
            audit,
            events,
            signing_keys,
            ..Changes::default()
        }
    }

    /// Makes a published key sign. Those of `keys` that sign retire.
    pub(crate) fn activate<'k>(
        &self,
        key: SigningKey,
        keys: impl Iterator<Item = &'k SigningKey>,
    ) -> Changes {
        let mut signing_keys = self.retired(keys);
        let audit = vec![self.activated(&key, &signing_keys)];
        let events = vec![signing_key_activated(&key, self.now, self.until(&key))];
        signing_keys.push(SigningKey {
            status: KeyStatus::Active,
            not_before: self.now.floor_to_second(),
            ..key
        });
        Changes {
            audit,
            events,
            signing_keys,
            ..Changes::default()
        }
    }

    /// The keys of the realm that sign now, with the state that they have once another signs.
    fn retired<'k>(&self, keys: impl Iterator<Item = &'k SigningKey>) -> Vec<SigningKey> {
        let active = keys.filter(|key| key.realm == *self.realm && key.status == KeyStatus::Active);
        active
            .map(|key| SigningKey {
                status: KeyStatus::Retired,
                not_after: Some(self.until(key)),
                ..key.clone()
            })
            .collect()
    }

    /// Until when a token can be valid that is signed with the key now.
    fn until(&self, key: &SigningKey) -> Timestamp {
        self.now.plus(key.token_ttl_max)
    }

    fn created(&self, key: &SigningKey) -> AuditRecord {
        self.record(AuditAction::SigningKeyCreated { key: key.id })
    }

    fn activated(&self, key: &SigningKey, retired: &[SigningKey]) -> AuditRecord {
        self.record(AuditAction::SigningKeyActivated {
            key: key.id,
            retired: retired.first().map(|key| key.id),
        })
    }

    fn record(&self, action: AuditAction) -> AuditRecord {
        AuditRecord {
            at: self.now,
            realm: self.realm.clone(),
            actor: self.actor.clone(),
            request: None,
            action,
        }
    }
}

#[cfg(test)]
mod tests;
