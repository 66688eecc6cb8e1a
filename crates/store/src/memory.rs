//! The store in memory, for trying out and for tests. It has the semantics of the durable one, written
//! for plainness: indexes are scans, and one lock guards all.

mod purge;
mod sessions;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tessera_core::{
    ApiKey, ApiKeyId, AuditRecord, ClientName, Event, KeyId, LogId, PolicyRevision, RealmName, Revocations,
    RevokeReason, Sequence, Session, SessionId, SigningKey, Timestamp,
};
use tokio::sync::watch;

use crate::{
    caught::caught,
    cutoff::{cutoff_target, cutoff_until, placed, remembered},
    error::StoreError,
    store::{
        EventBatch, Job, NewEvent, Page, PageRequest, PolicyFiles, PurgeReport, RequestKey, RequestRecord,
        SessionIndex, SessionVisitor, SharedRevocations, Store, Transaction,
    },
    times::Times,
};

/// A store that lives as long as its process.
pub struct MemoryStore {
    /// None once the store is closed. Held for the length of a job, never across an await.
    tables: Mutex<Option<Tables>>,
    revocations: SharedRevocations,
    committed: watch::Sender<Sequence>,
    log_id: LogId,
}

#[derive(Debug, Default)]
struct Tables {
    sessions: BTreeMap<SessionId, Session>,
    /// How many of them each client has.
    session_counts: HashMap<(RealmName, ClientName), u64>,
    api_keys: BTreeMap<ApiKeyId, ApiKey>,
    disabled: BTreeSet<(RealmName, ClientName)>,
    signing_keys: HashMap<KeyId, SigningKey>,
    requests: HashMap<RequestKey, RequestRecord>,
    policies: HashMap<PolicyRevision, KeptPolicy>,
    reconciled: Option<PolicyRevision>,
    staleness_bounds: BTreeMap<RealmName, Duration>,
    events: BTreeMap<Sequence, Arc<Event>>,
    /// How long the events that end sessions count, by their realm and target.
    cutoffs: HashMap<CutoffKey, Timestamp>,
    audit: BTreeMap<u64, AuditRecord>,
    last: Sequence,
    floor: Sequence,
    purged: Option<Timestamp>,
    audit_last: u64,
    times: Times,
}

/// A policy's files, and when it was replaced.
#[derive(Clone, Debug)]
struct KeptPolicy {
    files: Arc<PolicyFiles>,
    replaced_at: Option<Timestamp>,
}

type CutoffKey = (RealmName, u8, String);

/// What one job wrote so far, over the tables.
struct Stage<'a> {
    tables: &'a Tables,
    committed: &'a SharedRevocations,
    sessions: HashMap<SessionId, Session>,
    /// None where it was removed.
    api_keys: HashMap<ApiKeyId, Option<ApiKey>>,
    disabled: HashMap<(RealmName, ClientName), bool>,
    signing_keys: HashMap<KeyId, SigningKey>,
    requests: HashMap<RequestKey, RequestRecord>,
    policies: HashMap<PolicyRevision, KeptPolicy>,
    reconciled: Option<PolicyRevision>,
    staleness_bounds: BTreeMap<RealmName, Duration>,
    events: Vec<(Arc<Event>, Timestamp)>,
    cutoffs: HashMap<CutoffKey, Timestamp>,
    audit: Vec<AuditRecord>,
    revocations: Revocations,
    times: Times,
}

/// What a job wrote, cut loose from the tables so that they can be changed.
struct Staged {
    sessions: HashMap<SessionId, Session>,
    api_keys: HashMap<ApiKeyId, Option<ApiKey>>,
    disabled: HashMap<(RealmName, ClientName), bool>,
    signing_keys: HashMap<KeyId, SigningKey>,
    requests: HashMap<RequestKey, RequestRecord>,
    policies: HashMap<PolicyRevision, KeptPolicy>,
    reconciled: Option<PolicyRevision>,
    staleness_bounds: BTreeMap<RealmName, Duration>,
    events: Vec<(Arc<Event>, Timestamp)>,
    cutoffs: HashMap<CutoffKey, Timestamp>,
    audit: Vec<AuditRecord>,
    times: Times,
}

