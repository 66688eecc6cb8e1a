//! What the units of one group read and write: over the rows on disk, the writes of the earlier units.

use std::sync::Arc;

use tessera_core::{ApiKey, ApiKeyId, Event, PolicyRevision, RevokeReason, Sequence, Session, Timestamp};
use tessera_store::{
    Changes, ClientState, NewEvent, Placed, Reads, SettingChange, Snapshot, StoreError, StoredSession,
    UnitOfWork,
    backend::{Step, caught, cutoff_until, placed, remembered},
};

use super::{
    read,
    rows::{self, CutoffRow},
    state::Finished,
};

mod audit;
mod overlay;
mod restore;
mod session;

pub(super) use overlay::Group;

impl Group<'_> {
    pub(super) fn writes_nothing(&self) -> bool {
        self.rows.is_empty() && self.audit.is_empty() && self.state.times == self.times_before
    }

    /// The group's writes, its events, and the row about the store after the group `number`.
    pub(super) fn finish(mut self, number: u64) -> Result<Finished, StoreError> {
        self.state.meta.group = number;
        self.lists.write(self.db, &mut self.rows)?;
        self.requests.write(number, &mut self.rows)?;
        self.audit.write(self.db, &mut self.rows)?;
        if self.state.times != self.times_before {
            let row = rows::encode(&self.state.times)?;
            self.rows.put(rows::times_key(), row);
        }
        let row = rows::encode(&self.state.meta)?;
        self.rows.put(rows::meta_key(), row);
        Ok(Finished {
            rows: self.rows,
            events: self.events,
            state: self.state,
        })
    }

    /// Reads, decides and writes. The outer error is a failure of the database, and ends the group. The inner one is of
    /// the decision, and affects no other unit: it wrote nothing.
    pub(super) fn run(&mut self, work: &mut UnitOfWork) -> Result<Result<Placed, StoreError>, StoreError> {
        loop {
            self.read.clear();
            let snapshot = self.snapshot(work.reads())?;
            match caught(|| work.decide(&snapshot)) {
                Ok(Step::Commit(changes)) => return self.apply(changes).map(Ok),
                Ok(Step::Abort) => return Ok(Ok(Placed::default())),
                Ok(Step::ReadMore) => {}
                Err(panic) => {
                    let detail = format!("a decision {panic}");
                    return Ok(Err(StoreError::Failed { detail }));
                }
            }
        }
    }
}

/// What a unit reads.
impl Group<'_> {
    fn snapshot(&mut self, reads: &Reads) -> Result<Snapshot, StoreError> {
        let mut snapshot = Snapshot {
            head: self.state.meta.last,
            audit_head: self.state.meta.audit,
            policy: self.state.policy,
            times: self.state.times.clone(),
            ..Snapshot::default()
        };
        for id in reads.api_key_ids() {
            snapshot
                .api_keys
                .extend(self.api_key(id)?.map(Arc::unwrap_or_clone));
        }
        for id in reads.session_ids() {
            if self.read.iter().any(|read| read.row.session.id == *id) {
                continue;
            }
            match self.read_session(*id)? {
                Some(read) => {
                    snapshot.sessions.push(self.stored(&read.row.session)?);
                    self.read.push(read);
                }
                None => snapshot.missing_sessions.push(*id),
            }
        }
        for maker in reads.maker_ids() {
            snapshot.made.push((*maker, self.made_with(maker)?));
        }
        for (realm, client) in reads.client_names() {
            let sessions = self.row("a number of sessions", &rows::session_count_key(realm, client))?;
            let state = ClientState {
                is_disabled: self.has_row(&rows::client_disabled_key(realm, client))?,
                sessions: sessions.unwrap_or(0),
            };
            snapshot.clients.push((realm.clone(), client.clone(), state));
        }
        if let Some(key) = reads.request_key() {
            snapshot.request = self.row("a request", &rows::request_key(key))?;
        }
        if reads.has_settings() {
            // No decision depends on them within a group that changes them.
            snapshot.settings = Some(read::settings(self.db)?);
        }
        read::whole(self, self.state.meta.floor, reads, &mut snapshot)?;
        Ok(snapshot)
    }

    /// Keys on the disk, and keys of this group.
    fn made_with(&self, maker: &ApiKeyId) -> Result<Vec<ApiKey>, StoreError> {
        let prefix = rows::api_key_by_maker_prefix(maker);
        let mut keys = read::keys_of(self.db, &prefix)?;
        keys.extend(self.rows.keys().filter(|key| key.starts_with(&prefix)).cloned());
        let is_there = |key: &Vec<u8>| self.rows.get(key).is_none_or(|row| row.is_some());
        let ids = keys.iter().filter(|key| is_there(key));
        let made = ids.map(|key| self.row("an API key", &rows::api_key_key_in(key, prefix.len())));
        made.filter_map(Result::transpose).collect()
    }

    fn stored(&self, session: &Arc<Session>) -> Result<StoredSession, StoreError> {
        let ended = match self.log.ended_with_others(session) {
            None => {
                let key = session.credential.api_key().map(|id| self.api_key(id));
                let revoked_at = key.transpose()?.flatten().and_then(|key| key.revoked_at);
                revoked_at.map(|_| RevokeReason::ApiKey)
            }
            ended => ended,
        };
        Ok(StoredSession {
            session: Arc::clone(session),
            ended,
        })
    }
}

