//! Restore: starting again with a data directory that was restored from a copy.
//!
//! The copy does not know what was issued and revoked after it was made. Revoked credentials must not become valid
//! again, and issued ones must be revocable. So all sessions and tokens end, in the first commit of a log of its own
//! (see `open_restored` of the store). A signing key may have been revoked since: its holder could sign tokens that
//! no revocation reaches. So each is revoked in the same commit, and replaced. API keys may have been revoked, too;
//! their services can't receive new ones this way, so the operator who restores decides.

use std::{collections::BTreeMap, mem, ops::ControlFlow, sync::Arc};

use parking_lot::Mutex;
use tessera_core::{
    ApiKey, AuditAction, AuditRecord, EventBody, EventTarget, KeyStatus, Realm, RealmLimits, RealmName,
    Session, SigningKey, Timestamp, audit::Actor,
};
use tessera_store::{Changes, PageRequest, Store, StoreError};
use tessera_token::ServerKeys;

use crate::{
    error::SetupError,
    log::event::{api_key_revoked, sessions_revoked, signing_key_begins, signing_key_revoked},
    session::cutoff::Matched,
    signing_key::lifecycle::new_key,
};

/// The note in the audit trail and the log.
const NOTE: &str = "the data directory was restored from a copy";

/// How a restored directory starts again.
#[derive(Debug)]
pub struct Restoring<'a> {
    /// The served realms.
    pub realms: &'a [Realm],
    /// What seals the new signing keys.
    pub server_keys: &'a ServerKeys,
    /// Whether the API keys of the copy are revoked, too.
    pub revoke_api_keys: bool,
    /// The time.
    pub now: Timestamp,
}

/// The result of a restore.
#[derive(Debug)]
pub struct Restored {
    /// How many sessions ended in each realm of the copy, including realms that are not served now.
    pub sessions: BTreeMap<RealmName, u64>,
    /// The signing keys that were revoked.
    pub signing_keys: Vec<SigningKey>,
    /// The API keys of the copy that worked; revoked, if that was requested.
    pub api_keys: Vec<ApiKey>,
}

/// Ends all sessions, tokens and signing keys, in one commit. No other process may use the store at the same time.
///
/// # Errors
/// Nothing is written if it fails.
pub async fn end_everything(
    store: &Arc<dyn Store>,
    restoring: &Restoring<'_>,
) -> Result<Restored, SetupError> {
    let Restoring { realms, now, .. } = *restoring;
    let signing_keys = store.signing_keys().await?;
    let matched = count_sessions(store, of_copy(realms, &signing_keys, now), now).await?;
    let api_keys = working_api_keys(store, matched.keys(), now).await?;
    let restored = Restored {
        sessions: matched
            .iter()
            .map(|(realm, matched)| (realm.clone(), matched.live))
            .collect(),
        signing_keys: usable(signing_keys),
        api_keys,
    };
    let restore = RestoreCommit {
        realms,
        matched: &matched,
        revoked: &restored.signing_keys,
        api_keys: if restoring.revoke_api_keys {
            &restored.api_keys
        } else {
            &[]
        },
        now,
    };
    store.write(restore.changes(new_keys(restoring)?)).await?;
    Ok(restored)
}

/// What ends in every realm of the copy, before its sessions are counted. A realm that the configuration does not name
/// now may be served again later, and has a signing key from when it was served.
fn of_copy(realms: &[Realm], signing_keys: &[SigningKey], now: Timestamp) -> BTreeMap<RealmName, Matched> {
    let unserved = RealmLimits::default();
    let of_keys = signing_keys.iter().map(|key| (&key.realm, &unserved));
    let served = realms.iter().map(|realm| (&realm.name, &realm.limits));
    let of_each = of_keys
        .chain(served)
        .map(|(realm, limits)| (realm.clone(), Matched::starting_now(limits, now)));
    of_each.collect()
}

async fn count_sessions(
    store: &Arc<dyn Store>,
    begun: BTreeMap<RealmName, Matched>,
    now: Timestamp,
) -> Result<BTreeMap<RealmName, Matched>, StoreError> {
    let matched = Arc::new(Mutex::new(begun));
    let covering = Arc::clone(&matched);
    let cover = move |session: &Session| {
        if let Some(matched) = covering.lock().get_mut(&session.realm) {
            matched.live += u64::from(session.is_live(now));
            matched.cover(session, now);
        }
        ControlFlow::Continue(())
    };
    store.walk_sessions(Box::new(cover)).await?;
    let matched = mem::take(&mut *matched.lock());
    Ok(matched)
}

