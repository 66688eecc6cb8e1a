//! What a job of the writer sees and does: its own writes over those of the group's earlier jobs, over
//! the rows on disk.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use ::sled::Db;
use serde::{Serialize, de::DeserializeOwned};
use tessera_core::{
    ApiKey, ApiKeyId, AuditRecord, ClientName, Event, PolicyRevision, RealmName, Revocations, RevokeReason,
    Sequence, Session, SessionId, SigningKey, Timestamp,
};

use super::{
    disk::{Changes, failed},
    rows::{self, CutoffRow, Meta, PolicyRow, SessionRow},
};
use crate::{
    cutoff::{cutoff_until, placed, remembered},
    error::StoreError,
    store::{NewEvent, PolicyFiles, RequestKey, RequestRecord, SharedRevocations, Transaction},
    times::Times,
};

/// The largest part of a policy's files.
const POLICY_PART_BYTES: usize = 32 * 1024;

/// What the jobs of a group wrote so far; nothing of it is on the disk.
pub(super) struct Group {
    changes: Changes,
    events: Vec<Arc<Event>>,
    meta: Meta,
    times: Times,
    /// What they were before the group.
    times_before: Times,
}

/// What a group writes.
pub(super) struct Finished {
    pub(super) changes: Changes,
    pub(super) events: Vec<Arc<Event>>,
    pub(super) meta: Meta,
    pub(super) times: Times,
}

/// What one job wrote so far. Dropped where the job fails.
pub(super) struct Stage<'a> {
    db: &'a Db,
    group: &'a Group,
    committed: &'a SharedRevocations,
    changes: Changes,
    events: Vec<(Arc<Event>, Timestamp)>,
    /// The events of this job alone, folded.
    revocations: Revocations,
    meta: Meta,
    times: Times,
    /// A failure of the database. The job may have ignored it; the group must not.
    failure: Option<StoreError>,
}

/// What a job wrote, once it answered that it shall be kept.
pub(super) struct Staged {
    changes: Changes,
    events: Vec<(Arc<Event>, Timestamp)>,
    meta: Meta,
    times: Times,
}

impl Group {
    pub(super) fn new(meta: Meta, times: Times) -> Self {
        Self {
            changes: Changes::new(),
            events: Vec::new(),
            meta,
            times: times.clone(),
            times_before: times,
        }
    }

    /// Adds what a job wrote. From here on its events count; that they may count before they are
    /// durable only refuses too soon.
    pub(super) fn merge(&mut self, staged: Staged, revocations: &SharedRevocations) {
        self.changes.extend(staged.changes);
        self.meta = staged.meta;
        self.times = staged.times;
        if staged.events.is_empty() {
            return;
        }
        let mut revocations = revocations.write().unwrap_or_else(PoisonError::into_inner);
        for (event, until) in staged.events {
            revocations.apply_until(&event, until);
            self.events.push(event);
        }
    }

    pub(super) fn writes_nothing(&self) -> bool {
        self.changes.is_empty() && self.times == self.times_before
    }

    /// The group's writes, its events, and the row about the store as `number` leaves it.
    pub(super) fn finish(mut self, number: u64) -> Result<Finished, StoreError> {
        self.meta.group = number;
        if self.times != self.times_before {
            self.changes
                .insert(rows::times_key(), Some(rows::encode(&self.times)?));
        }
        self.changes
            .insert(rows::meta_key(), Some(rows::encode(&self.meta)?));
        Ok(Finished {
            changes: self.changes,
            events: self.events,
            meta: self.meta,
            times: self.times,
        })
    }
}

impl<'a> Stage<'a> {
    pub(super) fn new(db: &'a Db, group: &'a Group, committed: &'a SharedRevocations) -> Self {
        Self {
            db,
            group,
            committed,
            changes: Changes::new(),
            events: Vec::new(),
            revocations: Revocations::default(),
            meta: group.meta,
            times: group.times.clone(),
            failure: None,
        }
    }

    /// What was written, or the failure that ends the store's life.
    pub(super) fn finish(self) -> Result<Staged, StoreError> {
        match self.failure {
            Some(failure) => Err(failure),
            None => Ok(Staged {
                changes: self.changes,
                events: self.events,
                meta: self.meta,
                times: self.times,
            }),
        }
    }

