//! The heartbeats of a node: they prove that a server is the primary.
//!
//! A primary that is cut off from its standbys can't commit, and no standby replaces it within [`FRESH_FOR`]. It may
//! still run, with connections that read old data. So heartbeats are numbered, and each read also reads the last
//! heartbeat: an answer counts for [`FRESH_FOR`] after the heartbeat *that the same server has* began.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tessera_store::OtherNode;

/// Answers count for this long after the last committed heartbeat began. A primary that is cut off from its standbys
/// can't commit one, and no standby is promoted sooner. Other nodes see the heartbeats, and rely on it that a node that
/// is gone has answered nothing after that.
pub(crate) const FRESH_FOR: Duration = OtherNode::FRESH_FOR;

/// A node that can't report for this long ends, before others forget it: its reports are removed by then.
const AWAY_MAX: Duration = Duration::from_secs(12 * 3600);

/// How many are remembered: one is made each second, and none counts for longer than three seconds.
const REMEMBERED: usize = 16;

/// The heartbeats that were committed.
#[derive(Default)]
pub(crate) struct Beats(Mutex<VecDeque<Beat>>);

#[derive(Clone, Copy)]
struct Beat {
    number: u64,
    began: Instant,
}

impl Beats {
    /// Notes that a heartbeat was committed that began at `began`.
    pub(crate) fn note(&self, number: u64, began: Instant) {
        let mut known = self.0.lock();
        known.push_back(Beat { number, began });
        if known.len() > REMEMBERED {
            known.pop_front();
        }
    }

    /// The number of the last heartbeat.
    pub(crate) fn last(&self) -> u64 {
        let known = self.0.lock();
        known.iter().map(|beat| beat.number).max().unwrap_or(0)
    }

    /// Whether this node was silent for so long that others may forget it.
    pub(crate) fn are_forgotten(&self, now: Instant) -> bool {
        let began = self.0.lock().iter().map(|beat| beat.began).max();
        began.is_some_and(|began| now.saturating_duration_since(began) > AWAY_MAX)
    }

    /// Whether a server that has the heartbeat `seen` is the primary now. `seen` itself need not be known to be
    /// committed; the last committed one before it counts.
    pub(crate) fn prove(&self, seen: u64, now: Instant) -> bool {
        let known = self.0.lock();
        let mut seen = known.iter().filter(|beat| beat.number <= seen);
        seen.any(|beat| now.saturating_duration_since(beat.began) < FRESH_FOR)
    }

    /// Whether any server is known to be the primary now.
    pub(crate) fn are_fresh(&self, now: Instant) -> bool {
        self.prove(u64::MAX, now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_table_of_what_a_heartbeat_proves() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let beats = Beats::default();
        assert!(!beats.are_fresh(at(0)), "none was committed");
        beats.note(1, at(0));
        beats.note(2, at(1000));
        // A heartbeat that is acknowledged late is a proof, but is not the last.
        beats.note(1, at(10));
        assert_eq!(beats.last(), 2);
        let cases = [
            ("the last one", 2, 3999, true),
            ("it is too long ago", 2, 4000, false),
            ("the one before", 1, 2999, true),
            ("the one before is too long ago", 1, 3010, false),
            ("one that is on its way", 3, 3999, true),
            ("a server that has none", 0, 0, false),
        ];
        for (name, seen, now, expected) in cases {
            assert_eq!(beats.prove(seen, at(now)), expected, "{name}");
        }
        let half_a_day = 12 * 3600 * 1000;
        assert!(
            !Beats::default().are_forgotten(at(2 * half_a_day)),
            "it has just begun"
        );
        assert!(!beats.are_forgotten(at(1000 + half_a_day)));
        assert!(beats.are_forgotten(at(1001 + half_a_day)));
        for number in 3..100 {
            beats.note(number, at(1000 * number));
        }
        assert!(
            beats.prove(98, at(98_000)) && !beats.prove(2, at(2000)),
            "old ones are forgotten"
        );
    }
}
