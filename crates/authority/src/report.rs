//! What this node tells the other nodes of a shared store, which needs a part of several nouns.

use std::{collections::BTreeMap, sync::Arc};

use tessera_core::{RealmName, Sequence};
use tessera_store::{NodeReport, OtherNode};
use tokio::sync::Mutex;

use crate::{audit::sink::AuditSinks, log::subscribers::Subscribers, others::ThisNode};

/// The parts of this node that the others know.
pub(crate) struct Report {
    subscribers: Arc<Subscribers>,
    sinks: Arc<AuditSinks>,
    /// Held while a policy is put in force here, or live sessions are reconciled with it.
    policy_changes: Arc<Mutex<()>>,
}

impl Report {
    pub(crate) fn new(
        subscribers: &Arc<Subscribers>,
        sinks: &Arc<AuditSinks>,
        policy_changes: &Arc<Mutex<()>>,
    ) -> Self {
        Self {
            subscribers: Arc::clone(subscribers),
            sinks: Arc::clone(sinks),
            policy_changes: Arc::clone(policy_changes),
        }
    }
}

impl ThisNode for Report {
    fn fences(&self, through: Sequence) -> BTreeMap<RealmName, Sequence> {
        self.subscribers.fences(through)
    }

    fn report(&self) -> NodeReport {
        let mut subscribers = self.subscribers.all();
        subscribers.truncate(NodeReport::SUBSCRIBERS_MAX);
        NodeReport {
            subscribers,
            evicted: self.subscribers.evicted(),
            sinks: self.sinks.names(),
            is_changing_policy: self.policy_changes.try_lock().is_err(),
            ..NodeReport::default()
        }
    }

    /// A subscriber that was evicted at one of them is evicted here, too.
    fn take(&self, others: &[OtherNode]) {
        let evicted = others.iter().flat_map(|node| &node.report.evicted);
        evicted.for_each(|(key, left)| self.subscribers.keep_away(key, *left));
    }
}
