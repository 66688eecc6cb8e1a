//! Which node delivers to a sink of the audit trail: only one of all nodes does.

use std::collections::BTreeMap;

use tessera_store::{OtherNode, StoreError};

use crate::{audit::trail::AuditTrail, error::Unavailable};

impl AuditTrail {
    /// Whether this node delivers to a sink of the audit trail: the oldest of the responding nodes that have the sink
    /// delivers.
    #[must_use]
    pub fn delivers_to(&self, sink: &str) -> bool {
        let others = self.others.lately();
        others.is_some_and(|others| !others.iter().any(|other| delivers(other, sink)))
    }

    /// Waits until this node delivers to a sink, and returns the position up to which the sink has everything. The
    /// other nodes know by then that this node has the sink: a younger one does not deliver to it.
    ///
    /// # Errors
    /// Fails if the store can't be read or written.
    pub async fn turn_to_deliver_to(&self, sink: &str) -> Result<u64, Unavailable> {
        self.others.tell_at_once().await?;
        let mut looked = self.others.looked();
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

    /// Takes the positions of the sinks that other nodes deliver to, as the store has them.
    pub(crate) fn follow_sinks(&self, kept: &BTreeMap<String, u64>) {
        self.sinks.follow(kept, |name| self.delivers_to(name));
    }

    /// The other node that delivers to a sink, if another one does.
    #[must_use]
    pub fn delivered_by(&self, sink: &str) -> Option<String> {
        let others = self.others.lately()?;
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
    use std::time::Duration;

    use tessera_core::Sequence;
    use tessera_store::NodeReport;

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
