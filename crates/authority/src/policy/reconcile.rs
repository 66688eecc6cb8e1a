//! Reconciles live sessions with a policy: exactly those whose scopes shrink get an event, and only for the scopes that
//! they lose.
//!
//! Policy is evaluated once for each *kind* of session, which is everything that its answer depends on. So a million
//! sessions of a hundred kinds cost a hundred decisions.

use std::{collections::BTreeMap, mem, ops::ControlFlow, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tessera_core::{
    Clock, PolicyEffect, PolicyRevision, Realm, RealmName, RevokeReason, ScopeSet, Session, SessionId,
    Timestamp,
};
use tessera_policy::Policy;
use tessera_store::{Changes, Decision, Priority, Reads, Snapshot, Store, StoreError, StoredSession};
use tokio::sync::mpsc;

use crate::{
    heavy::Running,
    log::event::{scopes_narrowed, session_revoked},
    policy::{impact::Reconciled, kinds::Kinds, policies::Policies},
    shared::Shared,
};

/// How many sessions are changed in one commit: other commits wait for it.
const WRITE_STEP: usize = 50;
/// How long a small number of touched sessions waits for a call that has to write, too.
const DELAY_MAX: Duration = Duration::from_millis(100);

impl Policies {
    /// The impact on live sessions if `policy` were put in force.
    pub(crate) async fn preview(
        &self,
        policy: &Arc<Policy>,
        running: Option<Running>,
    ) -> Result<Reconciled, StoreError> {
        self.walk(policy, None, running).await
    }

    /// Writes what live sessions lose, in steps between which others write.
    pub(crate) async fn update_sessions(&self, policy: &Arc<Policy>) -> Result<Reconciled, StoreError> {
        // More are found while the earlier ones are written.
        let (touched, mut receiver) = mpsc::channel(WRITE_STEP);
        let writing = async move {
            let mut touched = Vec::new();
            while receiver.recv_many(&mut touched, WRITE_STEP).await > 0 {
                if !self.change(policy, mem::take(&mut touched)).await? {
                    break;
                }
            }
            Ok(())
        };
        let (reconciled, written) = tokio::join!(self.walk(policy, Some(touched), None), writing);
        written.and(reconciled)
    }

    /// Reads all live sessions. Those that the policy changes go to `touched`. If it runs for a caller that leaves, it
    /// ends before it has read all.
    async fn walk(
        &self,
        policy: &Arc<Policy>,
        touched: Option<mpsc::Sender<Touched>>,
        running: Option<Running>,
    ) -> Result<Reconciled, StoreError> {
        let walk = Arc::new(Mutex::new(Walk::new(&self.shared, policy, touched, running)));
        let walking = Arc::clone(&walk);
        let see = move |session: &Session| walking.lock().see(session);
        self.shared.store.walk_sessions(Box::new(see)).await?;
        Ok(mem::take(&mut walk.lock().reconciled))
    }

    /// Returns whether the policy is still in force; if not, another node has replaced it, and reconciles with its own.
    /// If few sessions are touched, writing waits for a call that has to write, too.
    async fn change(&self, policy: &Arc<Policy>, touched: Vec<Touched>) -> Result<bool, StoreError> {
        let priority = if touched.len() < WRITE_STEP {
            Priority::Background { max_delay: DELAY_MAX }
        } else {
            Priority::Foreground
        };
        let reads = Reads::default().sessions(touched.iter().map(|touched| touched.id));
        let commit = ReconcileCommit {
            policy: *policy.revision(),
            realms: self.shared.realms.clone(),
            now: self.shared.clock.now(),
            touched,
        };
        let decide = move |state: &Snapshot| commit.decide(state);
        let (is_in_force, _) = self.shared.store.commit_with(priority, reads, decide).await?;
        Ok(is_in_force)
    }
}

/// A walk over all live sessions.
struct Walk {
    realms: BTreeMap<RealmName, Arc<Realm>>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    kinds: Kinds,
    reconciled: Reconciled,
    touched: Option<mpsc::Sender<Touched>>,
    /// The slot of the caller that it runs for; `None` for the authority itself.
    running: Option<Running>,
}

impl Walk {
    fn new(
        shared: &Shared,
        policy: &Arc<Policy>,
        touched: Option<mpsc::Sender<Touched>>,
        running: Option<Running>,
    ) -> Self {
        Self {
            realms: shared.realms.clone(),
            store: Arc::clone(&shared.store),
            clock: Arc::clone(&shared.clock),
            kinds: Kinds::new(Arc::clone(policy)),
            reconciled: Reconciled::default(),
            touched,
            running,
        }
    }

    /// Stops if the receiver of touched sessions is gone, or if no caller waits for the result.
    fn see(&mut self, session: &Session) -> ControlFlow<()> {
        if self
            .running
            .as_ref()
            .is_some_and(|running| running.work().is_over())
        {
            return ControlFlow::Break(());
        }
        match (self.touch(session), &self.touched) {
            (Some(found), Some(touched)) => match touched.blocking_send(found) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            },
            _ => ControlFlow::Continue(()),
        }
    }

    fn touch(&mut self, session: &Session) -> Option<Touched> {
        let realm = self.realms.get(&session.realm)?;
        if !session.is_live(self.clock.settled()) || self.has_ended(session) {
            return None;
        }
        let lost = self.kinds.lost(session);
        let effect = session.policy_effect(&lost, realm.on_policy_loss);
        self.reconciled.count(&session.realm, &effect);
        (effect != PolicyEffect::None).then_some(Touched { id: session.id, lost })
    }

    /// Whether it ended with its subject, client, label or realm. A session whose API key was revoked is itself
    /// revoked.
    fn has_ended(&self, session: &Session) -> bool {
        self.store.log().ended_with_others(session).is_some()
    }
}

