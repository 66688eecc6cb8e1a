//! Backups of the tables, and tables made from a backup.

use std::sync::Arc;

use tessera_core::{ClientName, Event, RealmName, Revocations};

use super::tables::{KeptPolicy, Tables};
use crate::{
    backup::{BackupEnd, BackupRecord, CutoffKey},
    log::{Log, LogStart, cutoff::cutoff_target},
};

impl Tables {
    /// The tables of a backup, and its log.
    pub(super) fn of_backup(
        records: impl IntoIterator<Item = BackupRecord>,
        end: BackupEnd,
    ) -> (Self, LogStart) {
        let mut tables = Self::default();
        for record in records {
            tables.put(record);
        }
        let (log, floor, audit_head) = (end.log, end.floor, end.audit_head);
        tables.end(end);
        let start = LogStart {
            last: tables.last,
            floor,
            events: tables.events.values().cloned().collect(),
            revocations: tables.revocations(),
            times: tables.times.clone(),
            purged: tables.purged,
            audit_head,
            ..LogStart::empty(log)
        };
        (tables, start)
    }

    pub(super) fn records(&self, log: &Log) -> (Vec<BackupRecord>, BackupEnd) {
        let mut records = Vec::new();
        let sessions = self.sessions.values();
        records.extend(sessions.map(|session| BackupRecord::Session(Box::new(session.as_ref().clone()))));
        let api_keys = self.api_keys.values().cloned();
        records.extend(api_keys.map(|key| BackupRecord::ApiKey(Box::new(key))));
        let disabled = self.disabled.iter();
        records.extend(disabled.map(|(realm, client)| client_record(realm, client)));
        let signing_keys = self.signing_keys.values().cloned();
        records.extend(signing_keys.map(|key| BackupRecord::SigningKey(Box::new(key))));
        let requests = self.requests.iter();
        records.extend(requests.map(|(key, record)| BackupRecord::Request(key.clone(), record.clone())));
        records.extend(self.policies.iter().map(|(revision, kept)| BackupRecord::Policy {
            revision: *revision,
            files: kept.files.as_ref().clone(),
            replaced_at: kept.replaced_at,
        }));
        records.extend(
            self.events
                .values()
                .map(|event| BackupRecord::Event(boxed(event))),
        );
        records.extend(self.cutoffs.values().map(|(until, event)| BackupRecord::Cutoff {
            until: *until,
            event: boxed(event),
        }));
        let audit = self.audit.values().cloned();
        records.extend(audit.map(|entry| BackupRecord::Audit(entry.into())));
        let bounds = self.staleness_bounds.iter();
        records.extend(bounds.map(|(realm, bound)| BackupRecord::StalenessBound(realm.clone(), *bound)));
        (records, self.position(log))
    }

    fn position(&self, log: &Log) -> BackupEnd {
        let first = self.audit.keys().next().copied();
        BackupEnd {
            log: log.id(),
            last: self.last,
            floor: log.floor(),
            audit_first: first.unwrap_or(self.audit_head.position + 1),
            audit_head: self.audit_head,
            policy: self.policy,
            policy_reconciled: self.policy_reconciled,
            purged: self.purged,
            times: self.times.clone(),
            last_backup: self.last_backup,
        }
    }

    fn put(&mut self, record: BackupRecord) {
        match record {
            BackupRecord::Session(session) => self.put_session(Arc::from(session)),
            BackupRecord::NoSession(id) => self.remove_session(id),
            BackupRecord::ApiKey(key) => drop(self.api_keys.insert(key.id, *key)),
            BackupRecord::NoApiKey(id) => drop(self.api_keys.remove(&id)),
            BackupRecord::Client {
                realm,
                client,
                is_disabled,
            } => {
                if is_disabled {
                    self.disabled.insert((realm, client));
                } else {
                    self.disabled.remove(&(realm, client));
                }
            }
            BackupRecord::SigningKey(key) => drop(self.signing_keys.insert(key.id, *key)),
            BackupRecord::NoSigningKey(id) => drop(self.signing_keys.remove(&id)),
            BackupRecord::Request(key, record) => drop(self.requests.insert(key, record)),
            BackupRecord::NoRequest(key) => drop(self.requests.remove(&key)),
            BackupRecord::Policy {
                revision,
                files,
                replaced_at,
            } => {
                let files = Arc::new(files);
                self.policies.insert(revision, KeptPolicy { files, replaced_at });
            }
            BackupRecord::NoPolicy(revision) => drop(self.policies.remove(&revision)),
            BackupRecord::Event(event) => drop(self.events.insert(event.sequence, Arc::from(event))),
            BackupRecord::NoEvent(sequence) => drop(self.events.remove(&sequence)),
            BackupRecord::Cutoff { until, event } => {
                if let Some(key) = CutoffKey::of(&event) {
                    self.cutoffs.insert(key, (until, Arc::from(event)));
                }
            }
            BackupRecord::NoCutoff(key) => drop(self.cutoffs.remove(&key)),
            // Bytes that are not a record can't come from a backup of this version.
            BackupRecord::Audit(bytes) => {
                self.audit
                    .extend(bytes.entry().ok().map(|entry| (entry.position, entry)));
            }
            BackupRecord::StalenessBound(realm, bound) => drop(self.staleness_bounds.insert(realm, bound)),
        }
    }

    fn end(&mut self, end: BackupEnd) {
        self.audit.retain(|position, _| *position >= end.audit_first);
        self.last = end.last;
        self.audit_head = end.audit_head;
        self.policy = end.policy;
        self.policy_reconciled = end.policy_reconciled;
        self.purged = end.purged;
        self.times = end.times;
        self.last_backup = end.last_backup;
    }

    /// What the events and cutoffs revoke.
    fn revocations(&self) -> Revocations {
        let mut revocations = Revocations::default();
        // Events that end sessions are among the cutoffs, with the time that counts for them.
        let of_tokens = self
            .events
            .values()
            .filter(|event| cutoff_target(&event.body).is_none());
        of_tokens.for_each(|event| revocations.apply(event));
        for (until, event) in self.cutoffs.values() {
            revocations.apply_until(event, *until);
        }
        revocations.advance(self.last);
        revocations
    }
}

fn boxed(event: &Arc<Event>) -> Box<Event> {
    Box::new(event.as_ref().clone())
}

fn client_record(realm: &RealmName, client: &ClientName) -> BackupRecord {
    BackupRecord::Client {
        realm: realm.clone(),
        client: client.clone(),
        is_disabled: true,
    }
}
