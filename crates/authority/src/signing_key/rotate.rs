//! Rotation: a signing key is published, the verifiers receive it, and then it signs. The one before retires, and is
//! removed when nothing that it signed is valid. Meanwhile no verifier refuses a valid token: each has the new key
//! before anything is signed with it, and the one before for as long as its tokens live.

use std::cmp::Reverse;

use tessera_core::{
    KeyId, KeyStatus, Realm, RealmName, Sequence, SigningKey, SubscriberName, Timestamp, audit::Actor,
};
use tessera_policy::Permission;
use tessera_store::Changes;

use crate::{
    error::Unavailable,
    principal::Principal,
    signing_key::{
        error::SigningKeyError,
        key_change::KeyChange,
        lifecycle::new_key,
        schedule::RotationStep,
        signing_keys::{KeyTurn, SigningKeys},
    },
};

/// A signing key, as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKeyState {
    /// Its id.
    pub id: KeyId,
    /// The realm.
    pub realm: RealmName,
    /// Its status.
    pub status: KeyStatus,
    /// When verifiers could first see it.
    pub published_at: Timestamp,
    /// When it began to sign; for a published one, the earliest time at which it may sign.
    pub not_before: Timestamp,
    /// Nothing that it signed is valid after this; for a revoked one, when it was revoked. `None` if it is published or
    /// active.
    pub not_after: Option<Timestamp>,
    /// Required verifiers that a published one waits for.
    pub waits_for: Vec<SubscriberName>,
}

impl SigningKeys {
    /// The signing keys of the caller's realm: the published one, the one that signs, then the others, newest first.
    ///
    /// # Errors
    /// Refuses callers that may not read them.
    pub fn list(&self, principal: &Principal) -> Result<Vec<SigningKeyState>, SigningKeyError> {
        self.shared.require(principal, &Permission::ReadSigningKeys)?;
        let realm = principal.realm_name();
        let keys = self.keys.load();
        let mut states: Vec<_> = keys
            .records()
            .filter(|key| key.realm == *realm)
            .map(|key| self.state_of(key))
            .collect();
        states.sort_by_key(|state| (rank(state.status), Reverse(state.published_at)));
        Ok(states)
    }

    /// Publishes a new signing key of the caller's realm, which signs once each required verifier has it and it was
    /// published for long enough; with `at_once`, now. If a key is published already, that one is returned again.
    ///
    /// # Errors
    /// See [`SigningKeyError`].
    pub async fn rotate_signing_key(
        &self,
        principal: &Principal,
        at_once: bool,
    ) -> Result<SigningKeyState, SigningKeyError> {
        self.shared.require(principal, &Permission::RotateSigningKeys)?;
        let mut turn = self.turn_to_change_keys().await?;
        let realm = principal.realm();
        let published = self.published_key(&realm.name);
        let id = match published {
            Some(key) if at_once => self.activate(&mut turn, &key.id, &principal.actor()).await?,
            Some(key) => key.id,
            None => {
                self.publish(&mut turn, realm, at_once, &principal.actor())
                    .await?
            }
        };
        let keys = self.keys.load();
        let key = keys.record(&id);
        let key = key.ok_or(Unavailable::Defect("a signing key that was just stored is gone"))?;
        Ok(self.state_of(key))
    }

    /// Performs the due steps with the signing keys of all realms: [`run_purging`](crate::Authority::run_purging) calls it every
    /// second.
    ///
    /// # Errors
    /// Fails if the store can't be written; the next call tries again.
    pub async fn advance_signing_keys(&self) -> Result<(), SigningKeyError> {
        let steps = || {
            self.shared
                .realms
                .values()
                .map(|realm| (realm, self.next_step(realm)))
        };
        // With a shared store, a turn takes a connection.
        if steps().all(|(_, step)| step == RotationStep::Wait) && !self.has_unused_change_of_keys() {
            return Ok(());
        }
        let mut turn = self.turn_to_change_keys().await?;
        for (realm, step) in steps() {
            match step {
                RotationStep::Wait => {}
                RotationStep::Publish => drop(self.publish(&mut turn, realm, false, &Actor::Operator).await?),
                RotationStep::Activate(id) => {
                    if !self.is_waited_for(&realm.name, &id).await? {
                        self.activate(&mut turn, &id, &Actor::Operator).await?;
                    }
                }
                RotationStep::Forget(ids) => self.forget_keys(&mut turn, ids).await?,
            }
        }
        Ok(())
    }

