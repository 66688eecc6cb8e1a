//! Live sessions feel a policy: exactly those whose scopes shrink hear of it, and only of what they lose.
//!
//! Policy is asked once for each *kind* of session, which is everything that its answer depends on. So a
//! million sessions of a hundred kinds cost a hundred decisions.

use std::{
    collections::{BTreeMap, HashMap, hash_map::RandomState},
    hash::BuildHasher,
    iter::Sum,
    ops::AddAssign,
    sync::{Arc, PoisonError},
};

use tessera_core::{
    ClientName, EventBody, Family, FamilyId, PolicyRevision, Realm, RealmName, RevokeReason, RoleName,
    ScopeSet, Subject, Timestamp, family::PolicyEffect,
};
use tessera_policy::Policy;
use tessera_store::{NewEvent, PageRequest, StoreError, StoreExt, Transaction};

use crate::{Authority, grant::Bearer, refresh::session_revoked};

/// How many families are read in one step.
const READ_STEP: usize = 100;
/// How many families are changed in one commit: other commits wait for it.
const WRITE_STEP: usize = 50;
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
    pub(crate) async fn foresee(&self, policy: &Policy) -> Result<Settled, StoreError> {
        let mut walk = Walk::new(self, policy);
        while walk.next().await?.is_some() {}
        Ok(walk.settled)
    }

    /// Writes what live sessions feel, in steps between which others write.
    pub(crate) async fn let_sessions_feel(&self, policy: &Arc<Policy>) -> Result<Settled, StoreError> {
        let mut walk = Walk::new(self, policy);
        let mut touched = Vec::new();
        while let Some(more) = walk.next().await? {
            touched.extend(more);
            while touched.len() >= WRITE_STEP {
                let rest = touched.split_off(WRITE_STEP);
                self.change(policy, std::mem::replace(&mut touched, rest)).await?;
            }
        }
        if !touched.is_empty() {
            self.change(policy, touched).await?;
        }
        Ok(walk.settled)
    }

    async fn change(&self, policy: &Arc<Policy>, touched: Vec<Touched>) -> Result<(), StoreError> {
        let step = Step {
            policy: policy.revision().clone(),
            realms: self.realms.clone(),
            now: self.clock.now(),
        };
        self.store
            .transact(move |tx| touched.iter().try_for_each(|touched| step.feel(tx, touched)))
            .await
    }

    /// Whether it ended with its subject, client, binding or realm. One whose API key was revoked is
    /// itself revoked.
    fn has_ended(&self, family: &Family) -> bool {
        let revocations = self
            .store
            .revocations()
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        !revocations.is_empty() && revocations.revokes_family(family).is_some()
    }
}

/// A walk over all live sessions, a page at a time.
struct Walk<'a> {
    authority: &'a Authority,
    kinds: Kinds<'a>,
    settled: Settled,
    after: Option<FamilyId>,
    is_done: bool,
}

impl<'a> Walk<'a> {
    fn new(authority: &'a Authority, policy: &'a Policy) -> Self {
        Self {
            authority,
            kinds: Kinds::new(policy),
            settled: Settled::default(),
            after: None,
            is_done: false,
        }
    }

    /// Those of the next page that the policy changes; none after the last page.
    async fn next(&mut self) -> Result<Option<Vec<Touched>>, StoreError> {
        if self.is_done {
            return Ok(None);
        }
        let request = PageRequest {
            after: self.after,
            limit: READ_STEP,
        };
        let page = self.authority.store.all_families(request).await?;
        let now = self.authority.clock.now();
        let live = page.items.iter().filter(|family| family.is_live(now));
        let touched = live.filter_map(|family| self.touch(family)).collect();
        self.after = page.next;
        self.is_done = page.next.is_none();
        Ok(Some(touched))
    }

    fn touch(&mut self, family: &Family) -> Option<Touched> {
        let realm = self.authority.realms.get(&family.realm)?;
        if self.authority.has_ended(family) {
            return None;
        }
        let lost = self.kinds.lost(family);
        let effect = family.policy_effect(&lost, realm.on_policy_loss);
        self.settled.count(&family.realm, &effect);
        (effect != PolicyEffect::None).then_some(Touched { id: family.id, lost })
    }
}

/// A family that feels the policy, and all that the policy does not grant it. What that depends on never
/// changes while a session lives.
struct Touched {
    id: FamilyId,
    lost: Arc<ScopeSet>,
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
struct Kinds<'a> {
    policy: &'a Policy,
    hasher: RandomState,
    /// By the hash of the kind: the first family of each kind, and what they all lose. So that finding a
    /// kind copies nothing.
    lost: HashMap<u64, Vec<(Family, Arc<ScopeSet>)>>,
}

impl<'a> Kinds<'a> {
    fn new(policy: &'a Policy) -> Self {
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
        let lost = Arc::new(lost_by(self.policy, family));
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
