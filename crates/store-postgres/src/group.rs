//! What the units of one group read and write: over the rows of the database, the writes of the earlier units.

mod load;
mod overlay;
pub(crate) mod write;

use std::sync::Arc;

use tessera_core::{
    ApiKey, ApiKeyId, AuditRecord, PolicyRevision, RealmName, RevokeReason, Session, SigningKey,
};
use tessera_store::{
    AuditBytes, Changes, ClientState, CutoffKey, NewEvent, Placed, PolicyFiles, Reads, SettingChange,
    Settings, Snapshot, StoreError, StoredSession, UnitOfWork,
    backend::{Step, caught, cutoff_until, placed, remembered},
};

pub(crate) use overlay::Group;

use overlay::PolicyChange;

use crate::{
    node::Kept,
    read_set::{Client, ReadSet},
};

/// The result of running a unit.
pub(crate) enum Ran {
    /// It decided, or its decision failed, which affects no other unit.
    Done(Result<Placed, StoreError>),
    /// It names rows that are not loaded.
    Needs(ReadSet),
}

impl Group<'_> {
    /// Decides, and applies the changes to the group.
    pub(crate) fn run(&mut self, unit: &mut UnitOfWork) -> Ran {
        loop {
            let wanted = self.wanted(unit.reads());
            if !wanted.is_empty() {
                return Ran::Needs(wanted);
            }
            let snapshot = self.snapshot(unit.reads());
            return Ran::Done(match caught(|| unit.decide(&snapshot)) {
                Ok(Step::Commit(changes)) => self.apply(changes),
                Ok(Step::Abort) => Ok(Placed::default()),
                Ok(Step::ReadMore) => continue,
                Err(panic) => Err(StoreError::Failed {
                    detail: format!("a decision {panic}"),
                }),
            });
        }
    }

    /// What the reads name, once it is loaded.
    pub(crate) fn snapshot(&self, reads: &Reads) -> Snapshot {
        let mut snapshot = Snapshot {
            head: self.state.last,
            audit_head: self.state.audit,
            policy: self.state.policy,
            times: self.state.times.clone(),
            ..Snapshot::default()
        };
        for id in reads.session_ids() {
            match self.sessions.get(id).and_then(Option::as_ref) {
                Some(session) => snapshot.sessions.push(self.stored(session)),
                None => snapshot.missing_sessions.push(*id),
            }
        }
        let api_keys = reads.api_key_ids().iter().filter_map(|id| self.api_keys.get(id));
        snapshot.api_keys = api_keys.flatten().cloned().collect();
        for maker in reads.maker_ids() {
            snapshot.made.push((*maker, self.made_with(maker)));
        }
        for (realm, client) in reads.client_names() {
            let owner = (realm.clone(), client.clone());
            let state = self.client(&owner);
            snapshot.clients.push((owner.0, owner.1, state));
        }
        let request = reads.request_key().and_then(|key| self.requests.get(key));
        snapshot.request = request.cloned().flatten();
        if reads.has_settings() {
            snapshot.settings.clone_from(&self.settings);
        }
        self.whole(reads, &mut snapshot);
        snapshot
    }

    /// What is named and is more than single rows.
    fn whole(&self, reads: &Reads, snapshot: &mut Snapshot) {
        if reads.has_signing_keys() {
            let mut keys = self.signing_keys.clone().unwrap_or_default();
            for (id, key) in &self.writes.signing_keys {
                match key {
                    Some(key) => drop(keys.insert(*id, key.clone())),
                    None => drop(keys.remove(id)),
                }
            }
            snapshot.signing_keys = keys.into_values().collect();
            let order = |one: &SigningKey, other: &SigningKey| {
                (one.not_before, &one.id).cmp(&(other.not_before, &other.id))
            };
            snapshot.signing_keys.sort_by(order);
        }
        for revision in reads.policy_revisions() {
            let files = self.policy_files(revision);
            snapshot.policies.extend(files.map(|files| (*revision, files)));
        }
        for realm in reads.realm_names() {
            snapshot.realms.push((realm.clone(), self.session_count(realm)));
        }
        if reads.has_events_below_floor() {
            snapshot.events_below_floor = self.events_below_floor.clone().unwrap_or_default();
        }
    }

    /// A policy that is kept already is not changed.
    fn policy_files(&self, revision: &PolicyRevision) -> Option<Arc<PolicyFiles>> {
        if let Some(kept) = self.policies.get(revision).and_then(Option::as_ref) {
            return Some(Arc::clone(kept));
        }
        self.writes.policies.iter().find_map(|change| match change {
            PolicyChange::Kept(of, files) if of == revision => Some(Arc::new(files.clone())),
            _ => None,
        })
    }

    fn session_count(&self, realm: &RealmName) -> u64 {
        let counts = self.writes.counts.iter();
        let more = counts.filter(|((of, _), _)| of == realm).map(|(_, more)| *more);
        let loaded = self.realms.get(realm).copied().unwrap_or_default();
        loaded.saturating_add_signed(more.sum())
    }

    pub(crate) fn stored(&self, session: &Arc<Session>) -> StoredSession {
        let committed = self.node.log.ended_with_others(session);
        let pending = self.pending.revokes_session(session);
        // The wider reason, as if both sets were one.
        let ended = [committed, pending].into_iter().flatten().min_by_key(breadth);
        let by_key = || {
            let id = session.credential.api_key()?;
            self.is_revoked(id)?.then_some(RevokeReason::ApiKey)
        };
        StoredSession {
            session: Arc::clone(session),
            ended: ended.or_else(by_key),
        }
    }

    fn made_with(&self, maker: &ApiKeyId) -> Vec<ApiKey> {
        let keys = self.api_keys.values().flatten();
        let mut made: Vec<_> = keys
            .filter(|key| key.made_with.as_ref() == Some(maker))
            .cloned()
            .collect();
        made.sort_by_key(|one| one.id);
        made
    }

    fn client(&self, owner: &Client) -> ClientState {
        let loaded = self.clients.get(owner).copied().unwrap_or_default();
        let more = self.writes.counts.get(owner).copied().unwrap_or_default();
        ClientState {
            is_disabled: self
                .writes
                .disabled
                .get(owner)
                .copied()
                .unwrap_or(loaded.is_disabled),
            sessions: loaded.sessions.saturating_add_signed(more),
        }
    }
}

