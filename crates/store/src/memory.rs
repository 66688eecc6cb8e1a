//! The store in memory, for trials and tests. It has the semantics of the durable store, in a simple form: indexes are
//! scans, and one lock guards everything.

mod backup;
mod purge;
mod sessions;
mod tables;

use std::{
    collections::BTreeMap,
    ops::{Bound, ControlFlow},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};
use tessera_core::{ApiKey, ApiKeyId, Event, LogId, RealmName, Sequence, SessionId};

use self::tables::Tables;
use crate::{
    audit::{AuditPage, AuditQuery},
    backup::{BackupEnd, BackupError, BackupRecord, BackupVisitor},
    caught::caught,
    error::StoreError,
    log::{Log, LogStart},
    page::{Page, PageRequest, SessionIndex},
    reads::Reads,
    record::{CommittedGroup, EventBatch, PurgeBefore, PurgeReport, StoreHealth},
    snapshot::{Snapshot, StoredSession},
    store::{SessionVisitor, Store, StoreReader},
    unit::{Placed, Step, UnitOfWork},
};

/// A store that lives as long as its process.
pub struct MemoryStore {
    /// `None` once the store is closed. Held for the length of a unit, never across an await.
    tables: Mutex<Option<Tables>>,
    log: Log,
}

impl MemoryStore {
    /// An empty store with a new log.
    #[must_use]
    pub fn new() -> Self {
        let mut id = [0; 16];
        if let Err(error) = getrandom::fill(&mut id) {
            // The identity only distinguishes cursors of different logs.
            tracing::warn!(%error, "no random bytes: the log has no identity of its own");
        }
        Self {
            tables: Mutex::new(Some(Tables::default())),
            log: Log::new(LogStart::empty(LogId::from_bytes(id))),
        }
    }

    /// The store with the state of a backup, in the log of that state.
    #[must_use]
    pub fn from_backup(records: impl IntoIterator<Item = BackupRecord>, end: BackupEnd) -> Self {
        let (tables, start) = Tables::of_backup(records, end);
        Self {
            tables: Mutex::new(Some(tables)),
            log: Log::new(start),
        }
    }