    /// The rows on disk, without what this group wrote: for finding candidates, which are then read.
    pub(super) fn db(&self) -> &'a Db {
        self.db
    }

    pub(super) fn meta_mut(&mut self) -> &mut Meta {
        &mut self.meta
    }

    pub(super) fn row<T: DeserializeOwned>(
        &mut self,
        what: &str,
        key: &[u8],
    ) -> Result<Option<T>, StoreError> {
        let staged = self.changes.get(key).or_else(|| self.group.changes.get(key));
        let row = match staged {
            Some(value) => value
                .as_deref()
                .map(|bytes| rows::decode(what, bytes))
                .transpose(),
            None => match self.db.get(key) {
                Ok(value) => value.map(|bytes| rows::decode(what, &bytes)).transpose(),
                Err(error) => Err(failed(error)),
            },
        };
        self.noted(row)
    }

    pub(super) fn has_row(&mut self, key: &[u8]) -> Result<bool, StoreError> {
        let staged = self.changes.get(key).or_else(|| self.group.changes.get(key));
        match staged {
            Some(value) => Ok(value.is_some()),
            None => {
                let found = self.db.contains_key(key).map_err(failed);
                self.noted(found)
            }
        }
    }

    pub(super) fn put<T: Serialize>(&mut self, key: Vec<u8>, row: &T) -> Result<(), StoreError> {
        self.changes.insert(key, Some(rows::encode(row)?));
        Ok(())
    }

    pub(super) fn put_empty(&mut self, key: Vec<u8>) {
        self.changes.insert(key, Some(Vec::new()));
    }

    pub(super) fn remove(&mut self, key: Vec<u8>) {
        self.changes.insert(key, None);
    }

    pub(super) fn session_row(&mut self, id: SessionId) -> Result<Option<SessionRow<Session>>, StoreError> {
        self.row("a session", &rows::session_key(id))
    }

    /// Remembers a failure of the database, so that it is not lost where a job ignores it.
    pub(super) fn noted<T>(&mut self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error) = &result {
            self.failure.get_or_insert_with(|| error.clone());
        }
        result
    }

    /// Counts a session that is new, or is one no more.
    pub(super) fn count_session(&mut self, session: &Session, is_new: bool) -> Result<(), StoreError> {
        let key = rows::session_count_key(&session.realm, &session.client);
        let before: u64 = self.row("a number of sessions", &key)?.unwrap_or(0);
        let after = if is_new {
            before.saturating_add(1)
        } else {
            before.saturating_sub(1)
        };
        if after == 0 {
            self.remove(key);
            return Ok(());
        }
        self.put(key, &after)
    }

    /// Notes when a policy was replaced, or that it is in force again.
    fn replaced(
        &mut self,
        revision: &PolicyRevision,
        replaced_at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let key = rows::policy_key(revision);
        match self.row::<PolicyRow>("a policy", &key)? {
            Some(row) => self.put(key, &PolicyRow { replaced_at, ..row }),
            None => Ok(()),
        }
    }

    /// Writes an event that ends sessions beside the log, where it outlives its place there, and answers
    /// how long it counts.
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

