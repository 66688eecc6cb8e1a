//! Ending a signing key, which is replaced.

use tessera_core::{
    AuditAction, AuditRecord, EventBody, EventTarget, KeyId, KeyStatus, SigningKey, Timestamp,
};
use tessera_policy::Permission;
use tessera_store::{NewEvent, PageRequest, SessionIndex, StoreExt, Transaction};
use tessera_token::SigningKeyPair;

use super::{RevokeOperation, Revoked, STEP};
use crate::error::{RevokeError, Unavailable};

impl RevokeOperation<'_> {
    /// A revoked signing key is replaced in the same commit: the realm is never without one.
    pub(super) async fn signing_key(&self, id: &KeyId) -> Result<Revoked, RevokeError> {
        self.authority
            .require(self.principal, &Permission::RevokeSigningKeys)?;
        let realm = self.principal.realm_name();
        let _alone = self.authority.key_changes.lock().await;
        let old = self.authority.keys.load().record(id).cloned();
        let Some(old) = old.filter(|key| key.realm == *realm && key.status != KeyStatus::Revoked) else {
            return Ok(self.nothing());
        };
        let matched = self.signed_with(&old).await?;
        if self.request.validate_only {
            return Ok(Revoked::of(matched, None));
        }
        let replacement = if old.status == KeyStatus::Active {
            let pair = SigningKeyPair::generate()?;
            let record = pair.to_record(realm, &self.authority.server_keys, self.now);
            Some(record.map_err(|_| Unavailable::Defect("a new signing key can't be sealed"))?)
        } else {
            None
        };
        let (note, now) = (self.request.reason.clone(), self.now);
        let until = now.plus(self.principal.realm().limits.access_ttl_max);
        let audit = self.audit(EventTarget::SigningKey(id.clone()), 0);
        let created = replacement.as_ref().map(|key| AuditRecord {
            action: AuditAction::SigningKeyCreated { key: key.id.clone() },
            ..audit.clone()
        });
        let sequence = self.authority.store.transact(move |tx| {
            tx.audit(&audit)?;
            if let (Some(key), Some(created)) = (&replacement, &created) {
                tx.audit(created)?;
                publish_key(tx, key, now, until)?;
            }
            let revoked = SigningKey {
                status: KeyStatus::Revoked,
                not_after: Some(now),
                ..old.clone()
            };
            tx.put_signing_key(&revoked)?;
            tx.append(NewEvent {
                note: note.clone(),
                ..key_event(
                    &revoked,
                    EventBody::KeyRevoked {
                        key: revoked.id.clone(),
                    },
                    now,
                    until,
                )
            })
        });
        let sequence = sequence.await?;
        self.authority.reload_keys().await?;
        Ok(self.done(matched, sequence))
    }

    /// Live sessions whose tokens the key may have signed: those that began before it was retired. Which key
    /// signed a token is noted in the token alone.
    async fn signed_with(&self, key: &SigningKey) -> Result<u64, RevokeError> {
        let index = SessionIndex::Realm(key.realm.clone());
        let (mut matched, mut after) = (0, None);
        loop {
            let request = PageRequest { after, limit: STEP };
            let page = self.authority.store.sessions(index.clone(), request).await?;
            let retired_at = key.not_after.unwrap_or(Timestamp::MAX);
            let signed = page.items.iter();
            let signed = signed.filter(|session| session.created_at < retired_at && self.is_live(session));
            matched += signed.count() as u64;
            after = page.next;
            if after.is_none() {
                return Ok(matched);
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Stores a new active signing key and says so in the log.
pub(crate) fn publish_key(
    tx: &mut dyn Transaction,
    key: &SigningKey,
    now: Timestamp,
    until: Timestamp,
) -> Result<(), tessera_store::StoreError> {
    tx.put_signing_key(key)?;
    tx.append(key_event(
        key,
        EventBody::KeyPublished { key: key.id.clone() },
        now,
        until,
    ))?;
    tx.append(key_event(
        key,
        EventBody::KeyActivated { key: key.id.clone() },
        now,
        until,
    ))?;
    Ok(())
}

fn key_event(key: &SigningKey, body: EventBody, now: Timestamp, until: Timestamp) -> NewEvent {
    NewEvent {
        occurred_at: now,
        tokens_until: until,
        sessions_until: until,
        realm: key.realm.clone(),
        note: String::new(),
        body,
    }
}
