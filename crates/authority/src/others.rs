//! The other nodes of a shared store: which they are, what they report, and work that only one of all nodes does.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tessera_core::{RealmName, Sequence};
use tessera_store::{NodeReport, Nodes, OtherNode, StoreError};
use tokio::sync::watch as signal;

use crate::{Authority, error::Unavailable};

/// How often a node reads the reports of the others, and sends its own.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often a call that waits for the subscribers of other nodes reads their reports.
const ASK_INTERVAL: Duration = Duration::from_millis(50);

/// The known state of the other nodes.
pub(crate) struct Others {
    seen: Mutex<Option<Seen>>,
    /// Locked while they are read: all calls that waited in the meantime share the result.
    asking: tokio::sync::Mutex<()>,
    looked: signal::Sender<()>,
    is_ending: AtomicBool,
    told: tokio::sync::Mutex<Told>,
}

struct Seen {
    /// When they were read.
    at: Instant,
    nodes: Arc<Vec<OtherNode>>,
}

/// What this node has told the others.
#[derive(Default)]
struct Told {
    fences: BTreeMap<RealmName, Sequence>,
    report: NodeReport,
    at: Option<Instant>,
}

impl Others {
    pub(crate) fn new() -> Self {
        Self {
            seen: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
            looked: signal::Sender::new(()),
            is_ending: AtomicBool::default(),
            told: tokio::sync::Mutex::default(),
        }
    }

    /// The result of a read less than `age` ago.
    fn within(&self, age: Duration) -> Option<Arc<Vec<OtherNode>>> {
        let seen = self.seen.lock();
        let lately = seen.as_ref().filter(|seen| seen.at.elapsed() < age);
        lately.map(|seen| Arc::clone(&seen.nodes))
    }
}

impl Authority {
    /// The name of this node; `None` if it is the only one that there can be.
    #[must_use]
    pub fn node_name(&self) -> Option<&str> {
        self.shared.store.nodes().map(Nodes::name)
    }

    /// The other nodes of this authority as they were a moment ago, including those that were present within a day;
    /// `None` if they can't be read now.
    #[must_use]
    pub fn other_nodes_lately(&self) -> Option<Arc<Vec<OtherNode>>> {
        if self.shared.is_one_of_several() {
            self.others.within(OtherNode::FRESH_FOR)
        } else {
            Some(Arc::default())
        }
    }

    /// The same as they were after this was called.
    pub(crate) async fn other_nodes(&self) -> Result<Arc<Vec<OtherNode>>, Unavailable> {
        self.other_nodes_since(Instant::now()).await
    }

    /// The same as they were at some time since `since`. A subscriber that was evicted at one of them is evicted here,
    /// too.
    async fn other_nodes_since(&self, since: Instant) -> Result<Arc<Vec<OtherNode>>, Unavailable> {
        if !self.shared.is_one_of_several() {
            return Ok(Arc::default());
        }
        let _asking = self.others.asking.lock().await;
        if let Some(nodes) = self.others.within(since.elapsed()) {
            return Ok(nodes);
        }
        let at = Instant::now();
        let nodes = Arc::new(self.shared.store.other_nodes().await?);
        let evicted = nodes.iter().flat_map(|node| &node.report.evicted);
        evicted.for_each(|(key, left)| self.subscribers.keep_away(key, *left));
        *self.others.seen.lock() = Some(Seen {
            at,
            nodes: Arc::clone(&nodes),
        });
        self.others.looked.send_replace(());
        Ok(nodes)
    }

    /// Waits until the required subscribers of all other nodes have a position, or refuse by themselves, and returns
    /// the nodes as they were then.
    pub(crate) async fn others_reach(
        &self,
        realm: &RealmName,
        position: Sequence,
    ) -> Result<Arc<Vec<OtherNode>>, Unavailable> {
        loop {
            let others = self.other_nodes().await?;
            if others.iter().all(|other| other.has_reached(realm, position)) {
                return Ok(others);
            }
            tokio::time::sleep(ASK_INTERVAL).await;
        }
    }

    /// Whether a required subscriber of another node may accept what was revoked up to a position.
    pub(crate) async fn others_are_behind(
        &self,
        realm: &RealmName,
        position: Sequence,
    ) -> Result<bool, Unavailable> {
        let others = self.other_nodes().await?;
        Ok(!others.iter().all(|other| other.has_reached(realm, position)))
    }

    /// Reads the other nodes, if no call did within a second.
    pub(crate) async fn look_at_others(&self) -> Result<(), Unavailable> {
        if self.others.within(INTERVAL).is_none() {
            self.other_nodes().await?;
        }
        Ok(())
    }

    /// Sends this node's report to the other nodes at once.
    pub(crate) async fn tell_others_at_once(&self) -> Result<(), Unavailable> {
        if self.shared.is_one_of_several() {
            self.others.told.lock().await.at = None;
            self.tell_others(self.shared.followed.position()).await?;
        }
        Ok(())
    }