/// Every signing key that a verifier may still accept, of realms that are served or not.
fn usable(keys: Vec<SigningKey>) -> Vec<SigningKey> {
    keys.into_iter()
        .filter(|key| key.status != KeyStatus::Revoked)
        .collect()
}

async fn working_api_keys(
    store: &Arc<dyn Store>,
    realms: impl Iterator<Item = &RealmName>,
    now: Timestamp,
) -> Result<Vec<ApiKey>, StoreError> {
    let mut working = Vec::new();
    for realm in realms {
        let mut after = None;
        loop {
            let page = store.api_keys(realm, PageRequest { after, limit: 500 }).await?;
            working.extend(page.items.into_iter().filter(|key| key.works(now)));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    Ok(working)
}

/// A signing key for each realm that is served.
fn new_keys(restoring: &Restoring<'_>) -> Result<Vec<SigningKey>, SetupError> {
    let made = restoring
        .realms
        .iter()
        .map(|realm| new_key(realm, restoring.server_keys, restoring.now));
    made.collect()
}

/// The content of the commit.
struct RestoreCommit<'a> {
    realms: &'a [Realm],
    matched: &'a BTreeMap<RealmName, Matched>,
    revoked: &'a [SigningKey],
    api_keys: &'a [ApiKey],
    now: Timestamp,
}

impl RestoreCommit<'_> {
    /// `made` are the keys that sign from now on.
    fn changes(&self, made: Vec<SigningKey>) -> Changes {
        let mut changes = Changes::default();
        for (realm, matched) in self.matched {
            self.end_realm(realm, matched, &mut changes);
        }
        for key in self.revoked {
            self.revoke_key(key, &mut changes);
        }
        for key in made {
            let action = AuditAction::SigningKeyCreated { key: key.id };
            changes.audit.push(self.audit(&key.realm, action));
            let events = signing_key_begins(&key, self.now, self.until(&key.realm));
            changes.events.extend(events);
            changes.signing_keys.push(key);
        }
        for key in self.api_keys {
            self.revoke_api_key(key, &mut changes);
        }
        changes
    }

    fn end_realm(&self, realm: &RealmName, matched: &Matched, changes: &mut Changes) {
        changes
            .audit
            .push(self.revoked_audit(realm, EventTarget::Realm, matched.live));
        changes.events.push(sessions_revoked(
            realm,
            EventBody::RealmRevoked,
            NOTE.to_owned(),
            self.now,
            (matched.tokens_until, matched.sessions_until),
        ));
    }

    fn revoke_key(&self, key: &SigningKey, changes: &mut Changes) {
        let target = EventTarget::SigningKey(key.id);
        changes.audit.push(self.revoked_audit(&key.realm, target, 0));
        let until = self.until(&key.realm);
        changes
            .events
            .push(signing_key_revoked(key, NOTE.to_owned(), self.now, until));
        changes.signing_keys.push(SigningKey {
            status: KeyStatus::Revoked,
            not_after: Some(self.now),
            ..key.clone()
        });
    }

    fn revoke_api_key(&self, key: &ApiKey, changes: &mut Changes) {
        let target = EventTarget::ApiKey(key.id);
        changes.audit.push(self.revoked_audit(&key.realm, target, 0));
        let until = self.until(&key.realm);
        changes
            .events
            .push(api_key_revoked(key, NOTE.to_owned(), self.now, until));
        changes.api_keys.push(ApiKey {
            revoked_at: Some(self.now),
            ..key.clone()
        });
    }

    /// When the last token ends that a key of the realm signed.
    fn until(&self, realm: &RealmName) -> Timestamp {
        let served = self.realms.iter().find(|served| served.name == *realm);
        let ttl_max = served.map_or(RealmLimits::default().access_ttl_max, |served| {
            served.limits.access_ttl_max
        });
        self.now.plus(ttl_max)
    }

    fn revoked_audit(&self, realm: &RealmName, target: EventTarget, matched: u64) -> AuditRecord {
        let reason = NOTE.to_owned();
        let action = AuditAction::Revoked {
            target,
            matched,
            reason,
        };
        self.audit(realm, action)
    }

    fn audit(&self, realm: &RealmName, action: AuditAction) -> AuditRecord {
        AuditRecord {
            at: self.now,
            realm: realm.clone(),
            actor: Actor::Operator,
            request: None,
            action,
        }
    }
}
