//! Removing expired data, in steps that are small enough not to delay the units between them.
//!
//! Candidates are found on the disk and then read through the group, so that changes of an earlier unit in the same
//! group count.

use sled::IVec;
use tessera_core::{Event, Seconds, Sequence, SessionId, Timestamp};

use tessera_store::{
    PurgeBefore, PurgeReport, RequestRecord, StoreError,
    backend::{FAR, LEFT_MAX},
};

use super::{
    audit_rows,
    error::failed,
    group::Group,
    lists,
    rows::{self, PolicyRow, Table},
};

/// How many rows one step looks at.
pub(super) const STEP: usize = 128;

/// What a purge removes, and its limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Purge {
    pub(super) before: PurgeBefore,
    pub(super) limit: usize,
}

/// One step of a purge.
struct Step<'a, 'db> {
    group: &'a mut Group<'db>,
    purge: Purge,
    budget: usize,
    report: PurgeReport,
}

impl Purge {
    /// Removes up to `limit` rows within a unit of the writer.
    pub(super) fn run(self, group: &mut Group<'_>) -> Result<PurgeReport, StoreError> {
        let mut step = Step {
            group,
            purge: self,
            budget: self.limit,
            report: PurgeReport::default(),
        };
        step.sessions()?;
        step.events()?;
        step.requests()?;
        step.cutoffs()?;
        step.audit()?;
        step.policies()?;
        step.note_progress()?;
        Ok(step.report)
    }
}

impl Step<'_, '_> {
    /// Keeps the horizon with the data: with each removal, and once an hour if nothing was removed.
    fn note_progress(&mut self) -> Result<(), StoreError> {
        let meta = self.group.meta_mut();
        let horizon = self
            .purge
            .before
            .horizon
            .max(meta.purged.unwrap_or(Timestamp::EPOCH));
        let is_far = meta
            .purged
            .is_none_or(|purged| horizon >= purged.plus(Seconds::HOUR));
        let has_removed = self.report != PurgeReport::default();
        if is_far || has_removed {
            meta.purged = Some(horizon);
            let meta = *meta;
            self.group.put(rows::meta_key(), &meta)?;
        }
        Ok(())
    }

    fn sessions(&mut self) -> Result<(), StoreError> {
        for row in self.rows(Table::SessionExpiry) {
            let (key, others) = row?;
            let (at, _) = rows::time_in(&key)?;
            if at >= self.purge.before.horizon {
                break;
            }
            for id in lists::ids_in(&key, &others)? {
                if !self.take() {
                    return Ok(());
                }
                self.session(id, at)?;
            }
        }
        Ok(())
    }

    /// Removes a session, or moves it in the index to the time at which it can be removed: refreshes don't move it, so
    /// the index may have an earlier time.
    fn session(&mut self, id: SessionId, at: Timestamp) -> Result<(), StoreError> {
        let Some(row) = self.group.session_row(id)?.filter(|row| row.expiry == at) else {
            // An earlier unit of this group moved or removed it.
            return Ok(());
        };
        let removable_at = row.session.removable_at();
        let horizon = self.purge.before.horizon;
        if removable_at >= horizon {
            let bucket = rows::bucket_of(removable_at);
            // With an earlier time this purge would find it again.
            let expiry = if bucket < horizon { removable_at } else { bucket };
            return self.group.move_expiry(&row, expiry);
        }
        self.group.remove_session(&row)?;
        self.report.sessions += 1;
        Ok(())
    }

    /// Removes only the oldest event, so that the rest has no gap. An event that matters for days to come does not
    /// block those after it: it stays below the floor.
    fn events(&mut self) -> Result<(), StoreError> {
        let mut left = 0;
        for key in self.keys(Table::Event) {
            let key = key?;
            let Some(event) = self.group.row::<Event>("an event", &key)? else {
                continue;
            };
            if event.relevant_until >= self.purge.before.horizon.plus(FAR) && left < LEFT_MAX {
                left += 1;
                continue;
            }
            if event.relevant_until >= self.purge.before.horizon || !self.take() {
                break;
            }
            self.group.remove(key.to_vec());
            // Events that were left behind when a new log was begun are below its floor.
            let removed = Sequence(rows::number_in(&key)?);
            let meta = self.group.meta_mut();
            meta.floor = meta.floor.max(removed);
            self.report.events += 1;
        }
        Ok(())
    }

