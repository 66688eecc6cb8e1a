//! Removing expired data.

use tessera_core::{Sequence, Timestamp};

use super::tables::Tables;
use crate::{
    log::cutoff::{FAR, LEFT_MAX},
    record::{PurgeBefore, PurgeReport},
};

impl Tables {
    /// The events that no longer matter, up to the first that still does. An event that matters for days to come is
    /// left behind and does not stop this.
    fn dead_events(&self, horizon: Timestamp) -> impl Iterator<Item = Sequence> {
        let mut left_behind = 0;
        self.events
            .values()
            .filter(move |event| {
                let is_left = event.relevant_until >= horizon.plus(FAR) && left_behind < LEFT_MAX;
                left_behind += usize::from(is_left);
                !is_left
            })
            .take_while(move |event| event.relevant_until < horizon)
            .map(|event| event.sequence)
    }

    /// Removes what is expired, and also returns the last event that was removed.
    pub(super) fn purge(&mut self, before: PurgeBefore, limit: usize) -> (PurgeReport, Sequence) {
        let PurgeBefore {
            horizon,
            audit: audit_before,
        } = before;
        let mut report = PurgeReport::default();
        self.purged = self.purged.max(Some(horizon));
        let mut left = limit;
        let mut take = || {
            left.checked_sub(1).inspect(|rest| left = *rest).is_some() || {
                report.more = true;
                false
            }
        };
        let dead = self
            .sessions
            .values()
            .filter(|session| session.removable_at() < horizon);
        let sessions: Vec<_> = dead.map(|session| session.id).take_while(|_| take()).collect();
        let events: Vec<_> = self.dead_events(horizon).take_while(|_| take()).collect();
        let expired = self
            .requests
            .iter()
            .filter(|(_, record)| record.expires_at < horizon);
        let requests: Vec<_> = expired
            .map(|(key, _)| key.clone())
            .take_while(|_| take())
            .collect();
        let old = self
            .audit
            .iter()
            .take_while(|(_, entry)| entry.record.at < audit_before);
        let audit: Vec<_> = old
            .map(|(position, _)| *position)
            .take_while(|_| take())
            .collect();

        let replaced = self
            .policies
            .iter()
            .filter(|(_, kept)| kept.replaced_at.is_some_and(|at| at < audit_before));
        let policies: Vec<_> = replaced
            .map(|(revision, _)| *revision)
            .take_while(|_| take())
            .collect();

        report.sessions = sessions.len();
        report.events = events.len();
        report.records = requests.len() + audit.len() + policies.len();
        let floor = events.last().copied().unwrap_or_default();
        self.cutoffs.retain(|_, (until, _)| *until >= horizon);
        for id in sessions {
            self.remove_session(id);
        }
        for sequence in events {
            self.events.remove(&sequence);
        }
        for key in requests {
            self.requests.remove(&key);
        }
        for position in audit {
            self.audit.remove(&position);
        }
        for revision in policies {
            self.policies.remove(&revision);
        }
        (report, floor)
    }
}