    /// Tells the other nodes that this one ends: others deliver to its sinks, and none waits for it.
    pub(crate) async fn tell_others_of_the_end(&self) {
        self.others.is_ending.store(true, Ordering::Relaxed);
        // Without this, they find out within seconds.
        drop(self.tell_others_at_once().await);
    }

    /// Tells the other nodes how far the required subscribers of this one are at `through`, if that has changed, and
    /// sends its report each second.
    pub(crate) async fn tell_others(&self, through: Sequence) -> Result<(), Unavailable> {
        let mut told = self.others.told.lock().await;
        let fences = self.subscribers.fences(through);
        let report = if told.at.is_none_or(|at| at.elapsed() >= INTERVAL) {
            told.at = Some(Instant::now());
            Some(self.report()).filter(|report| *report != told.report)
        } else {
            None
        };
        if told.fences == fences && report.is_none() {
            return Ok(());
        }
        if let Some(nodes) = self.shared.store.nodes() {
            nodes.tell(fences.clone(), report.clone()).await?;
        }
        told.fences = fences;
        if let Some(report) = report {
            told.report = report;
        }
        Ok(())
    }

    fn report(&self) -> NodeReport {
        let mut subscribers = self.subscribers.all();
        subscribers.truncate(NodeReport::SUBSCRIBERS_MAX);
        let has_ended = self.others.is_ending.load(Ordering::Relaxed);
        NodeReport {
            subscribers,
            evicted: self.subscribers.evicted(),
            sinks: if has_ended {
                BTreeSet::new()
            } else {
                self.sinks.names()
            },
            is_changing_policy: self.is_changing_policy(),
            is_stuck: self.shared.followed.is_stuck(),
            has_ended,
        }
    }

    /// Whether this node delivers to a sink of the audit trail: the oldest of the responding nodes that have the sink
    /// delivers.
    #[must_use]
    pub fn delivers_to(&self, sink: &str) -> bool {
        let others = self.other_nodes_lately();
        others.is_some_and(|others| !others.iter().any(|other| delivers(other, sink)))
    }

    /// Waits until this node delivers to a sink, and returns the position up to which the sink has everything. The
    /// other nodes know by then that this node has the sink: a younger one does not deliver to it.
    ///
    /// # Errors
    /// Fails if the store can't be read or written.
    pub async fn turn_to_deliver_to(&self, sink: &str) -> Result<u64, Unavailable> {
        self.tell_others_at_once().await?;
        let mut looked = self.others.looked.subscribe();
        let mut before = None;
        while !self.delivers_to(sink) {
            if let Some(node) = self
                .delivered_by(sink)
                .filter(|node| before.as_ref() != Some(node))
            {
                tracing::info!(
                    sink,
                    node,
                    "another node delivers to this sink of the audit trail"
                );
                before = Some(node);
            }
            if looked.changed().await.is_err() {
                return Err(StoreError::Closed.into());
            }
        }
        if let Some(before) = before {
            tracing::info!(
                sink,
                before,
                "this node delivers to this sink of the audit trail from now on: the node before has ended or does not answer"
            );
        }
        self.sinks.kept_position(sink).await
    }

    /// The other node that delivers to a sink, if another one does.
    #[must_use]
    pub fn delivered_by(&self, sink: &str) -> Option<String> {
        let others = self.other_nodes_lately()?;
        let older = others.iter().find(|other| delivers(other, sink));
        older.map(|other| other.name.clone())
    }
}

/// Whether a node comes before this one among the nodes that have a sink.
fn delivers(other: &OtherNode, sink: &str) -> bool {
    other.is_older && other.is_at_work() && other.report.sinks.contains(sink)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_that_is_at_work_delivers() {
        let other = OtherNode {
            name: "one".to_owned(),
            seen_before: Duration::from_millis(2900),
            applied: Sequence(0),
            is_older: true,
            realms: BTreeMap::new(),
            report: NodeReport {
                sinks: ["archive".to_owned()].into(),
                ..NodeReport::default()
            },
        };
        assert!(delivers(&other, "archive"));
        type Change = fn(&mut OtherNode);
        let cases: [(&str, Change); 5] = [
            ("it began later", |node| node.is_older = false),
            ("it is silent", |node| node.seen_before = OtherNode::FRESH_FOR),
            ("it has ended", |node| node.report.has_ended = true),
            ("it can't follow the others", |node| node.report.is_stuck = true),
            ("it has no such sink", |node| node.report.sinks.clear()),
        ];
        for (name, change) in cases {
            let mut node = other.clone();
            change(&mut node);
            assert!(!delivers(&node, "archive"), "{name}");
        }
    }
}
