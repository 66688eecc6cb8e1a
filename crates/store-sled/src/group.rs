//! What the units of one group see and write: over the rows on disk, what those before them wrote.

use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};
use sled::Db;
use tessera_core::{
    ApiKey, ApiKeyId, Event, PolicyRevision, RevokeReason, Sequence, Session, SessionId, Timestamp,
};
use tessera_store::{
    Changes, ClientChange, ClientState, Log, NewEvent, Placed, PolicyFiles, Reads, RequestKey, RequestRecord,
    SettingChange, Snapshot, StoreError, StoredSession, Times, UnitOfWork,
    backend::{Step, caught, cutoff_until, placed, remembered},
};

use super::{
    changes::RowChanges,
    error::failed,
    read,
    rows::{self, CutoffRow, Meta, PolicyRow, SessionRow},
};

mod audit;
mod restore;

/// The largest part of a policy's files.
const POLICY_PART_BYTES: usize = 32 * 1024;

/// What the units of a group wrote so far; nothing of it is on the disk.
pub(super) struct Group<'a> {
    db: &'a Db,
    log: &'a Log,
    rows: RowChanges,
    events: Vec<Arc<Event>>,
    state: State,
    /// The times before the group.
    times_before: Times,
    /// The sessions that the unit has read, which it may write next.
    read: Vec<SessionRow<Arc<Session>>>,
}

/// What the writer knows without reading, as the last group left it.
#[derive(Clone)]
pub(super) struct State {
    pub(super) meta: Meta,
    pub(super) times: Times,
    pub(super) policy: Option<PolicyRevision>,
}

/// What a group writes.
pub(super) struct Finished {
    pub(super) rows: RowChanges,
    pub(super) events: Vec<Arc<Event>>,
    pub(super) state: State,
}

impl<'a> Group<'a> {
    pub(super) fn new(db: &'a Db, log: &'a Log, state: State) -> Self {
        Self {
            db,
            log,
            rows: RowChanges::default(),
            events: Vec::new(),
            times_before: state.times.clone(),
            state,
            read: Vec::new(),
        }
    }

    pub(super) fn writes_nothing(&self) -> bool {
        self.rows.is_empty() && self.state.times == self.times_before
    }

    /// The group's writes, its events, and the row about the store as `number` leaves it.
    pub(super) fn finish(mut self, number: u64) -> Result<Finished, StoreError> {
        self.state.meta.group = number;
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

    /// Reads, decides and writes. The outer failure is one of the database, and ends the group; the inner one is of the
    /// decision, and concerns nobody else: it wrote nothing.
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

/// Rows.
impl<'a> Group<'a> {
    /// The rows on disk, without what this group wrote: for finding candidates, which are then read.
    pub(super) fn db(&self) -> &'a Db {
        self.db
    }

    pub(super) fn meta_mut(&mut self) -> &mut Meta {
        &mut self.state.meta
    }

    pub(super) fn row<T: DeserializeOwned>(&self, what: &str, key: &[u8]) -> Result<Option<T>, StoreError> {
        match self.rows.get(key) {
            Some(value) => value.map(|bytes| rows::decode(what, bytes)).transpose(),
            None => read::row(self.db, what, key),
        }
    }

    pub(super) fn has_row(&self, key: &[u8]) -> Result<bool, StoreError> {
        match self.rows.get(key) {
            Some(value) => Ok(value.is_some()),
            None => self.db.contains_key(key).map_err(failed),
        }
    }

    pub(super) fn put<T: Serialize>(&mut self, key: Vec<u8>, row: &T) -> Result<(), StoreError> {
        self.rows.put(key, rows::encode(row)?);
        Ok(())
    }

    pub(super) fn put_empty(&mut self, key: Vec<u8>) {
        self.rows.put(key, Vec::new());
    }

    pub(super) fn remove(&mut self, key: Vec<u8>) {
        self.rows.remove(key);
    }

    pub(super) fn session_row(&self, id: SessionId) -> Result<Option<SessionRow<Arc<Session>>>, StoreError> {
        let row: Option<SessionRow<Session>> = self.row("a session", &rows::session_key(id))?;
        Ok(row.map(SessionRow::shared))
    }
}

/// What a unit sees.
impl Group<'_> {
    fn snapshot(&mut self, reads: &Reads) -> Result<Snapshot, StoreError> {
        let mut snapshot = Snapshot {
            head: self.state.meta.last,
            audit_head: self.state.meta.audit,
            policy: self.state.policy.clone(),
            times: self.state.times.clone(),
            ..Snapshot::default()
        };
        for id in reads.api_key_ids() {
            snapshot.api_keys.extend(self.api_key(id)?);
        }
        for id in reads.session_ids() {
            if self.read.iter().any(|row| row.session.id == *id) {
                continue;
            }
            match self.session_row(*id)? {
                Some(row) => {
                    snapshot.sessions.push(self.stored(&row.session)?);
                    self.read.push(row);
                }
                None => snapshot.missing_sessions.push(*id),
            }
        }
        for maker in reads.maker_ids() {
            snapshot.made.push((maker.clone(), self.made_with(maker)?));
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
            // Nothing decides by them within a group that changes them.
            snapshot.settings = Some(read::settings(self.db)?);
        }
        Ok(snapshot)
    }

