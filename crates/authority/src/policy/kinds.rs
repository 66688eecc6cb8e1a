//! Kinds of sessions: policy is evaluated once for each.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    sync::Arc,
};

use tessera_core::{ClientName, RealmName, RoleName, ScopeSet, Session, Subject};
use tessera_policy::Policy;

use crate::issuance::scopes::Bearer;

/// How many kinds are remembered; if every session is of its own kind, remembering them does not help.
const KINDS_MAX: usize = 100_000;

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
pub(crate) struct Kinds {
    policy: Arc<Policy>,
    hasher: RandomState,
    /// By the hash of the kind: the first session of each kind, and what they all lose. This way, finding a kind copies
    /// nothing.
    lost: HashMap<u64, Vec<(Session, Arc<ScopeSet>)>>,
}

impl Kinds {
    pub(crate) fn new(policy: Arc<Policy>) -> Self {
        Self {
            policy,
            hasher: RandomState::new(),
            lost: HashMap::new(),
        }
    }

    pub(crate) fn lost(&mut self, session: &Session) -> Arc<ScopeSet> {
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
