//! Ending a signing key, which is replaced.

use tessera_core::{AuditAction, AuditRecord, EventTarget, KeyId, KeyStatus, SigningKey, Timestamp};
use tessera_policy::Permission;
use tessera_store::{Changes, PageRequest, SessionIndex};

use crate::{
    error::Unavailable,
    log::event::{signing_key_begins, signing_key_revoked},
    session::{
        error::RevokeError,
        revoke::{RevokeOperation, Revoked, STEP},
    },
    signing_key::lifecycle::new_key,
};

impl RevokeOperation<'_> {
    /// A revoked signing key is replaced in the same commit: the realm is never without one.
    pub(crate) async fn signing_key(&self, id: &KeyId) -> Result<Revoked, RevokeError> {
        self.authority
            .require(self.principal, &Permission::RevokeSigningKeys)?;
        let realm = self.principal.realm_name();
        let mut turn = self.authority.turn_to_change_keys().await?;
        let old = self.authority.keys.load().record(id).cloned();
        let Some(old) = old.filter(|key| key.realm == *realm && key.status != KeyStatus::Revoked) else {
            return Ok(self.nothing());
        };
        let matched = self.signed_with(&old).await?;
        if self.request.validate_only {
            return Ok(Revoked::of(matched, None));
        }
        let replacement = if old.status == KeyStatus::Active {
            let key = new_key(
                self.principal.realm(),
                &self.authority.server_keys.load(),
                self.now,
            );
            Some(key.map_err(|_| Unavailable::Defect("a new signing key can't be made"))?)
        } else {
            None
        };
        let changes = self.replaced(old, replacement);
        let placed = self.authority.commit_keys(&mut turn, changes).await?;
        Ok(self.done(matched, &placed))
    }

    fn replaced(&self, old: SigningKey, replacement: Option<SigningKey>) -> Changes {
        let longest = self
            .principal
            .realm()
            .limits
            .access_ttl_max
            .max(old.token_ttl_max);
        let until = self.now.plus(longest);
        let audit = self.audit(EventTarget::SigningKey(old.id.clone()), 0);
        let mut changes = Changes::default();
        if let Some(key) = &replacement {
            changes.audit.push(AuditRecord {
                action: AuditAction::SigningKeyCreated { key: key.id.clone() },
                ..audit.clone()
            });
            changes.events.extend(signing_key_begins(key, self.now, until));
        }
        let note = self.request.reason.clone();
        changes
            .events
            .push(signing_key_revoked(&old, note, self.now, until));
        changes.audit.push(audit);
        changes.signing_keys.extend(replacement);
        changes.signing_keys.push(SigningKey {
            status: KeyStatus::Revoked,
            not_after: Some(self.now),
            ..old
        });
        changes
    }

    /// Live sessions whose tokens the key may have signed: those that began before it was retired. Only the token
    /// itself says which key signed it.
    async fn signed_with(&self, key: &SigningKey) -> Result<u64, RevokeError> {
        let index = SessionIndex::Realm(key.realm.clone());
        let (mut matched, mut after) = (0, None);
        if key.status == KeyStatus::Published {
            // It has signed nothing yet.
            return Ok(0);
        }
        loop {
            let request = PageRequest { after, limit: STEP };
            let page = self.authority.store.sessions(index.clone(), request).await?;
            let retired_at = key.not_after.unwrap_or(Timestamp::MAX);
            let signed = page.items.iter();
            let signed = signed
                .filter(|stored| stored.session.created_at < retired_at && self.is_live(&stored.session));
            matched += signed.count() as u64;
            after = page.next;
            if after.is_none() {
                return Ok(matched);
            }
            tokio::task::yield_now().await;
        }
    }
}
