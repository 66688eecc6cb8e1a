//! Apply: putting another policy in force, so that every request and every live session obeys it.
//!
//! 1. The policy is swapped: what is decided from here on is decided by it, and what was decided by the
//!    one before can't be committed any more (see [`Deciding`](crate::grant::Deciding)).
//! 2. `policy_applied` is committed, with the policy's files: decisions can be explained later.
//! 3. Live sessions are reconciled with it (`reconcile`). A crash in between loses nothing: the store knows which policy its
//!    sessions are reconciled with, and the next start goes on.

use std::{collections::BTreeMap, sync::Arc};

use tessera_core::{
    AuditAction, AuditRecord, EventBody, PolicyRevision, Realm, RealmName, Timestamp, audit::Actor,
};
use tessera_policy::Policy;
use tessera_store::{NewEvent, PolicyFiles, StoreError, StoreExt};

use crate::{
    Authority,
    error::ApplyError,
    reconcile::{Reconciled, SessionImpact},
};

/// The most bytes of files that are kept for explaining later what a policy decided.
const KEPT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What applying a policy came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The policy in force.
    pub policy: PolicyRevision,
    /// The one before; the same where nothing changed.
    pub previous: PolicyRevision,
    /// The impact on live sessions, by realm.
    pub impact: BTreeMap<RealmName, SessionImpact>,
}

impl Applied {
    /// Whether another policy is in force than before.
    #[must_use]
    pub fn is_change(&self) -> bool {
        self.policy != self.previous
    }

    /// The impact on live sessions of all realms.
    #[must_use]
    pub fn total(&self) -> SessionImpact {
        self.impact.values().copied().sum()
    }
}

impl Authority {
    /// Puts a policy in force. Once this has answered, live sessions are reconciled with it. The caller holds
    /// `policy_changes`.
    pub(crate) async fn apply(&self, policy: Arc<Policy>, actor: &Actor) -> Result<Applied, ApplyError> {
        self.check_realms(&policy)?;
        let previous = self.policy().revision().clone();
        let revision = policy.revision().clone();
        if revision == previous && self.store.reconciled_policy().await?.as_ref() == Some(&revision) {
            return Ok(Applied {
                policy: revision,
                previous,
                impact: BTreeMap::new(),
            });
        }
        if revision != previous {
            self.policy.store(policy);
        }
        self.announce(actor).await?;
        let impact = self.reconcile(actor).await?;
        tracing::info!(
            policy = %revision,
            %previous,
            narrowed = impact.total().narrowed,
            ended = impact.total().ended,
            "policy applied"
        );
        Ok(Applied {
            policy: revision,
            previous,
            impact: impact.by_realm,
        })
    }

    /// A realm that is served must be known to the policy.
    pub(crate) fn check_realms(&self, policy: &Policy) -> Result<(), ApplyError> {
        match realm_unknown(policy, &self.realms) {
            Some(realm) => Err(ApplyError::RealmUnknown { realm: realm.clone() }),
            None => Ok(()),
        }
    }

    /// Says in the log and the audit trail which policy is in force, and keeps its files.
    pub(crate) async fn announce(&self, actor: &Actor) -> Result<(), StoreError> {
        let policy = self.policy();
        if !policy.is_compiled() {
            tracing::warn!(
                policy = %policy.revision(),
                "casbin itself answers, which is slow: the model is not the compiled one"
            );
        }
        let now = self.clock.now();
        let revision = policy.revision().clone();
        let files = files_to_keep(&policy);
        let each: Vec<_> = self
            .realms
            .values()
            .map(|realm| applied(realm, &revision, actor, now))
            .collect();
        self.store
            .transact(move |tx| {
                if let Some(files) = &files {
                    tx.put_policy(&revision, files)?;
                }
                for (audit, event) in &each {
                    tx.audit(audit)?;
                    tx.append(event.clone())?;
                }
                Ok(())
            })
            .await
    }

    /// Reconciles live sessions with the policy in force, and notes it.
    pub(crate) async fn reconcile(&self, actor: &Actor) -> Result<Reconciled, StoreError> {
        let policy = self.policy();
        let reconciled = self.update_sessions(&policy).await?;
        let (revision, now) = (policy.revision().clone(), self.clock.now());
        let records: Vec<_> = self
            .realms
            .keys()
            .map(|realm| {
                let impact = reconciled.by_realm.get(realm).copied().unwrap_or_default();
                AuditRecord {
                    at: now,
                    realm: realm.clone(),
                    actor: actor.clone(),
                    request: None,
                    action: AuditAction::SessionsReconciled {
                        policy: revision.clone(),
                        narrowed: impact.narrowed,
                        ended: impact.ended,
                    },
                }
            })
            .collect();
        self.store
            .transact(move |tx| {
                tx.put_reconciled_policy(&revision, now)?;
                records.iter().try_for_each(|record| tx.audit(record))
            })
            .await?;
        Ok(reconciled)
    }
}

/// A realm that is served and that the policy does not know.
pub(crate) fn realm_unknown<'a>(
    policy: &Policy,
    realms: &'a BTreeMap<RealmName, Arc<Realm>>,
) -> Option<&'a RealmName> {
    realms.keys().find(|realm| !policy.catalogue().has_realm(realm))
}

fn files_to_keep(policy: &Policy) -> Option<PolicyFiles> {
    let sources = policy.sources();
    if sources.byte_count() > KEPT_BYTES_MAX {
        tracing::warn!(
            policy = %policy.revision(),
            bytes = sources.byte_count(),
            "the policy is too large to be kept: what it decides can't be explained once it is replaced"
        );
        return None;
    }
    let files = sources.iter();
    Some(
        files
            .map(|(name, bytes)| (name.to_owned(), bytes.to_vec()))
            .collect(),
    )
}

fn applied(realm: &Realm, policy: &PolicyRevision, actor: &Actor, now: Timestamp) -> (AuditRecord, NewEvent) {
    let audit = AuditRecord {
        at: now,
        realm: realm.name.clone(),
        actor: actor.clone(),
        request: None,
        action: AuditAction::PolicyApplied {
            policy: policy.clone(),
        },
    };
    let until = now.plus(realm.limits.access_ttl_max);
    let event = NewEvent {
        occurred_at: now,
        tokens_until: until,
        sessions_until: until,
        realm: realm.name.clone(),
        note: String::new(),
        body: EventBody::PolicyApplied {
            policy: policy.clone(),
        },
    };
    (audit, event)
}