/// What a unit writes.
impl Group<'_> {
    /// From here on the events count. If they count before they are durable, tokens are only refused too soon.
    fn apply(&mut self, changes: Changes) -> Result<Placed, StoreError> {
        for (revision, files) in &changes.policies {
            self.put_policy(revision, files)?;
        }
        for setting in changes.settings {
            self.set(setting)?;
        }
        for session in &changes.sessions {
            self.put_session(session)?;
        }
        for key in &changes.api_keys {
            self.put_api_key(key)?;
        }
        for key in &changes.removed_api_keys {
            self.remove_api_key(key);
        }
        for change in &changes.clients {
            self.put_client(change)?;
        }
        for key in &changes.signing_keys {
            self.put(rows::signing_key_key(&key.id), key)?;
        }
        for id in &changes.removed_signing_keys {
            self.remove(rows::signing_key_key(id));
        }
        for (key, record) in &changes.requests {
            self.put_request(key, record)?;
        }
        for record in &changes.audit {
            self.put_audit(record)?;
        }
        let before = self.state.meta.last;
        for event in changes.events {
            self.append(event)?;
        }
        Ok(Placed::between(before, self.state.meta.last))
    }

    fn set(&mut self, setting: SettingChange) -> Result<(), StoreError> {
        match setting {
            SettingChange::PolicyInForce(revision) => {
                self.put(rows::policy_in_force_key(), &revision)?;
                self.state.policy = Some(revision);
                Ok(())
            }
            SettingChange::PolicyReconciled(revision, now) => {
                let key = rows::policy_reconciled_key();
                if let Some(before) = self.row::<PolicyRevision>("the reconciled policy", &key)? {
                    self.replaced(&before, Some(now))?;
                }
                self.replaced(&revision, None)?;
                self.put(key, &revision)
            }
            SettingChange::AuditSink(name, position) => {
                self.put(rows::audit_sink_key(&name), &(&name, position))
            }
            SettingChange::StalenessBound(realm, bound) => {
                self.put(rows::staleness_bound_key(&realm), &(&realm, bound))
            }
            SettingChange::Alive { now, settled } => {
                self.state.times.note_alive(now, settled);
                Ok(())
            }
            SettingChange::Started { now, settled } => {
                self.state.times.note_start(now, settled);
                Ok(())
            }
            SettingChange::BackedUp(backup) => self.put(rows::last_backup_key(), &backup),
        }
    }

    fn append(&mut self, event: NewEvent) -> Result<Sequence, StoreError> {
        let lead = self.state.times.lead_millis(event.occurred_at);
        let event = remembered(event, lead);
        let sequence = self.state.meta.last.next();
        let placed = placed(event.clone(), sequence);
        let until = self.put_cutoff(&placed, &event)?.unwrap_or(placed.relevant_until);
        self.put(rows::event_key(sequence), &placed)?;
        self.log.fold(&placed, until);
        self.events.push(Arc::new(placed));
        self.state.meta.last = sequence;
        Ok(sequence)
    }

    /// Writes an event that ends sessions beside the log, where it is kept longer than in the log, and returns how long
    /// it counts.
    fn put_cutoff(&mut self, event: &Event, new: &NewEvent) -> Result<Option<Timestamp>, StoreError> {
        let Some(key) = rows::cutoff_key(event) else {
            return Ok(None);
        };
        let earlier: Option<CutoffRow<Event>> = self.row("a cutoff", &key)?;
        let until = cutoff_until(new, earlier.as_ref().map(|row| row.until));
        if let Some(earlier) = earlier {
            self.remove(rows::cutoff_expiry_key(earlier.until, &key));
        }
        self.put_empty(rows::cutoff_expiry_key(until, &key));
        self.put(key, &CutoffRow { until, event })?;
        Ok(Some(until))
    }
}

#[cfg(test)]
mod tests;
