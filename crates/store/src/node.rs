//! Processes that share a store: what one knows of another.

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tessera_core::{ClientName, RealmName, Sequence, SubscriberName};

/// Another process that writes to a shared store, or did lately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherNode {
    /// Its name, which stays the same until it ends.
    pub name: String,
    /// How long ago it proved that it is running. It answers no call once its last proof is older than
    /// [`FRESH_FOR`](Self::FRESH_FOR).
    pub seen_before: Duration,
    /// Up to where it had applied the log then.
    pub applied: Sequence,
    /// Whether it began before this process did.
    pub is_older: bool,
    /// The state of its required subscribers, by realm. A realm in which it never had any is not listed.
    pub realms: BTreeMap<RealmName, NodeFence>,
    /// The rest of its report. Durations are relative to now.
    pub report: NodeReport,
}

/// The report of a process to the others, each second.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeReport {
    /// Its required subscribers.
    pub subscribers: Vec<SubscriberState>,
    /// The subscribers that were evicted there, and for how long each may not come back.
    pub evicted: Vec<(SubscriberKey, Duration)>,
    /// The sinks of the audit trail that it can deliver to.
    pub sinks: BTreeSet<String>,
    /// Whether it puts a policy in force, or reconciles live sessions with one.
    pub is_changing_policy: bool,
    /// Whether it can't follow the others, and so does no work for them.
    pub is_stuck: bool,
    /// Whether it was stopped cleanly.
    pub has_ended: bool,
}

/// A subscriber: each client names its own subscribers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SubscriberKey {
    /// The realm.
    pub realm: RealmName,
    /// Its client.
    pub client: ClientName,
    /// The name that it gave itself.
    pub name: SubscriberName,
}

/// One stream of a required subscriber, as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriberState {
    /// Its subscriber.
    pub key: SubscriberKey,
    /// The last position of the log that it has acknowledged.
    pub acknowledged: Sequence,
    /// How long it has been silent.
    pub silent_for: Duration,
    /// How long ago it acknowledged something, or began.
    pub acknowledged_before: Duration,
    /// How long it keeps answering by what it knows.
    pub bound: Duration,
    /// Whether its stream is open.
    pub is_open: bool,
}

/// A node's report of its required subscribers in a realm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeFence {
    /// The longest time for which one of them keeps answering by what it knows.
    pub bound: Duration,
    /// Up to here all of them know the log, or refuse by themselves.
    pub through: Sequence,
}

impl OtherNode {
    /// How long a node keeps answering after it last proved that it is current.
    pub const FRESH_FOR: Duration = Duration::from_secs(3);

    /// Whether it answers, as far as this node knows.
    #[must_use]
    pub fn answers(&self) -> bool {
        !self.report.has_ended && self.seen_before < Self::FRESH_FOR
    }

    /// Whether it can do the tasks that one node does for all.
    #[must_use]
    pub fn is_at_work(&self) -> bool {
        self.answers() && !self.report.is_stuck
    }

    /// Its required subscribers of a realm, as of now. A node that is gone may have answered its subscribers until its
    /// last proof expired.
    pub fn subscribers(&self, realm: Option<&RealmName>) -> impl Iterator<Item = SubscriberState> {
        let gone_for = (!self.answers()).then(|| self.seen_before.saturating_sub(Self::FRESH_FOR));
        let of_realm = move |state: &&SubscriberState| realm.is_none_or(|realm| state.key.realm == *realm);
        let states = self.report.subscribers.iter().filter(of_realm);
        states.map(move |state| SubscriberState {
            silent_for: gone_for.map_or(state.silent_for, |gone| state.silent_for.min(gone)),
            is_open: state.is_open && gone_for.is_none(),
            ..state.clone()
        })
    }

    /// Whether all its required subscribers in a realm have a position of the log, or refuse by themselves. A node that
    /// is gone answered its subscribers last before its last proof expired.
    #[must_use]
    pub fn has_reached(&self, realm: &RealmName, position: Sequence) -> bool {
        self.realms.get(realm).is_none_or(|fence| {
            let over_after = Self::FRESH_FOR.saturating_add(fence.bound);
            fence.through >= position || self.seen_before > over_after
        })
    }
}

impl NodeReport {
    /// How many subscribers a report has at most.
    pub const SUBSCRIBERS_MAX: usize = 4096;

    /// The same report, some time later.
    #[must_use]
    pub fn later(mut self, by: Duration) -> Self {
        for state in &mut self.subscribers {
            state.silent_for = state.silent_for.saturating_add(by);
            state.acknowledged_before = state.acknowledged_before.saturating_add(by);
        }
        for (_, left) in &mut self.evicted {
            *left = left.saturating_sub(by);
        }
        self.evicted.retain(|(_, left)| !left.is_zero());
        self
    }
}

impl SubscriberState {
    /// Whether it was silent for longer than its bound, and so refuses by itself.
    #[must_use]
    pub fn has_failed_closed(&self) -> bool {
        self.silent_for > self.bound
    }
}

/// A guard: only one process at a time has it.
#[derive(Default)]
pub struct Alone(Option<Box<dyn Any + Send>>);

impl Alone {
    /// Holds the lock until `held` is dropped.
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
            is_older: false,
            report: NodeReport::default(),
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

    #[test]
    fn what_a_node_reports_is_of_now() {
        let names = (
            RealmName::parse("production"),
            ClientName::parse("client:videos"),
            SubscriberName::parse("one"),
        );
        let (Ok(realm), Ok(client), Ok(name)) = names else {
            return;
        };
        let key = SubscriberKey { realm, client, name };
        let seconds = Duration::from_secs;
        let state = SubscriberState {
            key: key.clone(),
            acknowledged: Sequence(7),
            silent_for: seconds(1),
            acknowledged_before: seconds(2),
            bound: seconds(5),
            is_open: true,
        };
        let report = NodeReport {
            subscribers: vec![state],
            evicted: vec![(key, seconds(30))],
            ..NodeReport::default()
        };
        let later = report.clone().later(seconds(10));
        assert_eq!(later.subscribers[0].silent_for, seconds(11));
        assert_eq!(later.subscribers[0].acknowledged_before, seconds(12));
        assert_eq!(later.evicted[0].1, seconds(20));
        assert!(report.clone().later(seconds(30)).evicted.is_empty());
        let of = |seen_before, report: &NodeReport| {
            let node = OtherNode {
                name: "one".to_owned(),
                seen_before: seconds(seen_before),
                applied: Sequence(9),
                is_older: false,
                realms: BTreeMap::new(),
                report: report.clone(),
            };
            let found = node.subscribers(None).next();
            found.map(|state| (state.is_open, state.silent_for, state.has_failed_closed()))
        };
        assert_eq!(of(0, &report), Some((true, seconds(1), false)));
        assert_eq!(of(2, &later), Some((true, seconds(11), true)));
        // It may have received answers until the node was no longer current.
        assert_eq!(of(8, &later), Some((false, seconds(5), false)));
        assert_eq!(of(9, &later), Some((false, seconds(6), true)));
    }
}
