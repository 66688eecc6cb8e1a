//! Restored: beginning anew with a data directory that was put back from a copy.
//!
//! The copy does not know what was issued and revoked after it was made. What was revoked must not come back
//! to life, and what was issued must be revocable: so all sessions and tokens end, in the first commit of a
//! log of its own (see [`SledStore::open_restored`](tessera_store::SledStore::open_restored)).

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tessera_core::{
    AuditAction, AuditRecord, EventBody, EventTarget, Family, Realm, RealmName, Timestamp, audit::Actor,
};
use tessera_store::{NewEvent, Store, StoreError, StoreExt};

use crate::revoke::Matched;

/// Whether something was presented that only a later state of the data directory can have given.
#[derive(Debug, Default)]
pub(crate) struct PutBack(AtomicBool);

impl PutBack {
    /// Says so in the log, once: there may be many such tokens.
    pub(crate) fn note(&self, what: &str) {
        if !self.0.swap(true, Ordering::Relaxed) {
            tracing::error!(
                what,
                "the data directory is older than what it gave: it was put back from a copy. Stop, and run `tessera restored`, or revocations miss what was issued since"
            );
        }
    }
}

/// What the audit trail and the log say of it.
const NOTE: &str = "the data directory was put back from a copy";

/// Ends all sessions and tokens of `realms`, in one commit, and tells how many sessions lived in each.
/// Nobody else may use the store meanwhile.
///
/// # Errors
/// Nothing is written where it fails.
pub async fn end_everything(
    store: &Arc<dyn Store>,
    realms: &[Realm],
    now: Timestamp,
) -> Result<BTreeMap<RealmName, u64>, StoreError> {
    let begun = realms.iter().map(|realm| {
        let matched = Matched::beginning_now(&realm.limits, now);
        (realm.name.clone(), matched)
    });
    let matched = Arc::new(Mutex::new(begun.collect::<BTreeMap<_, _>>()));
    let covering = Arc::clone(&matched);
    let cover = move |family: &Family| {
        let mut matched = covering.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(matched) = matched.get_mut(&family.realm) {
            matched.live += u64::from(family.is_live(now));
            matched.cover(family, now);
        }
        ControlFlow::Continue(())
    };
    store.visit_families(Box::new(cover)).await?;
    let matched = std::mem::take(&mut *matched.lock().unwrap_or_else(PoisonError::into_inner));
    let live = matched
        .iter()
        .map(|(realm, matched)| (realm.clone(), matched.live))
        .collect();
    store
        .transact(move |tx| {
            matched.iter().try_for_each(|(realm, matched)| {
                tx.audit(&audited(realm, matched, now))?;
                tx.append(revoked(realm, matched, now)).map(|_| ())
            })
        })
        .await?;
    Ok(live)
}

fn revoked(realm: &RealmName, matched: &Matched, now: Timestamp) -> NewEvent {
    NewEvent {
        occurred_at: now,
        tokens_until: matched.tokens_until,
        families_until: matched.families_until,
        realm: realm.clone(),
        note: NOTE.to_owned(),
        body: EventBody::RealmRevoked,
    }
}

fn audited(realm: &RealmName, matched: &Matched, now: Timestamp) -> AuditRecord {
    AuditRecord {
        at: now,
        realm: realm.clone(),
        actor: Actor::Operator,
        request: None,
        action: AuditAction::Revoked {
            target: EventTarget::Realm,
            matched: matched.live,
            reason: NOTE.to_owned(),
        },
    }
}