    /// Those on disk, and those of this group.
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

    fn api_key(&self, id: &ApiKeyId) -> Result<Option<ApiKey>, StoreError> {
        self.row("an API key", &rows::api_key_key(id))
    }
}

/// What a unit writes.
impl Group<'_> {
    /// From here on the events count; that they may count before they are durable only refuses too soon.
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

    fn put_session(&mut self, session: &Arc<Session>) -> Result<(), StoreError> {
        let removable_at = session.removable_at();
        let old = match self.read.iter().position(|row| row.session.id == session.id) {
            Some(at) => Some(self.read.swap_remove(at)),
            None => self.session_row(session.id)?,
        };
        let expiry = old
            .as_ref()
            .map_or(removable_at, |old| old.expiry.min(removable_at));
        match &old {
            Some(old) => self.replace_session(old, session, expiry)?,
            None => {
                self.count_session(session, true)?;
                return self.put_new_session(session, expiry);
            }
        }
        let row = SessionRow {
            expiry,
            session: session.as_ref(),
        };
        self.put(rows::session_key(session.id), &row)
    }

    /// Writes a session that is not there, and so nothing that is kept beside it.
    fn put_new_session(&mut self, session: &Session, expiry: Timestamp) -> Result<(), StoreError> {
        self.rows
            .put_new(rows::session_expiry_key(expiry, session.id), Vec::new());
        for key in rows::index_keys(session) {
            self.rows.put_new(key, Vec::new());
        }
        let row = rows::encode(&SessionRow { expiry, session })?;
        self.rows.put_new(rows::session_key(session.id), row);
        Ok(())
    }

    /// Moves what is kept beside a session, as far as it changes.
    fn replace_session(
        &mut self,
        old: &SessionRow<Arc<Session>>,
        session: &Session,
        expiry: Timestamp,
    ) -> Result<(), StoreError> {
        if (&old.session.realm, &old.session.client) != (&session.realm, &session.client) {
            self.count_session(session, true)?;
            self.count_session(&old.session, false)?;
        }
        if old.expiry != expiry {
            self.remove(rows::session_expiry_key(old.expiry, session.id));
            self.put_empty(rows::session_expiry_key(expiry, session.id));
        }
        if !rows::same_index_keys(&old.session, session) {
            rows::index_keys(&old.session)
                .into_iter()
                .for_each(|key| self.remove(key));
            self.put_index_keys(session);
        }
        Ok(())
    }

    fn put_index_keys(&mut self, session: &Session) {
        rows::index_keys(session)
            .into_iter()
            .for_each(|key| self.put_empty(key));
    }

    /// Removes a session, but for its place in the expiry index.
    pub(super) fn remove_session(&mut self, session: &Session) -> Result<(), StoreError> {
        rows::index_keys(session)
            .into_iter()
            .for_each(|key| self.remove(key));
        self.remove(rows::session_key(session.id));
        self.count_session(session, false)
    }

    /// Counts a session that is new, or is one no more.
    fn count_session(&mut self, session: &Session, is_new: bool) -> Result<(), StoreError> {
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

    fn put_api_key(&mut self, key: &ApiKey) -> Result<(), StoreError> {
        if let Some(old) = self.api_key(&key.id)?
            && (&old.realm, &old.made_with) != (&key.realm, &key.made_with)
        {
            self.remove_api_key(&old);
        }
        if let Some(maker) = &key.made_with {
            self.put_empty(rows::api_key_by_maker_key(maker, &key.id));
        }
        self.put_empty(rows::api_key_by_realm_key(&key.realm, &key.id));
        self.put(rows::api_key_key(&key.id), key)
    }

    fn remove_api_key(&mut self, key: &ApiKey) {
        if let Some(maker) = &key.made_with {
            self.remove(rows::api_key_by_maker_key(maker, &key.id));
        }
        self.remove(rows::api_key_by_realm_key(&key.realm, &key.id));
        self.remove(rows::api_key_key(&key.id));
    }

    fn put_client(&mut self, change: &ClientChange) -> Result<(), StoreError> {
        let row = rows::client_disabled_key(&change.realm, &change.client);
        if change.is_disabled {
            return self.put(row, &(&change.realm, &change.client));
        }
        self.remove(row);
        Ok(())
    }

    fn put_request(&mut self, key: &RequestKey, record: &RequestRecord) -> Result<(), StoreError> {
        let row = rows::request_key(key);
        if let Some(old) = self.row::<RequestRecord>("a request", &row)? {
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

    /// Writes an event that ends sessions beside the log, where it outlives its position there, and answers
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