/// A session that the policy changes, and all scopes that the policy does not grant it. The session's part of that
/// decision never changes while it lives.
struct Touched {
    id: SessionId,
    lost: Arc<ScopeSet>,
}

/// One commit of the walk.
struct ReconcileCommit {
    policy: PolicyRevision,
    realms: BTreeMap<RealmName, Arc<Realm>>,
    now: Timestamp,
    touched: Vec<Touched>,
}

impl ReconcileCommit {
    /// Returns whether the policy is in force. Reads the sessions again, which may have been refreshed or revoked in
    /// the meantime.
    fn decide(&self, state: &Snapshot) -> Decision<bool> {
        if state.policy_in_force() != Some(&self.policy) {
            return Decision::Abort(false);
        }
        Decision::Commit(self.changes(state), true)
    }

    fn changes(&self, state: &Snapshot) -> Changes {
        let mut changes = Changes::default();
        for touched in &self.touched {
            if let Some(stored) = state.session(touched.id) {
                self.apply(stored, &touched.lost, &mut changes);
            }
        }
        changes
    }

    fn apply(&self, stored: &StoredSession, lost: &ScopeSet, changes: &mut Changes) {
        let session = &stored.session;
        let Some(realm) = self.realms.get(&session.realm) else {
            return;
        };
        if stored.ended.is_some() || !session.is_live(self.now) {
            return;
        }
        match session.policy_effect(lost, realm.on_policy_loss) {
            PolicyEffect::None => {}
            PolicyEffect::Regains => changes.sessions.push(Arc::new(session.without(lost.clone()))),
            PolicyEffect::Narrows(newly) => {
                changes.sessions.push(Arc::new(session.without(lost.clone())));
                changes
                    .events
                    .push(scopes_narrowed(session, newly, &self.policy, self.now));
            }
            PolicyEffect::Ends => {
                let note = format!("policy {}", self.policy);
                let event = session_revoked(session, RevokeReason::Policy, note, self.now);
                changes.events.push(event);
                let revoked = session.revoked(RevokeReason::Policy, self.now);
                changes.sessions.push(Arc::new(revoked));
            }
        }
    }
}

#[cfg(test)]
mod tests;
