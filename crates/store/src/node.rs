//! Processes that share a store.

use std::{any::Any, collections::BTreeMap, fmt, time::Duration};

use tessera_core::{RealmName, Sequence};

/// Another process that writes to a shared store, or did lately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherNode {
    /// Its name, which it has until it ends.
    pub name: String,
    /// How long ago it proved that it is there. It answers nobody by what it proved longer ago than
    /// [`FRESH_FOR`](Self::FRESH_FOR).
    pub seen_before: Duration,
    /// How far it had applied the log then.
    pub applied: Sequence,
    /// What it says of its required subscribers, by realm. A realm in which it never had any is not named.
    pub realms: BTreeMap<RealmName, NodeFence>,
}

/// What a node says of its required subscribers in a realm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeFence {
    /// The longest time for which one goes on answering by what it knows.
    pub bound: Duration,
    /// Up to here all know the log, or refuse by themselves.
    pub through: Sequence,
}

impl OtherNode {
    /// For how long a node answers after it last proved that it is current.
    pub const FRESH_FOR: Duration = Duration::from_secs(3);

    /// Whether all its required subscribers in a realm have a position of the log, or refuse by themselves. Those of a node
    /// that is gone were answered last while that was current.
    #[must_use]
    pub fn has_reached(&self, realm: &RealmName, position: Sequence) -> bool {
        self.realms.get(realm).is_none_or(|fence| {
            let over_after = Self::FRESH_FOR.saturating_add(fence.bound);
            fence.through >= position || self.seen_before > over_after
        })
    }
}

/// Whoever has this does what only one process at a time may do.
#[derive(Default)]
pub struct Alone(Option<Box<dyn Any + Send>>);

impl Alone {
    /// Alone for as long as `held` is not dropped.
    #[must_use]
    pub fn holding(held: impl Any + Send) -> Self {
        Self(Some(Box::new(held)))
    }
}

impl fmt::Debug for Alone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Alone").field(&self.0.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_says_of_its_subscribers_as_a_table() {
        let realm = RealmName::parse("production").ok();
        let Some(realm) = realm else { return };
        let (bound, through) = (Duration::from_secs(20), Sequence(7));
        let node = |seen_before| OtherNode {
            name: "one".to_owned(),
            seen_before: Duration::from_secs(seen_before),
            applied: Sequence(9),
            realms: BTreeMap::from([(realm.clone(), NodeFence { bound, through })]),
        };
        let cases = [
            ("all have it", 0, 7, true),
            ("one has not", 0, 8, false),
            ("it may have answered one within its bound", 23, 8, false),
            ("nobody was answered for so long", 24, 8, true),
        ];
        for (name, seen_before, position, expected) in cases {
            assert_eq!(
                node(seen_before).has_reached(&realm, Sequence(position)),
                expected,
                "{name}"
            );
        }
        let other = RealmName::parse("sandbox").ok();
        assert!(other.is_some_and(|other| node(0).has_reached(&other, Sequence(8))));
    }
}
