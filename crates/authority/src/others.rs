//! The other nodes of a shared store: which they are, and what the nodes tell each other.

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
use tessera_store::{NodeReport, Nodes, OtherNode};
use tokio::sync::watch as signal;

use crate::{error::Unavailable, shared::Shared};

/// How often a node reads the reports of the others, and sends its own.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often a call that waits for the subscribers of other nodes reads their reports.
const ASK_INTERVAL: Duration = Duration::from_millis(50);

/// What this node tells the others, and what it does with what they tell.
pub(crate) trait ThisNode: Send + Sync {
    /// How far the required subscribers of each realm are if the log is followed up to `through`.
    fn fences(&self, through: Sequence) -> BTreeMap<RealmName, Sequence>;

    /// The report, without whether this node is stuck or has ended.
    fn report(&self) -> NodeReport;

    /// Takes the reports of the others.
    fn take(&self, others: &[OtherNode]);
}

/// The other nodes, as far as they are known.
pub struct OtherNodes {
    shared: Arc<Shared>,
    this: Box<dyn ThisNode>,
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

impl OtherNodes {
    pub(crate) fn new(shared: &Arc<Shared>, this: Box<dyn ThisNode>) -> Self {
        Self {
            shared: Arc::clone(shared),
            this,
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

    /// The name of this node; `None` if it is the only one that there can be.
    #[must_use]
    pub fn node_name(&self) -> Option<&str> {
        self.shared.store.nodes().map(Nodes::name)
    }

    /// The other nodes of this authority as they were a moment ago, including those that were present within a day;
    /// `None` if they can't be read now.
    #[must_use]
    pub fn lately(&self) -> Option<Arc<Vec<OtherNode>>> {
        if self.shared.is_one_of_several() {
            self.within(OtherNode::FRESH_FOR)
        } else {
            Some(Arc::default())
        }
    }

    /// The other nodes as they were after this was called.
    pub(crate) async fn now(&self) -> Result<Arc<Vec<OtherNode>>, Unavailable> {
        self.since(Instant::now()).await
    }

    /// The same as they were at some time since `since`. A subscriber that was evicted at one of them is evicted here,
    /// too.
    async fn since(&self, since: Instant) -> Result<Arc<Vec<OtherNode>>, Unavailable> {
        if !self.shared.is_one_of_several() {
            return Ok(Arc::default());
        }
        let _asking = self.asking.lock().await;
        if let Some(nodes) = self.within(since.elapsed()) {
            return Ok(nodes);
        }
        let at = Instant::now();
        let nodes = Arc::new(self.shared.store.other_nodes().await?);
        self.this.take(&nodes);
        *self.seen.lock() = Some(Seen {
            at,
            nodes: Arc::clone(&nodes),
        });
        self.looked.send_replace(());
        Ok(nodes)
    }

    /// Waits until the required subscribers of all other nodes have a position, or refuse by themselves, and returns
    /// the nodes as they were then.
    pub(crate) async fn reach(
        &self,
        realm: &RealmName,
        position: Sequence,
    ) -> Result<Arc<Vec<OtherNode>>, Unavailable> {
        loop {
            let others = self.now().await?;
            if others.iter().all(|other| other.has_reached(realm, position)) {
                return Ok(others);
            }
            tokio::time::sleep(ASK_INTERVAL).await;
        }
    }

    /// Whether a required subscriber of another node may accept what was revoked up to a position.
    pub(crate) async fn are_behind(
        &self,
        realm: &RealmName,
        position: Sequence,
    ) -> Result<bool, Unavailable> {
        let others = self.now().await?;
        Ok(!others.iter().all(|other| other.has_reached(realm, position)))
    }

    /// Reads the other nodes, if no call did within a second.
    pub(crate) async fn look(&self) -> Result<(), Unavailable> {
        if self.within(INTERVAL).is_none() {
            self.now().await?;
        }
        Ok(())
    }

    /// Signals that the other nodes were read.
    pub(crate) fn looked(&self) -> signal::Receiver<()> {
        self.looked.subscribe()
    }

    /// Sends this node's report to the other nodes at once.
    pub(crate) async fn tell_at_once(&self) -> Result<(), Unavailable> {
        if self.shared.is_one_of_several() {
            self.told.lock().await.at = None;
            self.tell(self.shared.followed.position()).await?;
        }
        Ok(())
    }

    /// Tells the other nodes that this one ends: others deliver to its sinks, and none waits for it.
    pub(crate) async fn tell_of_the_end(&self) {
        self.is_ending.store(true, Ordering::Relaxed);
        // Without this, they find out within seconds.
        drop(self.tell_at_once().await);
    }

    /// Tells the other nodes how far the required subscribers of this one are at `through`, if that has changed, and
    /// sends its report each second.
    pub(crate) async fn tell(&self, through: Sequence) -> Result<(), Unavailable> {
        let mut told = self.told.lock().await;
        let fences = self.this.fences(through);
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
        let report = self.this.report();
        let has_ended = self.is_ending.load(Ordering::Relaxed);
        NodeReport {
            sinks: if has_ended { BTreeSet::new() } else { report.sinks },
            is_stuck: self.shared.followed.is_stuck(),
            has_ended,
            ..report
        }
    }
}