    fn tables(&self) -> MutexGuard<'_, Option<Tables>> {
        self.tables.lock()
    }

    /// Each unit is a group by itself, and there is no disk.
    fn observe(&self, events: &[Arc<Event>], began: Instant) {
        self.log.tell_observer(&CommittedGroup {
            units: 1,
            took: began.elapsed(),
            synced: Duration::ZERO,
            events,
        });
    }

    fn look<T>(&self, act: impl FnOnce(&Tables) -> T) -> Result<T, StoreError> {
        self.tables().as_ref().map(act).ok_or(StoreError::Closed)
    }

    fn run(&self, tables: &mut Tables, work: &mut UnitOfWork) -> Result<Placed, StoreError> {
        let began = Instant::now();
        loop {
            match work.decide(&tables.snapshot(work.reads(), &self.log)) {
                Step::Abort => return Ok(Placed::default()),
                Step::ReadMore => {}
                Step::Commit(changes) => {
                    let before = tables.last;
                    let events = tables.apply(changes, &self.log)?;
                    let placed = Placed::between(before, tables.last);
                    self.observe(&events, began);
                    self.log.publish(events, &tables.times, tables.purged);
                    self.log.publish_audit(tables.audit_head);
                    return Ok(placed);
                }
            }
        }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl StoreReader for MemoryStore {
    async fn read(&self, reads: Reads) -> Result<Snapshot, StoreError> {
        self.look(|tables| tables.snapshot(&reads, &self.log))
    }

    async fn sessions(
        &self,
        index: &SessionIndex,
        page: PageRequest<SessionId>,
    ) -> Result<Page<StoredSession, SessionId>, StoreError> {
        self.look(|tables| {
            let found = page_of(&tables.sessions, &page, |session| index.has(session));
            Page {
                items: found
                    .items
                    .into_iter()
                    .map(|session| tables.stored(session, &self.log))
                    .collect(),
                next: found.next,
            }
        })
    }

    async fn walk_sessions(&self, mut visit: SessionVisitor) -> Result<(), StoreError> {
        let sessions: Vec<_> = self.look(|tables| tables.sessions.values().cloned().collect())?;
        let walk = move || sessions.iter().try_for_each(|session| visit(session));
        match tokio::task::spawn_blocking(walk).await {
            Ok(_) => Ok(()),
            Err(error) => Err(StoreError::Failed {
                detail: error.to_string(),
            }),
        }
    }

    async fn api_keys(
        &self,
        realm: &RealmName,
        page: PageRequest<ApiKeyId>,
    ) -> Result<Page<ApiKey, ApiKeyId>, StoreError> {
        self.look(|tables| page_of(&tables.api_keys, &page, |key| key.realm == *realm))
    }

    async fn events(&self, after: Sequence, limit: usize) -> Result<EventBatch, StoreError> {
        self.look(|tables| {
            if after < self.log.floor() {
                return Err(StoreError::EventsForgotten);
            }
            let events = tables.events.range(after.next()..).take(limit);
            Ok(EventBatch {
                events: events.map(|(_, event)| Arc::clone(event)).collect(),
                committed: tables.last,
            })
        })?
    }

    async fn audit_page(&self, query: AuditQuery) -> Result<AuditPage, StoreError> {
        self.look(|tables| {
            let through = query.through.min(tables.audit_head.position);
            let after = query.after.min(through);
            let looked_at: Vec<_> = tables
                .audit
                .range((Bound::Excluded(after), Bound::Included(through)))
                .map(|(_, entry)| entry)
                .take(query.limit)
                .collect();
            let is_all = looked_at.len() < query.limit;
            let last = looked_at.last().map_or(after, |entry| entry.position);
            AuditPage {
                entries: looked_at
                    .into_iter()
                    .filter(|entry| query.takes(entry.record.at))
                    .cloned()
                    .collect(),
                through: if is_all { through } else { last },
            }
        })
    }

    fn log(&self) -> &Log {
        &self.log
    }
}

#[async_trait]
impl Store for MemoryStore {
    /// A commit costs nothing, so no unit waits for others.
    async fn transact(&self, mut work: UnitOfWork) -> Result<Placed, StoreError> {
        let mut guard = self.tables();
        let tables = guard.as_mut().ok_or(StoreError::Closed)?;
        caught(|| self.run(tables, &mut work)).unwrap_or_else(|panic| {
            Err(StoreError::Failed {
                detail: format!("a decision {panic}"),
            })
        })
    }

    async fn purge(&self, before: PurgeBefore, limit: usize) -> Result<PurgeReport, StoreError> {
        let mut guard = self.tables();
        let tables = guard.as_mut().ok_or(StoreError::Closed)?;
        let (report, floor) = tables.purge(before, limit);
        self.log.raise_floor(floor);
        self.log.publish(Vec::new(), &tables.times, tables.purged);
        self.log.forget_expired(before.horizon);
        Ok(report)
    }

    /// All records are read at once.
    async fn back_up(&self, visit: BackupVisitor) -> Result<BackupEnd, BackupError> {
        let (records, end) = self.look(|tables| tables.records(&self.log))?;
        let show = move || records.into_iter().try_for_each(visit);
        match tokio::task::spawn_blocking(show).await {
            Ok(ControlFlow::Continue(())) => Ok(end),
            Ok(ControlFlow::Break(())) => Err(BackupError::BrokenOff),
            Err(error) => Err(BackupError::Store(StoreError::Failed {
                detail: error.to_string(),
            })),
        }
    }

    fn health(&self) -> StoreHealth {
        StoreHealth {
            takes_writes: self.tables().is_some(),
            ..StoreHealth::default()
        }
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.tables().take().map(drop).ok_or(StoreError::Closed)
    }
}

/// Takes up to `limit` items; there is another page if one more is found.
fn page_of<K: Ord + Clone, T: Clone>(
    table: &BTreeMap<K, T>,
    page: &PageRequest<K>,
    is_listed: impl Fn(&T) -> bool,
) -> Page<T, K> {
    let mut found = table
        .iter()
        .filter(|(key, item)| page.after.as_ref().is_none_or(|after| *key > after) && is_listed(item));
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
