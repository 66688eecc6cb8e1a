//! The commits of new API keys: pure functions of what the store has.

use tessera_core::{ApiKey, ApiKeyId, AuditAction, AuditRecord, Seconds, Timestamp, audit::Actor};
use tessera_store::{Changes, Decision, Snapshot, StoreError};

use crate::credential::error::ApiKeyError;

/// A new key that is about to be stored.
#[derive(Debug)]
pub(crate) struct CreateCommit {
    pub(crate) record: ApiKey,
    pub(crate) actor: Actor,
}

/// A key that is replaced.
#[derive(Debug)]
pub(crate) struct RollCommit {
    pub(crate) id: ApiKeyId,
    pub(crate) successor: ApiKey,
    /// How long the old key keeps working.
    pub(crate) overlap: Seconds,
    pub(crate) actor: Actor,
    pub(crate) now: Timestamp,
}

impl CreateCommit {
    pub(crate) fn decide(&self, state: &Snapshot) -> Decision<Result<(), ApiKeyError>> {
        if state.api_key(&self.record.id).is_some() {
            // The same eighty random bits occurred before: it is not safe to continue.
            return Decision::Abort(Err(StoreError::Failed {
                detail: "a new API key has the id of another".to_owned(),
            }
            .into()));
        }
        if !maker_works(state, &self.record) {
            return Decision::Abort(Err(ApiKeyError::CredentialEnded));
        }
        let action = AuditAction::ApiKeyCreated {
            api_key: self.record.id,
            client: self.record.client.clone(),
        };
        let changes = Changes {
            audit: vec![record_of(
                &self.record,
                self.record.created_at,
                &self.actor,
                action,
            )],
            api_keys: vec![self.record.clone()],
            ..Changes::default()
        };
        Decision::Commit(changes, Ok(()))
    }
}

impl RollCommit {
    /// The old key, as it is now.
    pub(crate) fn decide(&self, state: &Snapshot) -> Decision<Result<ApiKey, ApiKeyError>> {
        if !maker_works(state, &self.successor) {
            return Decision::Abort(Err(ApiKeyError::CredentialEnded));
        }
        let key = state.api_key(&self.id);
        let Some(old) = key.filter(|key| key.works(self.now) && key.successor.is_none()) else {
            return Decision::Abort(Err(ApiKeyError::Field {
                field: "id",
                problem: "names a key that was rolled, has expired or was revoked".to_owned(),
            }));
        };
        let end = old.expires_at.unwrap_or(Timestamp::MAX);
        let rolled = ApiKey {
            successor: Some(self.successor.id),
            expires_at: Some(end.min(self.now.plus(self.overlap))),
            ..old.clone()
        };
        let action = AuditAction::ApiKeyRolled {
            api_key: self.id,
            successor: self.successor.id,
        };
        let changes = Changes {
            api_keys: vec![rolled.clone(), self.successor.clone()],
            audit: vec![record_of(&self.successor, self.now, &self.actor, action)],
            ..Changes::default()
        };
        Decision::Commit(changes, Ok(rolled))
    }
}

/// Whether the key that makes `new` works: if it was revoked, or its client disabled, since its call was authenticated,
/// it makes nothing any longer.
fn maker_works(state: &Snapshot, new: &ApiKey) -> bool {
    let Some(maker) = &new.made_with else { return true };
    state.api_key(maker).is_some_and(|maker| {
        maker.works(new.created_at) && !state.client(&maker.realm, &maker.client).is_disabled
    })
}

fn record_of(key: &ApiKey, at: Timestamp, actor: &Actor, action: AuditAction) -> AuditRecord {
    AuditRecord {
        at,
        realm: key.realm.clone(),
        actor: actor.clone(),
        request: None,
        action,
    }
}

#[cfg(test)]
mod tests;
