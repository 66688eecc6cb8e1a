//! Reconciles live sessions with a policy: exactly those whose scopes shrink hear of it, and only of what they lose.
//!
//! Policy is asked once for each *kind* of session, which is everything that its answer depends on. So a
//! million sessions of a hundred kinds cost a hundred decisions.

use std::{
    collections::{BTreeMap, HashMap, hash_map::RandomState},
    hash::BuildHasher,
    iter::Sum,
    mem,
    ops::{AddAssign, ControlFlow},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tessera_core::{
    ClientName, Clock, EventBody, PolicyRevision, Realm, RealmName, RevokeReason, RoleName, ScopeSet,
    Session, SessionId, Subject, Timestamp, session::PolicyEffect,
};
use tessera_policy::Policy;
use tessera_store::{NewEvent, SharedRevocations, StoreError, StoreExt, Transaction};
use tokio::{
    sync::{
        Notify,
        mpsc::{self, error::TrySendError},
    },
    time::timeout,
};

use crate::{Authority, grant::Bearer, heavy::Running, refresh::session_revoked};

/// How many sessions are changed in one commit: other commits wait for it.
const WRITE_STEP: usize = 50;
/// How long a few that are touched wait for a call that has to write, too.
const PATIENCE_MAX: Duration = Duration::from_millis(100);
/// How many kinds are remembered; where every session is of its own kind, remembering helps nobody.
const KINDS_MAX: usize = 100_000;

/// The impact of a policy on live sessions, or a preview of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionImpact {
    /// How many there are.
    pub live: u64,
    /// How many lost some of their scopes.
    pub narrowed: u64,
    /// How many ended.
    pub ended: u64,
}

impl AddAssign for SessionImpact {
    fn add_assign(&mut self, other: Self) {
        self.live += other.live;
        self.narrowed += other.narrowed;
        self.ended += other.ended;
    }
}

impl Sum for SessionImpact {
    fn sum<I: Iterator<Item = Self>>(each: I) -> Self {
        each.fold(Self::default(), |mut sum, impact| {
            sum += impact;
            sum
        })
    }
}

/// The impact on all live sessions.
#[derive(Debug, Default)]
pub(crate) struct Reconciled {
    pub(crate) by_realm: BTreeMap<RealmName, SessionImpact>,
}

impl Reconciled {
    pub(crate) fn total(&self) -> SessionImpact {
        self.by_realm.values().copied().sum()
    }

    fn count(&mut self, realm: &RealmName, effect: &PolicyEffect) {
        let impact = self.by_realm.entry(realm.clone()).or_default();
        impact.live += 1;
        match effect {
            PolicyEffect::None | PolicyEffect::Regains => {}
            PolicyEffect::Narrows(_) => impact.narrowed += 1,
            PolicyEffect::Ends => impact.ended += 1,
        }
    }
}

impl Authority {
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
        // Some are found while those before are written.
        let (sender, mut receiver) = mpsc::channel(WRITE_STEP);
        let hurry = Arc::new(Notify::new());
        let touched = TouchedSender {
            sender,
            hurry: Arc::clone(&hurry),
        };
        let writing = async move {
            let mut touched = Vec::new();
            while receiver.recv_many(&mut touched, WRITE_STEP).await > 0 {
                self.change(policy, mem::take(&mut touched), &hurry).await?;
            }
            Ok(())
        };
        let (reconciled, written) = tokio::join!(self.walk(policy, Some(touched), None), writing);
        written.and(reconciled)
    }

    /// Looks at all live sessions. Those that the policy changes go to `touched`. Where it runs for a caller who
    /// leaves, it ends before it has looked at all.
    async fn walk(
        &self,
        policy: &Arc<Policy>,
        touched: Option<TouchedSender>,
        running: Option<Running>,
    ) -> Result<Reconciled, StoreError> {
        let walk = Arc::new(Mutex::new(Walk::new(self, policy, touched, running)));
        let walking = Arc::clone(&walk);
        let see = move |session: &Session| lock(&walking).see(session);
        self.store.visit_sessions(Box::new(see)).await?;
        Ok(mem::take(&mut lock(&walk).reconciled))
    }

    /// Where few are touched, writing waits for a call that has to write, too.
    async fn change(
        &self,
        policy: &Arc<Policy>,
        touched: Vec<Touched>,
        hurry: &Arc<Notify>,
    ) -> Result<(), StoreError> {
        let commit = ReconcileCommit {
            policy: policy.revision().clone(),
            realms: self.realms.clone(),
            now: self.clock.now(),
        };
        let are_few = touched.len() < WRITE_STEP;
        let apply =
            move |tx: &mut dyn Transaction| touched.iter().try_for_each(|touched| commit.apply(tx, touched));
        let hurry = Arc::clone(hurry);
        let patience = async move {
            if are_few {
                let _ = timeout(PATIENCE_MAX, hurry.notified()).await;
            }
        };
        self.store.transact_patiently(Box::pin(patience), apply).await
    }
}

/// A walk over all live sessions.
struct Walk {
    realms: BTreeMap<RealmName, Arc<Realm>>,
    revocations: SharedRevocations,
    clock: Arc<dyn Clock>,
    kinds: Kinds,
    reconciled: Reconciled,
    touched: Option<TouchedSender>,
    /// Whom it runs for, unless for the authority itself.
    running: Option<Running>,
}

impl Walk {
    fn new(
        authority: &Authority,
        policy: &Arc<Policy>,
        touched: Option<TouchedSender>,
        running: Option<Running>,
    ) -> Self {
        Self {
            realms: authority.realms.clone(),
            revocations: Arc::clone(authority.store.revocations()),
            clock: Arc::clone(&authority.clock),
            kinds: Kinds::new(Arc::clone(policy)),
            reconciled: Reconciled::default(),
            touched,
            running,
        }
    }

