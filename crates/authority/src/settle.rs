//! Live sessions feel a policy: exactly those whose scopes shrink hear of it, and only of what they lose.
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
    ClientName, Clock, EventBody, Family, FamilyId, PolicyRevision, Realm, RealmName, RevokeReason, RoleName,
    ScopeSet, Subject, Timestamp, family::PolicyEffect,
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

/// How many families are changed in one commit: other commits wait for it.
const WRITE_STEP: usize = 50;
/// How long a few that are touched wait for a call that has to write, too.
const PATIENCE_MAX: Duration = Duration::from_millis(100);
/// How many kinds are remembered; where every session is of its own kind, remembering helps nobody.
const KINDS_MAX: usize = 100_000;

/// What live sessions felt, or would feel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Felt {
    /// How many there are.
    pub live: u64,
    /// How many lost some of their scopes.
    pub narrowed: u64,
    /// How many ended.
    pub ended: u64,
}

impl AddAssign for Felt {
    fn add_assign(&mut self, other: Self) {
        self.live += other.live;
        self.narrowed += other.narrowed;
        self.ended += other.ended;
    }
}

impl Sum for Felt {
    fn sum<I: Iterator<Item = Self>>(each: I) -> Self {
        each.fold(Self::default(), |mut sum, felt| {
            sum += felt;
            sum
        })
    }
}

/// What all live sessions felt.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    pub(crate) by_realm: BTreeMap<RealmName, Felt>,
}

impl Settled {
    pub(crate) fn total(&self) -> Felt {
        self.by_realm.values().copied().sum()
    }

    fn count(&mut self, realm: &RealmName, effect: &PolicyEffect) {
        let felt = self.by_realm.entry(realm.clone()).or_default();
        felt.live += 1;
        match effect {
            PolicyEffect::None | PolicyEffect::Regains => {}
            PolicyEffect::Narrows(_) => felt.narrowed += 1,
            PolicyEffect::Ends => felt.ended += 1,
        }
    }
}

impl Authority {
    /// What live sessions would feel if `policy` were put in force.
    pub(crate) async fn foresee(
        &self,
        policy: &Arc<Policy>,
        running: Option<Running>,
    ) -> Result<Settled, StoreError> {
        self.walk(policy, None, running).await
    }

    /// Writes what live sessions feel, in steps between which others write.
    pub(crate) async fn let_sessions_feel(&self, policy: &Arc<Policy>) -> Result<Settled, StoreError> {
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
        let (settled, written) = tokio::join!(self.walk(policy, Some(touched), None), writing);
        written.and(settled)
    }

    /// Looks at all live sessions. Those that the policy changes go to `touched`. Where it runs for a caller who
    /// leaves, it ends before it has looked at all.
    async fn walk(
        &self,
        policy: &Arc<Policy>,
        touched: Option<TouchedSender>,
        running: Option<Running>,
    ) -> Result<Settled, StoreError> {
        let walk = Arc::new(Mutex::new(Walk::new(self, policy, touched, running)));
        let walking = Arc::clone(&walk);
        let see = move |family: &Family| lock(&walking).see(family);
        self.store.visit_families(Box::new(see)).await?;
        Ok(mem::take(&mut lock(&walk).settled))
    }

    /// Where few are touched, writing waits for a call that has to write, too.
    async fn change(
        &self,
        policy: &Arc<Policy>,
        touched: Vec<Touched>,
        hurry: &Arc<Notify>,
    ) -> Result<(), StoreError> {
        let step = Step {
            policy: policy.revision().clone(),
            realms: self.realms.clone(),
            now: self.clock.now(),
        };
        let are_few = touched.len() < WRITE_STEP;
        let feel =
            move |tx: &mut dyn Transaction| touched.iter().try_for_each(|touched| step.feel(tx, touched));
        let hurry = Arc::clone(hurry);
        let patience = async move {
            if are_few {
                let _ = timeout(PATIENCE_MAX, hurry.notified()).await;
            }
        };
        self.store.transact_patiently(Box::pin(patience), feel).await
    }
}