/// The order in which reasons are checked.
fn breadth(reason: &RevokeReason) -> u8 {
    match reason {
        RevokeReason::Realm => 0,
        RevokeReason::Subject => 1,
        RevokeReason::Client => 2,
        RevokeReason::Label => 3,
        RevokeReason::Requested | RevokeReason::Reuse | RevokeReason::ApiKey | RevokeReason::Policy => 4,
    }
}

/// What a unit writes.
impl Group<'_> {
    fn apply(&mut self, changes: Changes) -> Result<Placed, StoreError> {
        // Steps that can fail come first: a unit that fails leaves nothing.
        self.append_audit(&changes.audit)?;
        self.writes.is_any |= changes != Changes::default();
        for (revision, files) in changes.policies {
            self.writes.policies.push(PolicyChange::Kept(revision, files));
        }
        for setting in changes.settings {
            self.set(setting)?;
        }
        for session in &changes.sessions {
            self.put_session(session);
        }
        for key in changes.api_keys {
            self.writes.api_keys.insert(key.id);
            self.api_keys.insert(key.id, Some(key));
        }
        for key in changes.removed_api_keys {
            self.writes.api_keys.insert(key.id);
            self.api_keys.insert(key.id, None);
        }
        for change in changes.clients {
            self.put_client((change.realm, change.client), change.is_disabled);
        }
        for key in changes.signing_keys {
            self.writes.signing_keys.insert(key.id, Some(key));
        }
        for id in changes.removed_signing_keys {
            self.writes.signing_keys.insert(id, None);
        }
        for (key, record) in changes.requests {
            let name = (key.realm.clone(), key.client.clone(), *key.request.as_bytes());
            self.requests.insert(key.clone(), Some(record.clone()));
            self.writes.requests.insert(name, (key, record));
        }
        let before = self.state.last;
        for event in changes.events {
            self.append(event);
        }
        Ok(Placed::between(before, self.state.last))
    }

    /// A session that was not loaded is treated as new. If it exists, the insert fails, and the group runs again with
    /// the session loaded.
    fn put_session(&mut self, session: &Arc<Session>) {
        let id = session.id;
        let old = self.sessions.insert(id, Some(Arc::clone(session))).flatten();
        match old {
            None => {
                self.writes.inserted.insert(id);
                self.count(session, 1);
            }
            Some(old) => {
                let has_other_owner = old.realm != session.realm || old.client != session.client;
                if has_other_owner {
                    self.count(session, 1);
                    self.count(&old, -1);
                }
                if !self.writes.inserted.contains(&id) {
                    self.writes.updated.insert(id);
                    if has_other_owner
                        || old.subject != session.subject
                        || old.credential != session.credential
                        || !self.places.contains_key(&id)
                    {
                        self.writes.moved.insert(id);
                    }
                    if old.realm != session.realm || old.labels != session.labels {
                        self.writes.relabelled.insert(id);
                    }
                }
            }
        }
    }

    fn count(&mut self, session: &Session, more: i64) {
        let owner = (session.realm.clone(), session.client.clone());
        *self.writes.counts.entry(owner).or_default() += more;
    }

    fn put_client(&mut self, owner: Client, is_disabled: bool) {
        if let Some(settings) = &mut self.settings {
            settings.disabled_clients.retain(|client| *client != owner);
            if is_disabled {
                settings.disabled_clients.push(owner.clone());
                settings.disabled_clients.sort();
            }
        }
        self.writes.disabled.insert(owner, is_disabled);
    }

    fn set(&mut self, setting: SettingChange) -> Result<(), StoreError> {
        let mut unread = Settings::default();
        let settings = self.settings.as_mut().unwrap_or(&mut unread);
        match setting {
            SettingChange::PolicyInForce(revision) => self.state.policy = Some(revision),
            SettingChange::PolicyReconciled(revision, now) => {
                settings.policy_reconciled = Some(revision);
                self.writes.policies.push(PolicyChange::Reconciled(revision, now));
            }
            SettingChange::AuditSink(name, position) => {
                settings.audit_sinks.insert(name.clone(), position);
                self.writes.sinks.insert(name, position);
            }
            SettingChange::StalenessBound(realm, bound) => {
                settings.staleness_bounds.insert(realm.clone(), bound);
                let millis = i64::try_from(bound.as_millis()).unwrap_or(i64::MAX);
                self.writes.bounds.insert(realm, millis);
            }
            SettingChange::Alive { now, settled } => self.state.times.note_alive(now, settled),
            SettingChange::Started { now, settled } => self.state.times.note_start(now, settled),
            SettingChange::BackedUp(backup) => {
                settings.last_backup = Some(backup);
                self.writes.last_backup = Some(tessera_store::backend::encode(&backup)?);
            }
        }
        Ok(())
    }

    fn append_audit(&mut self, records: &[AuditRecord]) -> Result<(), StoreError> {
        let mut head = self.state.audit;
        let mut entries = Vec::with_capacity(records.len());
        for record in records {
            let (next, encoded) = head.append(record)?;
            let bytes = AuditBytes {
                position: next.position,
                previous: head.link,
                encoded,
            };
            entries.push((bytes, record.at));
            head = next;
        }
        records.iter().for_each(|record| self.state.times.note(record.at));
        self.state.audit = head;
        self.writes.audit.extend(entries);
        Ok(())
    }

    fn append(&mut self, event: NewEvent) {
        let lead = self.state.times.lead_millis(event.occurred_at);
        let event = remembered(event, lead);
        let sequence = self.state.last.next();
        let placed = Arc::new(placed(event.clone(), sequence));
        let mut counts_until = placed.relevant_until;
        if let Some(key) = CutoffKey::of(&placed) {
            let earlier = self.writes.cutoffs.get(&key).map(|(until, _)| *until);
            counts_until = cutoff_until(&event, earlier.or_else(|| self.node.cutoff(&key)));
            let at = self.writes.events.len();
            self.writes.cutoffs.insert(key, (counts_until, at));
        }
        self.pending.apply_until(&placed, counts_until);
        self.writes.events.push(Kept {
            event: placed,
            counts_until,
        });
        self.state.last = sequence;
    }
}
