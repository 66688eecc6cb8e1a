//! Apply: putting another policy in force, so that every request and every live session follows it.
//!
//! 1. One commit records it: the policy in force, its files (decisions can be explained later), `policy_applied`. From
//!    then on, decisions of an earlier policy can't be committed: each commit that grants scopes checks which policy is
//!    in force. So everything that an earlier policy granted comes before that event, and is among the sessions that
//!    are walked.
//! 2. The policy is swapped here: it makes all decisions from now on. In between, calls wait.
//! 3. Live sessions are reconciled with it. A crash in between loses nothing: the store knows which policy its sessions
//!    are reconciled with, and the next start continues.

use std::{collections::BTreeMap, sync::Arc};

use tessera_core::{AuditAction, AuditRecord, PolicyRevision, Realm, RealmName, audit::Actor};
use tessera_policy::Policy;
use tessera_store::{Changes, Decision, PolicyFiles, Reads, SettingChange, Snapshot, StoreError};

use crate::{
    error::Unavailable,
    log::event::policy_applied,
    policy::{applied::Applied, error::ApplyError, impact::Reconciled, policies::Policies},
};

/// The most bytes of files that are kept for explaining the decisions of a policy later.
const KEPT_BYTES_MAX: usize = 8 * 1024 * 1024;

impl Policies {
    /// Puts a policy in force instead of `previous`, which was in force when it was checked. Once this has returned,
    /// live sessions are reconciled with it. The caller holds `policy_changes`.
    pub(crate) async fn apply(
        &self,
        policy: Arc<Policy>,
        actor: &Actor,
        previous: PolicyRevision,
    ) -> Result<Applied, ApplyError> {
        self.check_realms(&policy)?;
        let revision = *policy.revision();
        if revision == previous && self.policy_reconciled().await?.as_ref() == Some(&revision) {
            return Ok(Applied {
                policy: revision,
                previous,
                impact: BTreeMap::new(),
            });
        }
        if !self.put_in_force(policy, actor, Some(&previous)).await? {
            return Err(Unavailable::PolicyChanging.into());
        }
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

    /// The policy must know every realm that is served.
    pub(crate) fn check_realms(&self, policy: &Policy) -> Result<(), ApplyError> {
        match realm_unknown(policy, &self.shared.realms) {
            Some(realm) => Err(ApplyError::RealmUnknown { realm: realm.clone() }),
            None => Ok(()),
        }
    }

    /// Records in the store which policy is in force, and decides by it from then on. If `instead_of` is no longer in
    /// force it changes nothing, and says so in its result: another node was first.
    pub(crate) async fn put_in_force(
        &self,
        policy: Arc<Policy>,
        actor: &Actor,
        instead_of: Option<&PolicyRevision>,
    ) -> Result<bool, StoreError> {
        if !policy.is_compiled() {
            tracing::warn!(
                policy = %policy.revision(),
                "casbin itself answers, which is slow: the model is not the compiled one"
            );
        }
        let now = self.shared.clock.now();
        let revision = policy.revision();
        let audit = self.shared.realms.keys().map(|realm| AuditRecord {
            at: now,
            realm: realm.clone(),
            actor: actor.clone(),
            request: None,
            action: AuditAction::PolicyApplied { policy: *revision },
        });
        let events = self
            .shared
            .realms
            .values()
            .map(|realm| policy_applied(realm, revision, now));
        let changes = Changes {
            policies: files_to_keep(&policy)
                .map(|files| (*revision, files))
                .into_iter()
                .collect(),
            settings: vec![SettingChange::PolicyInForce(*revision)],
            audit: audit.collect(),
            events: events.collect(),
            ..Changes::default()
        };
        let instead_of = instead_of.copied();
        let decide = move |state: &Snapshot| replace(state, instead_of.as_ref(), &changes);
        if !self.shared.store.commit(Reads::default(), decide).await?.0 {
            return Ok(false);
        }
        self.shared.swap_policy(policy);
        Ok(true)
    }

    /// The policy that all live sessions are reconciled with; `None` before the first.
    pub(crate) async fn policy_reconciled(&self) -> Result<Option<PolicyRevision>, StoreError> {
        let state = self.shared.store.read(Reads::default().settings()).await?;
        Ok(state.settings.and_then(|settings| settings.policy_reconciled))
    }

    /// Reconciles live sessions with the policy in force, and records it.
    pub(crate) async fn reconcile(&self, actor: &Actor) -> Result<Reconciled, StoreError> {
        let policy = self.shared.policy();
        let reconciled = self.update_sessions(&policy).await?;
        let (revision, now) = (*policy.revision(), self.shared.clock.now());
        let audit = self.shared.realms.keys().map(|realm| {
            let impact = reconciled.by_realm.get(realm).copied().unwrap_or_default();
            AuditRecord {
                at: now,
                realm: realm.clone(),
                actor: actor.clone(),
                request: None,
                action: AuditAction::SessionsReconciled {
                    policy: revision,
                    narrowed: impact.narrowed,
                    ended: impact.ended,
                },
            }
        });
        let changes = Changes {
            audit: audit.collect(),
            settings: vec![SettingChange::PolicyReconciled(revision, now)],
            ..Changes::default()
        };
        let decide = move |state: &Snapshot| {
            if state.policy_in_force() == Some(&revision) {
                Decision::Commit(changes.clone(), true)
            } else {
                Decision::Abort(false)
            }
        };
        if self.shared.store.commit(Reads::default(), decide).await?.0 {
            self.note_reconciled(Some(*policy.revision()));
        } else {
            tracing::info!(
                policy = %policy.revision(),
                "another node put another policy in force, and reconciles live sessions with that"
            );
        }
        Ok(reconciled)
    }
}

/// Replaces only the policy that was checked: the new one was not compared with any other.
fn replace(state: &Snapshot, instead_of: Option<&PolicyRevision>, changes: &Changes) -> Decision<bool> {
    match instead_of {
        Some(before) if state.policy_in_force() != Some(before) => Decision::Abort(false),
        _ => Decision::Commit(changes.clone(), true),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{line, revision, state};

    #[test]
    fn a_policy_replaces_the_one_that_it_was_checked_against() {
        let changes = Changes {
            settings: vec![SettingChange::PolicyInForce(revision(2))],
            ..Changes::default()
        };
        let none = Snapshot {
            policy: None,
            ..state()
        };
        let cases = [
            ("it is in force", state(), Some(revision(1)), "commit"),
            ("another node was first", state(), Some(revision(3)), "abort"),
            (
                "none is in force any more",
                none.clone(),
                Some(revision(1)),
                "abort",
            ),
            ("the first of all", none, None, "commit"),
            ("whatever is in force", state(), None, "commit"),
        ];
        for (name, state, instead_of, expected) in cases {
            let decision = replace(&state, instead_of.as_ref(), &changes);
            assert!(
                line(&decision).starts_with(expected),
                "{name}: {}",
                line(&decision)
            );
        }
    }
}
