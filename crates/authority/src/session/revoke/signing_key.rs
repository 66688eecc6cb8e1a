//! Ending a signing key, which is replaced.

use tessera_core::{AuditAction, EventTarget, KeyId, KeyStatus, Seconds, SigningKey, Timestamp};
use tessera_policy::Permission;
use tessera_store::{Changes, PageRequest, SessionIndex};

use crate::{
    error::Unavailable,
    log::{
        cause::Cause,
        event::{signing_key_begins, signing_key_revoked},
    },
    session::{
        error::RevokeError,
        revoke::operation::{RevokeOperation, Revoked, STEP},
    },
    signing_key::lifecycle::new_key,
};

impl RevokeOperation<'_> {
    /// A revoked signing key is replaced in the same commit: the realm is never without one.
    pub(crate) async fn signing_key(&self, id: &KeyId) -> Result<Revoked, RevokeError> {
        self.sessions
            .shared
            .require(self.principal, &Permission::RevokeSigningKeys)?;
        let realm = self.principal.realm_name();
        let mut turn = self.sessions.signing_keys.turn_to_change_keys().await?;
        let old = self.sessions.signing_keys.in_use().record(id).cloned();
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
                &self.sessions.shared.server_keys.load(),
                self.now,
            );
            Some(key.map_err(|_| Unavailable::Defect("a new signing key can't be made"))?)
        } else {
            None
        };
        let access_ttl_max = self.principal.realm().limits.access_ttl_max;
        let changes = replaced(old, replacement, access_ttl_max, &self.cause());
        let placed = self.sessions.signing_keys.commit_keys(&mut turn, changes).await?;
        Ok(self.done(matched, &placed))
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
            let page = self.sessions.shared.store.sessions(&index, request).await?;
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

/// What is written when a key ends and, if it signed, another one signs in its place.
fn replaced(
    old: SigningKey,
    replacement: Option<SigningKey>,
    access_ttl_max: Seconds,
    cause: &Cause,
) -> Changes {
    // The key may have signed tokens under limits that were higher then.
    let until = cause.now.plus(access_ttl_max.max(old.token_ttl_max));
    let mut changes = Changes::default();
    if let Some(key) = &replacement {
        let action = AuditAction::SigningKeyCreated { key: key.id };
        changes.audit.push(cause.audit(action));
        changes.events.extend(signing_key_begins(key, cause.now, until));
    }
    let ended = signing_key_revoked(&old, cause.reason.clone(), cause.now, until);
    changes.events.push(ended);
    changes
        .audit
        .push(cause.record(EventTarget::SigningKey(old.id), 0));
    changes.signing_keys.extend(replacement);
    changes.signing_keys.push(SigningKey {
        status: KeyStatus::Revoked,
        not_after: Some(cause.now),
        ..old
    });
    changes
}

#[cfg(test)]
mod tests {
    use tessera_core::EventBody;

    use super::*;
    use crate::testing::{at, cause, counted, signing_key};

    /// Each event in one word, in order.
    fn events(changes: &Changes) -> Vec<&'static str> {
        let word = |body: &EventBody| match body {
            EventBody::KeyPublished { .. } => "published",
            EventBody::KeyActivated { .. } => "activated",
            EventBody::KeyRevoked { .. } => "revoked",
            other => panic!("{other:?}"),
        };
        changes.events.iter().map(|event| word(&event.body)).collect()
    }

    #[test]
    fn a_key_that_signs_is_replaced_in_the_same_commit() {
        let changes = replaced(signing_key(1), Some(signing_key(2)), Seconds::HOUR, &cause());
        assert_eq!(counted(&changes), "2 signing key, 3 event, 2 audit");
        // A verifier has the new key before it refuses the old one.
        assert_eq!(events(&changes), ["published", "activated", "revoked"]);
        let [new, old] = &changes.signing_keys[..] else {
            panic!("two keys are written")
        };
        assert_eq!((&new.id, new.status), (&signing_key(2).id, KeyStatus::Active));
        assert_eq!((&old.id, old.status), (&signing_key(1).id, KeyStatus::Revoked));
        assert_eq!(old.not_after, Some(at(0)));
    }

    #[test]
    fn a_key_that_does_not_sign_only_ends() {
        let changes = replaced(signing_key(1), None, Seconds::HOUR, &cause());
        assert_eq!(counted(&changes), "1 signing key, 1 event, 1 audit");
        assert_eq!(changes.events[0].note, "leaked");
        assert_eq!(
            changes.audit[0].action,
            cause()
                .record(EventTarget::SigningKey(signing_key(1).id), 0)
                .action
        );
    }

    #[test]
    fn the_end_is_remembered_for_as_long_as_the_longest_token_that_the_key_signed() {
        for (then, now, expected) in [
            (Seconds(60), Seconds::HOUR, 3600),
            (Seconds::HOUR, Seconds(60), 3600),
        ] {
            let old = SigningKey {
                token_ttl_max: then,
                ..signing_key(1)
            };
            let changes = replaced(old, None, now, &cause());
            assert_eq!(changes.events[0].tokens_until, at(expected));
        }
    }
}