impl MemoryStore {
    /// An empty store with a new log.
    #[must_use]
    pub fn new() -> Self {
        let mut id = [0; 16];
        if let Err(error) = getrandom::fill(&mut id) {
            // The identity only keeps cursors of different logs apart.
            tracing::warn!(%error, "no random bytes: the log has no identity of its own");
        }
        Self {
            tables: Mutex::new(Some(Tables::default())),
            revocations: SharedRevocations::default(),
            committed: watch::Sender::new(Sequence(0)),
            log_id: LogId::from_bytes(id),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Tables>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(&self, act: impl FnOnce(&Tables) -> T) -> Result<T, StoreError> {
        self.lock().as_ref().map(act).ok_or(StoreError::Closed)
    }

    fn merge(&self, tables: &mut Tables, staged: Staged) {
        for session in staged.sessions.into_values() {
            tables.put_session(session);
        }
        for (id, key) in staged.api_keys {
            match key {
                Some(key) => tables.api_keys.insert(id, key),
                None => tables.api_keys.remove(&id),
            };
        }
        for (client, is_disabled) in staged.disabled {
            if is_disabled {
                tables.disabled.insert(client);
            } else {
                tables.disabled.remove(&client);
            }
        }
        tables.signing_keys.extend(staged.signing_keys);
        tables.requests.extend(staged.requests);
        tables.policies.extend(staged.policies);
        tables.reconciled = staged.reconciled.or(tables.reconciled.take());
        tables.staleness_bounds.extend(staged.staleness_bounds);
        tables.cutoffs.extend(staged.cutoffs);
        tables.times = staged.times;
        for record in staged.audit {
            tables.audit_last += 1;
            tables.audit.insert(tables.audit_last, record);
        }
        if staged.events.is_empty() {
            return;
        }
        let mut revocations = self.revocations.write().unwrap_or_else(PoisonError::into_inner);
        for (event, until) in staged.events {
            revocations.apply_until(&event, until);
            tables.last = event.sequence;
            tables.events.insert(event.sequence, event);
        }
        drop(revocations);
        self.committed.send_replace(tables.last);
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn run(&self, mut job: Job) -> Result<(), StoreError> {
        let mut guard = self.lock();
        let tables = guard.as_mut().ok_or(StoreError::Closed)?;
        let mut stage = Stage::new(tables, &self.revocations);
        caught(|| job(&mut stage))
            .map_err(|panic| StoreError::Failed {
                detail: format!("a job {panic}"),
            })
            .flatten()?;
        let staged = stage.finish();
        self.merge(tables, staged);
        Ok(())
    }

    async fn session(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        self.read(|tables| tables.sessions.get(&id).cloned())
    }

    async fn sessions(
        &self,
        index: SessionIndex,
        page: PageRequest<SessionId>,
    ) -> Result<Page<Session, SessionId>, StoreError> {
        self.read(|tables| page_of(&tables.sessions, &page, |session| index.has(session)))
    }

    async fn visit_sessions(&self, mut visit: SessionVisitor) -> Result<(), StoreError> {
        let sessions: Vec<_> = self.read(|tables| tables.sessions.values().cloned().collect())?;
        let visiting = move || sessions.iter().try_for_each(&mut visit);
        match tokio::task::spawn_blocking(visiting).await {
            Ok(_) => Ok(()),
            Err(error) => Err(StoreError::Failed {
                detail: error.to_string(),
            }),
        }
    }

    async fn policy(&self, revision: &PolicyRevision) -> Result<Option<PolicyFiles>, StoreError> {
        self.read(|tables| {
            tables
                .policies
                .get(revision)
                .map(|kept| kept.files.as_ref().clone())
        })
    }

    async fn reconciled_policy(&self) -> Result<Option<PolicyRevision>, StoreError> {
        self.read(|tables| tables.reconciled.clone())
    }

    async fn staleness_bounds(&self) -> Result<BTreeMap<RealmName, Duration>, StoreError> {
        self.read(|tables| tables.staleness_bounds.clone())
    }

    async fn api_key(&self, id: &ApiKeyId) -> Result<Option<ApiKey>, StoreError> {
        self.read(|tables| tables.api_keys.get(id).cloned())
    }

    async fn api_keys(
        &self,
        realm: &RealmName,
        page: PageRequest<ApiKeyId>,
    ) -> Result<Page<ApiKey, ApiKeyId>, StoreError> {
        self.read(|tables| page_of(&tables.api_keys, &page, |key| key.realm == *realm))
    }

    async fn disabled_clients(&self) -> Result<Vec<(RealmName, ClientName)>, StoreError> {
        self.read(|tables| tables.disabled.iter().cloned().collect())
    }

    async fn signing_keys(&self) -> Result<Vec<SigningKey>, StoreError> {
        let mut keys: Vec<_> = self.read(|tables| tables.signing_keys.values().cloned().collect())?;
        keys.sort_by(|one: &SigningKey, other| (one.not_before, &one.id).cmp(&(other.not_before, &other.id)));
        Ok(keys)
    }

    async fn events_after(&self, after: Sequence, limit: usize) -> Result<EventBatch, StoreError> {
        self.read(|tables| {
            if after < tables.floor {
                return Err(StoreError::EventsForgotten);
            }
            let events = tables
                .events
                .range(after.next()..)
                .take(limit)
                .map(|(_, event)| Arc::clone(event));
            Ok(EventBatch {
                events: events.collect(),
                committed: tables.last,
            })
        })?
    }

    async fn events_left(&self) -> Result<Vec<Arc<Event>>, StoreError> {
        self.read(|tables| {
            let left = tables.events.range(..=tables.floor);
            left.map(|(_, event)| Arc::clone(event)).collect()
        })
    }

    async fn audit_after(&self, after: u64, limit: usize) -> Result<Vec<(u64, AuditRecord)>, StoreError> {
        self.read(|tables| {
            let records = tables.audit.range(after.saturating_add(1)..).take(limit);
            records
                .map(|(position, record)| (*position, record.clone()))
                .collect()
        })
    }

    fn times(&self) -> Times {
        self.lock()
            .as_ref()
            .map_or_else(Times::default, |tables| tables.times.clone())
    }

    fn revocations(&self) -> &SharedRevocations {
        &self.revocations
    }

    fn committed(&self) -> watch::Receiver<Sequence> {
        self.committed.subscribe()
    }

    fn log_id(&self) -> LogId {
        self.log_id
    }

    async fn purge(
        &self,
        horizon: Timestamp,
        audit_before: Timestamp,
        limit: usize,
    ) -> Result<PurgeReport, StoreError> {
        let mut guard = self.lock();
        let tables = guard.as_mut().ok_or(StoreError::Closed)?;
        let report = tables.purge(horizon, audit_before, limit);
        self.revocations
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .forget_expired(horizon);
        Ok(report)
    }

    fn events_floor(&self) -> Sequence {
        self.lock().as_ref().map_or(Sequence(0), |tables| tables.floor)
    }

    fn purged_through(&self) -> Option<Timestamp> {
        self.lock().as_ref().and_then(|tables| tables.purged)
    }

    fn is_healthy(&self) -> bool {
        self.lock().is_some()
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.lock().take().map(drop).ok_or(StoreError::Closed)
    }
}

impl SessionIndex {
    fn has(&self, session: &Session) -> bool {
        match self {
            Self::Subject(realm, subject) => session.realm == *realm && session.subject == *subject,
            Self::Client(realm, client) => session.realm == *realm && session.client == *client,
            Self::Label(realm, label) => session.realm == *realm && session.labels.contains(label),
            Self::ApiKey(realm, api_key) => session.realm == *realm && session.api_key == *api_key,
            Self::Realm(realm) => session.realm == *realm,
        }
    }
}

/// Takes up to `limit` items; there is another page where one more is found.
fn page_of<K: Ord + Clone, T: Clone>(
    table: &BTreeMap<K, T>,
    page: &PageRequest<K>,
    wanted: impl Fn(&T) -> bool,
) -> Page<T, K> {
    let mut found = table
        .iter()
        .filter(|(key, item)| page.after.as_ref().is_none_or(|after| *key > after) && wanted(item));
    let taken: Vec<_> = found.by_ref().take(page.limit).collect();
    let more = taken.len() == page.limit && found.next().is_some();
    let next = if more {
        taken.last().map(|(key, _)| (*key).clone())
    } else {
        None
    };
    Page {
        items: taken.into_iter().map(|(_, item)| item.clone()).collect(),
        next,
    }
}

impl<'a> Stage<'a> {
    fn new(tables: &'a Tables, committed: &'a SharedRevocations) -> Self {
        Self {
            tables,
            committed,
            sessions: HashMap::new(),
            api_keys: HashMap::new(),
            disabled: HashMap::new(),
            signing_keys: HashMap::new(),
            requests: HashMap::new(),
            policies: HashMap::new(),
            reconciled: None,
            staleness_bounds: BTreeMap::new(),
            events: Vec::new(),
            cutoffs: HashMap::new(),
            audit: Vec::new(),
            revocations: Revocations::default(),
            times: tables.times.clone(),
        }
    }

    fn finish(self) -> Staged {
        Staged {
            sessions: self.sessions,
            api_keys: self.api_keys,
            disabled: self.disabled,
            signing_keys: self.signing_keys,
            requests: self.requests,
            policies: self.policies,
            reconciled: self.reconciled,
            staleness_bounds: self.staleness_bounds,
            events: self.events,
            cutoffs: self.cutoffs,
            audit: self.audit,
            times: self.times,
        }
    }
}

impl Stage<'_> {
    fn kept_policy(&self, revision: &PolicyRevision) -> Option<KeptPolicy> {
        self.policies
            .get(revision)
            .or_else(|| self.tables.policies.get(revision))
            .cloned()
    }

    /// Notes when a policy was replaced, or that it is in force again.
    fn replaced(&mut self, revision: &PolicyRevision, replaced_at: Option<Timestamp>) {
        if let Some(kept) = self.kept_policy(revision) {
            self.policies
                .insert(revision.clone(), KeptPolicy { replaced_at, ..kept });
        }
    }
}

impl Transaction for Stage<'_> {
    fn session(&mut self, id: SessionId) -> Result<Option<Session>, StoreError> {
        Ok(self
            .sessions
            .get(&id)
            .or_else(|| self.tables.sessions.get(&id))
            .cloned())
    }

    fn api_key(&mut self, id: &ApiKeyId) -> Result<Option<ApiKey>, StoreError> {
        Ok(match self.api_keys.get(id) {
            Some(staged) => staged.clone(),
            None => self.tables.api_keys.get(id).cloned(),
        })
    }

    fn is_disabled(&mut self, realm: &RealmName, client: &ClientName) -> Result<bool, StoreError> {
        let client = (realm.clone(), client.clone());
        let staged = self.disabled.get(&client).copied();
        Ok(staged.unwrap_or_else(|| self.tables.disabled.contains(&client)))
    }

    fn sessions_of(&mut self, realm: &RealmName, client: &ClientName) -> Result<u64, StoreError> {
        let owner = (realm.clone(), client.clone());
        let before = self.tables.session_counts.get(&owner).copied().unwrap_or(0);
        let is_new = |session: &&Session| {
            session.realm == *realm
                && session.client == *client
                && !self.tables.sessions.contains_key(&session.id)
        };
        let new = self.sessions.values().filter(is_new).count();
        Ok(before.saturating_add(u64::try_from(new).unwrap_or(u64::MAX)))
    }

    fn request(&mut self, key: &RequestKey) -> Result<Option<RequestRecord>, StoreError> {
        Ok(self
            .requests
            .get(key)
            .or_else(|| self.tables.requests.get(key))
            .cloned())
    }

    fn last_sequence(&self) -> Sequence {
        self.events
            .last()
            .map_or(self.tables.last, |(event, _)| event.sequence)
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
        self.sessions.insert(session.id, session.clone());
        Ok(())
    }

    fn put_api_key(&mut self, key: &ApiKey) -> Result<(), StoreError> {
        self.api_keys.insert(key.id.clone(), Some(key.clone()));
        Ok(())
    }

    fn remove_api_key(&mut self, key: &ApiKey) -> Result<(), StoreError> {
        self.api_keys.insert(key.id.clone(), None);
        Ok(())
    }

    fn put_disabled(
        &mut self,
        realm: &RealmName,
        client: &ClientName,
        is_disabled: bool,
    ) -> Result<(), StoreError> {
        self.disabled.insert((realm.clone(), client.clone()), is_disabled);
        Ok(())
    }

    fn put_signing_key(&mut self, key: &SigningKey) -> Result<(), StoreError> {
        self.signing_keys.insert(key.id.clone(), key.clone());
        Ok(())
    }

    fn put_request(&mut self, key: &RequestKey, record: &RequestRecord) -> Result<(), StoreError> {
        self.requests.insert(key.clone(), record.clone());
        Ok(())
    }

    fn put_policy(&mut self, revision: &PolicyRevision, files: &PolicyFiles) -> Result<(), StoreError> {
        if self.kept_policy(revision).is_none() {
            let kept = KeptPolicy {
                files: Arc::new(files.clone()),
                replaced_at: None,
            };
            self.policies.insert(revision.clone(), kept);
        }
        Ok(())
    }

    fn put_reconciled_policy(&mut self, revision: &PolicyRevision, now: Timestamp) -> Result<(), StoreError> {
        if let Some(before) = self.reconciled.clone().or_else(|| self.tables.reconciled.clone()) {
            self.replaced(&before, Some(now));
        }
        self.replaced(revision, None);
        self.reconciled = Some(revision.clone());
        Ok(())
    }

    fn put_staleness_bound(&mut self, realm: &RealmName, bound: Duration) -> Result<(), StoreError> {
        self.staleness_bounds.insert(realm.clone(), bound);
        Ok(())
    }

    fn times(&mut self) -> &mut Times {
        &mut self.times
    }

    fn append(&mut self, event: NewEvent) -> Result<Sequence, StoreError> {
        let lead = self.times.lead_millis(event.occurred_at);
        let event = remembered(event, lead);
        let sequence = self.last_sequence().next();
        let placed = placed(event.clone(), sequence);
        let mut until = placed.relevant_until;
        if let Some((kind, target)) = cutoff_target(&placed.body) {
            let key = (placed.realm.clone(), kind, target.to_owned());
            let earlier = self
                .cutoffs
                .get(&key)
                .or_else(|| self.tables.cutoffs.get(&key))
                .copied();
            until = cutoff_until(&event, earlier);
            self.cutoffs.insert(key, until);
        }
        self.revocations.apply_until(&placed, until);
        self.events.push((Arc::new(placed), until));
        Ok(sequence)
    }

    fn audit(&mut self, record: &AuditRecord) -> Result<(), StoreError> {
        self.times.note(record.at);
        self.audit.push(record.clone());
        Ok(())
    }
}
