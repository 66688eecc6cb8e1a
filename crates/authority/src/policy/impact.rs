//! The impact of a policy on live sessions.

use std::{collections::BTreeMap, iter::Sum, ops::AddAssign};

use tessera_core::{PolicyEffect, RealmName};

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

    pub(crate) fn count(&mut self, realm: &RealmName, effect: &PolicyEffect) {
        let impact = self.by_realm.entry(realm.clone()).or_default();
        impact.live += 1;
        match effect {
            PolicyEffect::None | PolicyEffect::Regains => {}
            PolicyEffect::Narrows(_) => impact.narrowed += 1,
            PolicyEffect::Ends => impact.ended += 1,
        }
    }
}