impl Transaction for Stage<'_> {
    fn session(&mut self, id: SessionId) -> Result<Option<Session>, StoreError> {
        Ok(self.session_row(id)?.map(|row| row.session))
    }

    fn api_key(&mut self, id: &ApiKeyId) -> Result<Option<ApiKey>, StoreError> {
        self.row("an API key", &rows::api_key_key(id))
    }

    fn is_disabled(&mut self, realm: &RealmName, client: &ClientName) -> Result<bool, StoreError> {
        self.has_row(&rows::client_disabled_key(realm, client))
    }

    fn sessions_of(&mut self, realm: &RealmName, client: &ClientName) -> Result<u64, StoreError> {
        let count = self.row("a number of sessions", &rows::session_count_key(realm, client))?;
        Ok(count.unwrap_or(0))
    }

    fn request(&mut self, key: &RequestKey) -> Result<Option<RequestRecord>, StoreError> {
        self.row("a request", &rows::request_key(key))
    }

    fn last_sequence(&self) -> Sequence {
        self.meta.last
    }

    fn revokes_session(&self, session: &Session) -> Option<RevokeReason> {
        let before = || {
            self.committed
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .revokes_session(session)
        };
        self.revocations.revokes_session(session).or_else(before)
    }

    fn put_session(&mut self, session: &Session) -> Result<(), StoreError> {
        let removable_at = session.removable_at();
        let old = self.session_row(session.id)?;
        let expiry = old
            .as_ref()
            .map_or(removable_at, |old| old.expiry.min(removable_at));
        let moved = old.as_ref().is_none_or(|old| old.expiry != expiry);
        let reindexed = old
            .as_ref()
            .is_none_or(|old| !rows::same_index_keys(&old.session, session));
        let is_anothers = |old: &SessionRow<Session>| {
            (&old.session.realm, &old.session.client) != (&session.realm, &session.client)
        };
        if old.as_ref().is_none_or(is_anothers) {
            self.count_session(session, true)?;
        }
        if let Some(old) = old.as_ref().filter(|old| is_anothers(old)) {
            self.count_session(&old.session, false)?;
        }
        if let Some(old) = &old {
            if moved {
                self.remove(rows::session_expiry_key(old.expiry, session.id));
            }
            if reindexed {
                rows::index_keys(&old.session)
                    .into_iter()
                    .for_each(|key| self.remove(key));
            }
        }
        if moved {
            self.put_empty(rows::session_expiry_key(expiry, session.id));
        }
        if reindexed {
            rows::index_keys(session)
                .into_iter()
                .for_each(|key| self.put_empty(key));
        }
        self.put(rows::session_key(session.id), &SessionRow { expiry, session })
    }

    fn put_api_key(&mut self, key: &ApiKey) -> Result<(), StoreError> {
        if let Some(old) = self.api_key(&key.id)?
            && old.realm != key.realm
        {
            self.remove(rows::api_key_by_realm_key(&old.realm, &old.id));
        }
        self.put_empty(rows::api_key_by_realm_key(&key.realm, &key.id));
        self.put(rows::api_key_key(&key.id), key)
    }

    fn remove_api_key(&mut self, key: &ApiKey) -> Result<(), StoreError> {
        self.remove(rows::api_key_by_realm_key(&key.realm, &key.id));
        self.remove(rows::api_key_key(&key.id));
        Ok(())
    }

    fn put_disabled(
        &mut self,
        realm: &RealmName,
        client: &ClientName,
        is_disabled: bool,
    ) -> Result<(), StoreError> {
        let row = rows::client_disabled_key(realm, client);
        if is_disabled {
            return self.put(row, &(realm, client));
        }
        self.remove(row);
        Ok(())
    }

    fn put_signing_key(&mut self, key: &SigningKey) -> Result<(), StoreError> {
        self.put(rows::signing_key_key(&key.id), key)
    }

    fn put_request(&mut self, key: &RequestKey, record: &RequestRecord) -> Result<(), StoreError> {
        let row = rows::request_key(key);
        if let Some(old) = self.request(key)? {
            self.remove(rows::request_expiry_key(old.expires_at, &row));
        }
        self.put_empty(rows::request_expiry_key(record.expires_at, &row));
        self.put(row, record)
    }

    fn put_policy(&mut self, revision: &PolicyRevision, files: &PolicyFiles) -> Result<(), StoreError> {
        let key = rows::policy_key(revision);
        if self.has_row(&key)? {
            return Ok(());
        }
        let bytes = rows::encode(files)?;
        let mut parts = 0;
        for part in bytes.chunks(POLICY_PART_BYTES) {
            self.put(rows::policy_part_key(revision, parts), &part)?;
            parts += 1;
        }
        let replaced_at = None;
        self.put(key, &PolicyRow { parts, replaced_at })
    }

    fn put_reconciled_policy(&mut self, revision: &PolicyRevision, now: Timestamp) -> Result<(), StoreError> {
        let key = rows::policy_reconciled_key();
        if let Some(before) = self.row::<PolicyRevision>("the reconciled policy", &key)? {
            self.replaced(&before, Some(now))?;
        }
        self.replaced(revision, None)?;
        self.put(key, revision)
    }

    fn put_staleness_bound(&mut self, realm: &RealmName, bound: Duration) -> Result<(), StoreError> {
        self.put(rows::staleness_bound_key(realm), &(realm, bound))
    }

    fn times(&mut self) -> &mut Times {
        &mut self.times
    }

    fn append(&mut self, event: NewEvent) -> Result<Sequence, StoreError> {
        let lead = self.times.lead_millis(event.occurred_at);
        let event = remembered(event, lead);
        let sequence = self.meta.last.next();
        let placed = placed(event.clone(), sequence);
        let until = self.put_cutoff(&placed, &event)?.unwrap_or(placed.relevant_until);
        self.put(rows::event_key(sequence), &placed)?;
        self.revocations.apply_until(&placed, until);
        self.events.push((Arc::new(placed), until));
        self.meta.last = sequence;
        Ok(sequence)
    }

    fn audit(&mut self, record: &AuditRecord) -> Result<(), StoreError> {
        self.times.note(record.at);
        let position = self.meta.audit_last.saturating_add(1);
        self.put(rows::audit_key(position), record)?;
        self.meta.audit_last = position;
        Ok(())
    }
}