    /// Breaks off where nobody takes those that are touched, or waits for the end.
    fn see(&mut self, session: &Session) -> ControlFlow<()> {
        if self
            .running
            .as_ref()
            .is_some_and(|running| running.work().is_over())
        {
            return ControlFlow::Break(());
        }
        match (self.touch(session), &self.touched) {
            (Some(found), Some(touched)) => touched.send(found),
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

    /// Whether it ended with its subject, client, label or realm. One whose API key was revoked is
    /// itself revoked.
    fn has_ended(&self, session: &Session) -> bool {
        let revocations = self.revocations.read().unwrap_or_else(PoisonError::into_inner);
        !revocations.is_empty() && revocations.revokes_session(session).is_some()
    }
}

fn lock(walk: &Mutex<Walk>) -> MutexGuard<'_, Walk> {
    walk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A session that is changed by the policy, and all that the policy does not grant it. What that depends on never
/// changes while a session lives.
struct Touched {
    id: SessionId,
    lost: Arc<ScopeSet>,
}

/// Hands those that are touched to whoever writes, who is not to be patient where many wait or no more come.
struct TouchedSender {
    sender: mpsc::Sender<Touched>,
    hurry: Arc<Notify>,
}

impl TouchedSender {
    fn send(&self, touched: Touched) -> ControlFlow<()> {
        let sent = match self.sender.try_send(touched) {
            Err(TrySendError::Full(touched)) => {
                self.hurry.notify_one();
                self.sender.blocking_send(touched).is_ok()
            }
            sent => sent.is_ok(),
        };
        if sent {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    }
}

impl Drop for TouchedSender {
    fn drop(&mut self) {
        self.hurry.notify_one();
    }
}

/// Everything that policy's answer for a session depends on.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Kind<'a> {
    realm: &'a RealmName,
    client: &'a ClientName,
    subject: &'a Subject,
    roles: &'a [RoleName],
    scopes: &'a ScopeSet,
}

impl<'a> Kind<'a> {
    fn of(session: &'a Session) -> Self {
        Self {
            realm: &session.realm,
            client: &session.client,
            subject: &session.subject,
            roles: &session.roles,
            scopes: &session.scopes,
        }
    }
}

/// What each kind of session loses by a policy.
struct Kinds {
    policy: Arc<Policy>,
    hasher: RandomState,
    /// By the hash of the kind: the first session of each kind, and what they all lose. So that finding a
    /// kind copies nothing.
    lost: HashMap<u64, Vec<(Session, Arc<ScopeSet>)>>,
}

impl Kinds {
    fn new(policy: Arc<Policy>) -> Self {
        Self {
            policy,
            hasher: RandomState::new(),
            lost: HashMap::new(),
        }
    }

    fn lost(&mut self, session: &Session) -> Arc<ScopeSet> {
        if self.lost.len() >= KINDS_MAX {
            self.lost.clear();
        }
        let kind = Kind::of(session);
        let alike = self.lost.entry(self.hasher.hash_one(kind)).or_default();
        if let Some((_, lost)) = alike.iter().find(|(first, _)| Kind::of(first) == kind) {
            return Arc::clone(lost);
        }
        let lost = Arc::new(lost_by(&self.policy, session));
        alike.push((session.clone(), Arc::clone(&lost)));
        lost
    }
}

/// Those of the session's scopes that a policy does not grant.
fn lost_by(policy: &Policy, session: &Session) -> ScopeSet {
    let grant = Bearer::of_session(session).grant(policy, &session.scopes);
    session.scopes.minus(&grant.granted)
}

/// One commit of the walk.
struct ReconcileCommit {
    policy: PolicyRevision,
    realms: BTreeMap<RealmName, Arc<Realm>>,
    now: Timestamp,
}

impl ReconcileCommit {
    /// Asks the session again, which may have been refreshed or revoked meanwhile.
    fn apply(&self, tx: &mut dyn Transaction, touched: &Touched) -> Result<(), StoreError> {
        let Some(session) = tx
            .session(touched.id)?
            .filter(|session| session.is_live(self.now))
        else {
            return Ok(());
        };
        let Some(realm) = self.realms.get(&session.realm) else {
            return Ok(());
        };
        if tx.revokes_session(&session).is_some() {
            return Ok(());
        }
        let lost = &touched.lost;
        match session.policy_effect(lost, realm.on_policy_loss) {
            PolicyEffect::None => Ok(()),
            PolicyEffect::Regains => tx.put_session(&session.without(lost.as_ref().clone())),
            PolicyEffect::Narrows(newly) => {
                tx.put_session(&session.without(lost.as_ref().clone()))?;
                let event = narrowed(&session, newly, &self.policy, self.now);
                tx.append(event).map(|_| ())
            }
            PolicyEffect::Ends => {
                let note = format!("policy {}", self.policy);
                let event = session_revoked(&session, RevokeReason::Policy, note, self.now);
                tx.put_session(&session.revoked(RevokeReason::Policy, self.now))?;
                tx.append(event).map(|_| ())
            }
        }
    }
}

fn narrowed(session: &Session, lost: ScopeSet, policy: &PolicyRevision, now: Timestamp) -> NewEvent {
    let until = session.tokens_until(now);
    NewEvent {
        occurred_at: now,
        tokens_until: until,
        sessions_until: until,
        realm: session.realm.clone(),
        note: String::new(),
        body: EventBody::ScopesNarrowed {
            session: session.id,
            client: session.client.clone(),
            audience: session.audience.clone(),
            lost,
            policy: policy.clone(),
        },
    }
}