/// A walk over all live sessions.
struct Walk {
    realms: BTreeMap<RealmName, Arc<Realm>>,
    revocations: SharedRevocations,
    clock: Arc<dyn Clock>,
    kinds: Kinds,
    settled: Settled,
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
            settled: Settled::default(),
            touched,
            running,
        }
    }

    /// Breaks off where nobody takes those that are touched, or waits for the end.
    fn see(&mut self, family: &Family) -> ControlFlow<()> {
        if self
            .running
            .as_ref()
            .is_some_and(|running| running.work().is_over())
        {
            return ControlFlow::Break(());
        }
        match (self.touch(family), &self.touched) {
            (Some(found), Some(touched)) => touched.send(found),
            _ => ControlFlow::Continue(()),
        }
    }

    fn touch(&mut self, family: &Family) -> Option<Touched> {
        let realm = self.realms.get(&family.realm)?;
        if !family.is_live(self.clock.settled()) || self.has_ended(family) {
            return None;
        }
        let lost = self.kinds.lost(family);
        let effect = family.policy_effect(&lost, realm.on_policy_loss);
        self.settled.count(&family.realm, &effect);
        (effect != PolicyEffect::None).then_some(Touched { id: family.id, lost })
    }

    /// Whether it ended with its subject, client, binding or realm. One whose API key was revoked is
    /// itself revoked.
    fn has_ended(&self, family: &Family) -> bool {
        let revocations = self.revocations.read().unwrap_or_else(PoisonError::into_inner);
        !revocations.is_empty() && revocations.revokes_family(family).is_some()
    }
}

fn lock(walk: &Mutex<Walk>) -> MutexGuard<'_, Walk> {
    walk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A family that feels the policy, and all that the policy does not grant it. What that depends on never
/// changes while a session lives.
struct Touched {
    id: FamilyId,
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
    fn of(family: &'a Family) -> Self {
        Self {
            realm: &family.realm,
            client: &family.client,
            subject: &family.subject,
            roles: &family.roles,
            scopes: &family.scopes,
        }
    }
}

/// What each kind of session loses by a policy.
struct Kinds {
    policy: Arc<Policy>,
    hasher: RandomState,
    /// By the hash of the kind: the first family of each kind, and what they all lose. So that finding a
    /// kind copies nothing.
    lost: HashMap<u64, Vec<(Family, Arc<ScopeSet>)>>,
}

impl Kinds {
    fn new(policy: Arc<Policy>) -> Self {
        Self {
            policy,
            hasher: RandomState::new(),
            lost: HashMap::new(),
        }
    }

    fn lost(&mut self, family: &Family) -> Arc<ScopeSet> {
        if self.lost.len() >= KINDS_MAX {
            self.lost.clear();
        }
        let kind = Kind::of(family);
        let alike = self.lost.entry(self.hasher.hash_one(kind)).or_default();
        if let Some((_, lost)) = alike.iter().find(|(first, _)| Kind::of(first) == kind) {
            return Arc::clone(lost);
        }
        let lost = Arc::new(lost_by(&self.policy, family));
        alike.push((family.clone(), Arc::clone(&lost)));
        lost
    }
}

/// Those of the family's scopes that a policy does not grant.
fn lost_by(policy: &Policy, family: &Family) -> ScopeSet {
    let grant = Bearer::of_family(family).grant(policy, &family.scopes);
    family.scopes.minus(&grant.granted)
}

/// One commit of the walk.
struct Step {
    policy: PolicyRevision,
    realms: BTreeMap<RealmName, Arc<Realm>>,
    now: Timestamp,
}

impl Step {
    /// Asks the family again, which may have been refreshed or revoked meanwhile.
    fn feel(&self, tx: &mut dyn Transaction, touched: &Touched) -> Result<(), StoreError> {
        let Some(family) = tx.family(touched.id)?.filter(|family| family.is_live(self.now)) else {
            return Ok(());
        };
        let Some(realm) = self.realms.get(&family.realm) else {
            return Ok(());
        };
        if tx.revokes_family(&family).is_some() {
            return Ok(());
        }
        let lost = &touched.lost;
        match family.policy_effect(lost, realm.on_policy_loss) {
            PolicyEffect::None => Ok(()),
            PolicyEffect::Regains => tx.put_family(&family.without(lost.as_ref().clone())),
            PolicyEffect::Narrows(newly) => {
                tx.put_family(&family.without(lost.as_ref().clone()))?;
                let event = narrowed(&family, newly, &self.policy, self.now);
                tx.append(event).map(|_| ())
            }
            PolicyEffect::Ends => {
                let note = format!("policy {}", self.policy);
                let event = session_revoked(&family, RevokeReason::Policy, note, self.now);
                tx.put_family(&family.revoked(RevokeReason::Policy, self.now))?;
                tx.append(event).map(|_| ())
            }
        }
    }
}

fn narrowed(family: &Family, lost: ScopeSet, policy: &PolicyRevision, now: Timestamp) -> NewEvent {
    let until = family.tokens_until(now);
    NewEvent {
        occurred_at: now,
        tokens_until: until,
        families_until: until,
        realm: family.realm.clone(),
        note: String::new(),
        body: EventBody::ScopesNarrowed {
            family: family.id,
            client: family.client.clone(),
            audience: family.audience.clone(),
            lost,
            policy: policy.clone(),
        },
    }
}
