//! The tables, the snapshots of them, and the effects of changes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use tessera_core::{
    ApiKey, ApiKeyId, AuditRecord, ClientName, Event, KeyId, PolicyRevision, RealmName, RevokeReason,
    Sequence, Session, SessionId, SigningKey, Timestamp,
};

use crate::{
    audit::{AuditEntry, AuditHead},
    backup::CutoffKey,
    error::StoreError,
    log::{
        Log,
        cutoff::{cutoff_until, placed, remembered},
    },
    reads::Reads,
    record::{LastBackup, NewEvent, PolicyFiles, RequestKey, RequestRecord, Settings},
    snapshot::{ClientState, Snapshot, StoredSession},
    times::Times,
    unit::{Changes, SettingChange},
};

#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) sessions: BTreeMap<SessionId, Arc<Session>>,
    /// How many sessions each client has.
    pub(super) session_counts: HashMap<(RealmName, ClientName), u64>,
    pub(super) api_keys: BTreeMap<ApiKeyId, ApiKey>,
    pub(super) disabled: BTreeSet<(RealmName, ClientName)>,
    pub(super) signing_keys: HashMap<KeyId, SigningKey>,
    pub(super) requests: HashMap<RequestKey, RequestRecord>,
    pub(super) policies: HashMap<PolicyRevision, KeptPolicy>,
    pub(super) policy: Option<PolicyRevision>,
    pub(super) policy_reconciled: Option<PolicyRevision>,
    pub(super) staleness_bounds: BTreeMap<RealmName, Duration>,
    pub(super) audit_sinks: BTreeMap<String, u64>,
    pub(super) last_backup: Option<LastBackup>,
    pub(super) events: BTreeMap<Sequence, Arc<Event>>,
    /// The events that end sessions, and how long each counts.
    pub(super) cutoffs: BTreeMap<CutoffKey, (Timestamp, Arc<Event>)>,
    pub(super) audit: BTreeMap<u64, AuditEntry>,
    pub(super) audit_head: AuditHead,
    pub(super) last: Sequence,
    pub(super) purged: Option<Timestamp>,
    pub(super) times: Times,
}

/// A policy's files, and when it was replaced.
#[derive(Clone, Debug)]
pub(super) struct KeptPolicy {
    pub(super) files: Arc<PolicyFiles>,
    pub(super) replaced_at: Option<Timestamp>,
}

impl Tables {
    pub(super) fn snapshot(&self, reads: &Reads, log: &Log) -> Snapshot {
        let sessions = reads.sessions.iter().filter_map(|id| self.sessions.get(id));
        let api_keys = reads.api_keys.iter().filter_map(|id| self.api_keys.get(id));
        let mut snapshot = Snapshot {
            head: self.last,
            audit_head: self.audit_head,
            policy: self.policy,
            times: self.times.clone(),
            sessions: sessions
                .map(|session| self.stored(Arc::clone(session), log))
                .collect(),
            missing_sessions: reads
                .sessions
                .iter()
                .filter(|id| !self.sessions.contains_key(id))
                .copied()
                .collect(),
            api_keys: api_keys.cloned().collect(),
            made: reads
                .makers
                .iter()
                .map(|maker| (*maker, self.made_with(maker)))
                .collect(),
            clients: reads
                .clients
                .iter()
                .map(|(realm, client)| (realm.clone(), client.clone(), self.client(realm, client)))
                .collect(),
            request: reads
                .request
                .as_ref()
                .and_then(|key| self.requests.get(key).cloned()),
            settings: reads.settings.then(|| Settings {
                policy_reconciled: self.policy_reconciled,
                staleness_bounds: self.staleness_bounds.clone(),
                audit_sinks: self.audit_sinks.clone(),
                disabled_clients: self.disabled.iter().cloned().collect(),
                last_backup: self.last_backup,
            }),
            ..Snapshot::default()
        };
        self.whole(reads, log, &mut snapshot);
        snapshot
    }

    /// What is named and is more than single rows.
    fn whole(&self, reads: &Reads, log: &Log, snapshot: &mut Snapshot) {
        if reads.signing_keys {
            snapshot.signing_keys = self.signing_keys();
        }
        for revision in &reads.policies {
            let kept = self.policies.get(revision);
            let files = kept.map(|kept| (*revision, Arc::clone(&kept.files)));
            snapshot.policies.extend(files);
        }
        for realm in &reads.realms {
            snapshot.realms.push((realm.clone(), self.session_count(realm)));
        }
        if reads.events_below_floor {
            let below = self.events.range(..=log.floor());
            snapshot.events_below_floor = below.map(|(_, event)| Arc::clone(event)).collect();
        }
    }

    fn signing_keys(&self) -> Vec<SigningKey> {
        let mut keys: Vec<_> = self.signing_keys.values().cloned().collect();
        keys.sort_by(|one, other| (one.not_before, &one.id).cmp(&(other.not_before, &other.id)));
        keys
    }