    fn next_step(&self, realm: &Realm) -> RotationStep {
        let keys = self.keys.load();
        let of_realm = keys.records().filter(|key| key.realm == realm.name);
        self.key_rotation
            .next_step(of_realm, self.shared.clock.now(), self.shared.clock.settled())
    }

    /// Whether a required verifier, at this node or another, may not have a published key yet.
    async fn is_waited_for(&self, realm: &RealmName, id: &KeyId) -> Result<bool, Unavailable> {
        let is_waited_for = self.waits_for(realm, id).is_some();
        Ok(is_waited_for || self.fence.others_are_behind(realm, self.published_at(id)).await?)
    }

    async fn publish(
        &self,
        turn: &mut KeyTurn<'_>,
        realm: &Realm,
        at_once: bool,
        actor: &Actor,
    ) -> Result<KeyId, SigningKeyError> {
        let now = self.shared.clock.now();
        let key = new_key(realm, &self.shared.server_keys.load(), now)?;
        let id = key.id;
        let change = KeyChange {
            realm: &realm.name,
            actor,
            now,
        };
        let changes = if at_once {
            change.begin(key, self.keys.load().records())
        } else {
            change.publish(key, self.key_rotation.publish_for)
        };
        let placed = self.commit_keys(turn, changes).await?;
        if let Some(position) = placed.last() {
            self.published.lock().insert(id, position);
        }
        tracing::info!(key = %id, realm = %realm.name, "a signing key is published");
        Ok(id)
    }

    async fn activate(
        &self,
        turn: &mut KeyTurn<'_>,
        id: &KeyId,
        actor: &Actor,
    ) -> Result<KeyId, SigningKeyError> {
        let key = self.keys.load().record(id).cloned();
        let key = key.ok_or(Unavailable::Defect("a published signing key is gone"))?;
        let realm = key.realm.clone();
        let change = KeyChange {
            realm: &realm,
            actor,
            now: self.shared.clock.now(),
        };
        let changes = change.activate(key, self.keys.load().records());
        self.commit_keys(turn, changes).await?;
        self.published.lock().remove(id);
        tracing::info!(key = %id, "a signing key signs from now on");
        Ok(*id)
    }

    async fn forget_keys(&self, turn: &mut KeyTurn<'_>, ids: Vec<KeyId>) -> Result<(), SigningKeyError> {
        tracing::info!(
            keys = ids.len(),
            "signing keys are forgotten: nothing that they signed is alive"
        );
        let changes = Changes {
            removed_signing_keys: ids,
            ..Changes::default()
        };
        self.commit_keys(turn, changes).await?;
        Ok(())
    }

    fn published_key(&self, realm: &RealmName) -> Option<SigningKey> {
        let keys = self.keys.load();
        keys.records()
            .find(|key| key.realm == *realm && key.status == KeyStatus::Published)
            .cloned()
    }

    /// The required verifiers that do not have the key yet; `None` if it may sign.
    fn waits_for(&self, realm: &RealmName, id: &KeyId) -> Option<Vec<SubscriberName>> {
        self.fence.behind(realm, self.published_at(id))
    }

    /// The position at which a key was published. After a restart it is not known: it is before this one, at least.
    fn published_at(&self, id: &KeyId) -> Sequence {
        let mut published = self.published.lock();
        *published.entry(*id).or_insert_with(|| self.shared.committed())
    }

    fn state_of(&self, key: &SigningKey) -> SigningKeyState {
        let waits_for = if key.status == KeyStatus::Published {
            self.waits_for(&key.realm, &key.id).unwrap_or_default()
        } else {
            Vec::new()
        };
        SigningKeyState {
            id: key.id,
            realm: key.realm.clone(),
            status: key.status,
            published_at: key.published_at,
            not_before: key.not_before,
            not_after: key.not_after,
            waits_for,
        }
    }
}

/// The rank of a key in the list.
fn rank(status: KeyStatus) -> u8 {
    match status {
        KeyStatus::Published => 0,
        KeyStatus::Active => 1,
        KeyStatus::Retired => 2,
        KeyStatus::Revoked => 3,
    }
}
