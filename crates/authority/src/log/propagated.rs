//! How a position of the log was propagated, if verifiers are connected to several nodes.

use std::collections::BTreeMap;

use tessera_core::Sequence;
use tessera_store::{SubscriberKey, SubscriberState};

use crate::log::subscribers::Propagated;

/// The streams of one subscriber, at all nodes.
#[derive(Default)]
struct Streams {
    acknowledged_open: u32,
    silent_open: u32,
    has_acknowledged: bool,
}

impl Propagated {
    /// Counts the required subscribers of all nodes, once none accepts tokens by a state before `position`. A stream
    /// that has ended counts for its subscriber only if no other is open: the subscriber may have moved to another
    /// node.
    pub(crate) fn at_all_nodes(states: &[SubscriberState], position: Sequence) -> Self {
        let mut subscribers: BTreeMap<&SubscriberKey, Streams> = BTreeMap::new();
        for state in states {
            let streams = subscribers.entry(&state.key).or_default();
            // Its report may be older than its node's statement that all have the position, or refuse by themselves.
            let has_it = state.acknowledged >= position || state.is_open && !state.has_failed_closed();
            match (has_it, state.is_open) {
                (true, true) => streams.acknowledged_open += 1,
                (true, false) => streams.has_acknowledged = true,
                (false, true) => streams.silent_open += 1,
                (false, false) => {}
            }
        }
        let mut propagated = Self::default();
        for streams in subscribers.values() {
            let is_open = streams.acknowledged_open + streams.silent_open > 0;
            let by_the_last = |counts: bool| u32::from(!is_open && counts);
            propagated.acknowledged += streams.acknowledged_open + by_the_last(streams.has_acknowledged);
            propagated.failed_closed += streams.silent_open + by_the_last(!streams.has_acknowledged);
        }
        propagated
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tessera_core::{ClientName, RealmName, SubscriberName};

    use super::*;

    fn stream(name: &str, acknowledged: u64, is_open: bool) -> SubscriberState {
        SubscriberState {
            key: SubscriberKey {
                realm: RealmName::parse("production").unwrap(),
                client: ClientName::parse("client:videos").unwrap(),
                name: SubscriberName::parse(name).unwrap(),
            },
            acknowledged: Sequence(acknowledged),
            silent_for: Duration::from_secs(9),
            acknowledged_before: Duration::from_secs(9),
            bound: Duration::from_secs(5),
            is_open,
        }
    }

    /// A subscriber that sent a message a moment ago.
    fn lately(name: &str, acknowledged: u64) -> SubscriberState {
        SubscriberState {
            silent_for: Duration::from_secs(1),
            ..stream(name, acknowledged, true)
        }
    }

    /// Position 7.
    #[test]
    fn the_table() {
        let (has, has_not) = (
            |name, is_open| stream(name, 7, is_open),
            |name, is_open| stream(name, 6, is_open),
        );
        let cases = [
            ("its report is not of now", vec![lately("a", 6)], (1, 0)),
            ("nobody", vec![], (0, 0)),
            (
                "one has it, one is silent",
                vec![has("a", true), has_not("b", true)],
                (1, 1),
            ),
            (
                "both of one name accept",
                vec![has("a", true), has_not("a", true)],
                (1, 1),
            ),
            (
                "it moved, and has it",
                vec![has_not("a", false), has("a", true)],
                (1, 0),
            ),
            (
                "it had it, and moved",
                vec![has("a", false), has("a", true)],
                (1, 0),
            ),
            (
                "it had it, and moved, and is silent",
                vec![has("a", false), has_not("a", true)],
                (0, 1),
            ),
            ("gone with it", vec![has("a", false), has_not("a", false)], (1, 0)),
            (
                "gone without it",
                vec![has_not("a", false), has_not("a", false)],
                (0, 1),
            ),
        ];
        for (name, streams, (acknowledged, failed_closed)) in cases {
            let expected = Propagated {
                acknowledged,
                failed_closed,
            };
            assert_eq!(
                Propagated::at_all_nodes(&streams, Sequence(7)),
                expected,
                "{name}"
            );
        }
    }
}