    fn session_count(&self, realm: &RealmName) -> u64 {
        let counts = self.session_counts.iter();
        let of_realm = counts.filter(|((of, _), _)| of == realm);
        of_realm.map(|(_, sessions)| sessions).sum()
    }

    pub(super) fn stored(&self, session: Arc<Session>, log: &Log) -> StoredSession {
        let by_key = || {
            let key = self.api_keys.get(session.credential.api_key()?)?;
            key.revoked_at.map(|_| RevokeReason::ApiKey)
        };
        StoredSession {
            ended: log.ended_with_others(&session).or_else(by_key),
            session,
        }
    }

    fn made_with(&self, maker: &ApiKeyId) -> Vec<ApiKey> {
        let keys = self.api_keys.values();
        keys.filter(|key| key.made_with.as_ref() == Some(maker))
            .cloned()
            .collect()
    }

    fn client(&self, realm: &RealmName, client: &ClientName) -> ClientState {
        let owner = (realm.clone(), client.clone());
        ClientState {
            is_disabled: self.disabled.contains(&owner),
            sessions: self.session_counts.get(&owner).copied().unwrap_or(0),
        }
    }

    /// Applies the changes of a decision, and returns its events. Nothing is written if it fails.
    pub(super) fn apply(&mut self, changes: Changes, log: &Log) -> Result<Vec<Arc<Event>>, StoreError> {
        self.append_audit(changes.audit)?;
        for (revision, files) in changes.policies {
            self.policies.entry(revision).or_insert_with(|| KeptPolicy {
                files: Arc::new(files),
                replaced_at: None,
            });
        }
        for setting in changes.settings {
            self.set(setting);
        }
        for session in changes.sessions {
            self.put_session(session);
        }
        for key in changes.api_keys {
            self.api_keys.insert(key.id, key);
        }
        for key in changes.removed_api_keys {
            self.api_keys.remove(&key.id);
        }
        for change in changes.clients {
            let client = (change.realm, change.client);
            if change.is_disabled {
                self.disabled.insert(client);
            } else {
                self.disabled.remove(&client);
            }
        }
        for key in changes.signing_keys {
            self.signing_keys.insert(key.id, key);
        }
        for id in changes.removed_signing_keys {
            self.signing_keys.remove(&id);
        }
        self.requests.extend(changes.requests);
        let events = changes.events.into_iter();
        Ok(events.map(|event| self.append(event, log)).collect())
    }

    fn append_audit(&mut self, records: Vec<AuditRecord>) -> Result<(), StoreError> {
        let mut head = self.audit_head;
        let mut entries = Vec::new();
        for record in records {
            let (next, encoded) = head.append(&record)?;
            entries.push(AuditEntry {
                position: next.position,
                previous: head.link,
                encoded,
                record,
            });
            head = next;
        }
        self.audit_head = head;
        for entry in entries {
            self.times.note(entry.record.at);
            self.audit.insert(entry.position, entry);
        }
        Ok(())
    }

    fn set(&mut self, setting: SettingChange) {
        match setting {
            SettingChange::PolicyInForce(revision) => self.policy = Some(revision),
            SettingChange::PolicyReconciled(revision, now) => {
                if let Some(before) = self.policy_reconciled.take() {
                    self.replaced(&before, Some(now));
                }
                self.replaced(&revision, None);
                self.policy_reconciled = Some(revision);
            }
            SettingChange::AuditSink(name, position) => {
                self.audit_sinks.insert(name, position);
            }
            SettingChange::StalenessBound(realm, bound) => {
                self.staleness_bounds.insert(realm, bound);
            }
            SettingChange::Alive { now, settled } => self.times.note_alive(now, settled),
            SettingChange::Started { now, settled } => self.times.note_start(now, settled),
            SettingChange::BackedUp(backup) => self.last_backup = Some(backup),
        }
    }

    /// Notes when a policy was replaced, or that it is in force again.
    fn replaced(&mut self, revision: &PolicyRevision, replaced_at: Option<Timestamp>) {
        if let Some(kept) = self.policies.get_mut(revision) {
            kept.replaced_at = replaced_at;
        }
    }

    fn append(&mut self, event: NewEvent, log: &Log) -> Arc<Event> {
        let lead = self.times.lead_millis(event.occurred_at);
        let event = remembered(event, lead);
        self.last = self.last.next();
        let placed = Arc::new(placed(event.clone(), self.last));
        let mut until = placed.relevant_until;
        if let Some(key) = CutoffKey::of(&placed) {
            until = cutoff_until(&event, self.cutoffs.get(&key).map(|(until, _)| *until));
            self.cutoffs.insert(key, (until, Arc::clone(&placed)));
        }
        log.fold(&placed, until);
        self.events.insert(self.last, Arc::clone(&placed));
        placed
    }
}