    fn requests(&mut self) -> Result<(), StoreError> {
        for key in self.keys(Table::RequestExpiry) {
            let key = key?;
            let (at, _) = rows::time_in(&key)?;
            if at >= self.purge.before.horizon {
                break;
            }
            // If the row is gone, an earlier unit of this group removed it.
            let Some(requests) = self.group.row::<Vec<Vec<u8>>>("expiring requests", &key)? else {
                continue;
            };
            for (seen, request) in requests.iter().enumerate() {
                if !self.take() {
                    let left = requests.get(seen..).unwrap_or_default();
                    return self.group.put(key.to_vec(), &left);
                }
                self.request(request, at)?;
            }
            self.group.remove(key.to_vec());
        }
        Ok(())
    }

    /// Removes a request that was named at a time. A request that was repeated since then is named at another time.
    fn request(&mut self, row: &[u8], at: Timestamp) -> Result<(), StoreError> {
        let Some(record) = self.group.row::<RequestRecord>("a request", row)? else {
            return Ok(());
        };
        if record.expires_at < self.purge.before.horizon {
            self.group.remove(row.to_vec());
            self.report.records += 1;
        } else if rows::bucket_of(record.expires_at) == at {
            self.group.expire_request(record.expires_at, row.to_vec());
        }
        Ok(())
    }

    /// Removes the cutoffs that their expiry index names, with their entries in it.
    fn cutoffs(&mut self) -> Result<(), StoreError> {
        for key in self.keys(Table::CutoffExpiry) {
            let key = key?;
            let (at, row) = rows::time_in(&key)?;
            if at >= self.purge.before.horizon || !self.take() {
                break;
            }
            // If the entry is gone, an earlier unit of this group gave the row another time.
            if self.group.has_row(&key)? {
                self.group.remove(row.to_vec());
                self.group.remove(key.to_vec());
            }
        }
        Ok(())
    }

    fn audit(&mut self) -> Result<(), StoreError> {
        let first = self.group.audit_gone().saturating_add(1);
        for entry in audit_rows::entries(self.group.db(), first, u64::MAX) {
            let entry = entry?;
            if entry.record.at >= self.purge.before.audit || !self.take() {
                break;
            }
            self.group.remove_audit_through(entry.position);
            self.report.records += 1;
        }
        Ok(())
    }

    /// Removes policies that no audit record names any longer. There are few, so each purge checks all.
    fn policies(&mut self) -> Result<(), StoreError> {
        for key in self.keys(Table::Policy) {
            let key = key?;
            let Some(row) = self.group.row::<PolicyRow>("a policy", &key)? else {
                continue;
            };
            let is_old = row
                .replaced_at
                .is_some_and(|replaced| replaced < self.purge.before.audit);
            if is_old && self.take() {
                let revision = rows::policy_in(&key)?;
                for part in 0..row.parts {
                    self.group.remove(rows::policy_part_key(&revision, part));
                }
                self.group.remove(key.to_vec());
                self.report.records += 1;
            }
        }
        Ok(())
    }

    /// Whether one more row may be touched.
    fn take(&mut self) -> bool {
        match self.budget.checked_sub(1) {
            Some(left) => {
                self.budget = left;
                true
            }
            None => {
                self.report.more = true;
                false
            }
        }
    }

    fn rows(&self, table: Table) -> impl Iterator<Item = Result<(IVec, IVec), StoreError>> + use<> {
        self.group
            .db()
            .scan_prefix([table as u8])
            .map(|row| row.map_err(failed))
    }

    fn keys(&self, table: Table) -> impl Iterator<Item = Result<IVec, StoreError>> + use<> {
        self.group
            .db()
            .scan_prefix([table as u8])
            .keys()
            .map(|key| key.map_err(failed))
    }
}
