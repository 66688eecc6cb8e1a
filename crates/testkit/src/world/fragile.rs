//! A store that fails when a test tells it to.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tessera_authority::{Applied, ApplyError, Authority, Trigger};
use tessera_core::{ApiKey, ApiKeyId, RealmName, Sequence, SessionId};
use tessera_store::{
    AuditPage, AuditQuery, BackupEnd, BackupError, BackupVisitor, EventBatch, Log, MemoryStore, Page,
    PageRequest, Placed, PurgeBefore, PurgeReport, Reads, SessionIndex, SessionVisitor, Snapshot, Store,
    StoreError, StoreHealth, StoreReader, StoredSession, UnitOfWork,
};
use tokio::{sync::oneshot, task::JoinHandle};

use crate::waiting::soon;

/// A store that can be made to fail, as when a disk becomes full, and to hold a write.
pub struct Fragile {
    store: MemoryStore,
    is_broken: AtomicBool,
    hold: Mutex<Option<Hold>>,
    hold_audit_read: Mutex<Option<Hold>>,
    committing_for: Mutex<Option<Duration>>,
}

/// The hold of the next write.
struct Hold {
    /// Whether it is committed before the hold.
    is_committed: bool,
    reached: oneshot::Sender<()>,
    released: oneshot::Receiver<()>,
}

impl Hold {
    async fn wait(self) {
        self.reached.send(()).expect("a test that waits for it");
        self.released.await.expect("a test that lets it go on");
    }
}

impl Fragile {
    /// A store in memory that works.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            store: MemoryStore::new(),
            is_broken: AtomicBool::new(false),
            hold: Mutex::new(None),
            hold_audit_read: Mutex::new(None),
            committing_for: Mutex::new(None),
        })
    }

    /// Holds the next write: the first end tells when it waits, the second releases it.
    #[must_use]
    pub fn hold_next(&self) -> (oneshot::Receiver<()>, oneshot::Sender<()>) {
        hold(&self.hold, false)
    }

    /// Commits the next write, and holds its answer, as [`hold_next`](Self::hold_next) does.
    #[must_use]
    pub fn hold_next_answer(&self) -> (oneshot::Receiver<()>, oneshot::Sender<()>) {
        hold(&self.hold, true)
    }

    /// Holds the next reading of the audit trail, as [`hold_next`](Self::hold_next) does.
    #[must_use]
    pub fn hold_next_audit_read(&self) -> (oneshot::Receiver<()>, oneshot::Sender<()>) {
        hold(&self.hold_audit_read, false)
    }

    /// Begins to reload the policy of `authority`, lets it put the policy in force, and holds what it writes next: the
    /// events that follow from it. The first end returns how the reload ended, the second releases it.
    ///
    /// # Panics
    /// Panics if nothing is written.
    pub async fn hold_behind_policy(
        &self,
        authority: &Arc<Authority>,
    ) -> (JoinHandle<Result<Applied, ApplyError>>, oneshot::Sender<()>) {
        let (waits, release) = self.hold_next();
        let reloading = tokio::spawn({
            let authority = Arc::clone(authority);
            async move { authority.policies().reload(Trigger::Call).await }
        });
        soon("the policy", waits).await.expect("a write");
        let (waits, held) = self.hold_next();
        release.send(()).expect("a write that waits");
        soon("the first event", waits).await.expect("a write");
        (reloading, held)
    }

    /// It takes writes again.
    pub fn repair(&self) {
        self.is_broken.store(false, Ordering::SeqCst);
    }

    /// It takes no more writes.
    pub fn break_now(&self) {
        self.is_broken.store(true, Ordering::SeqCst);
    }

    /// Its health says that a commit has waited for this long.
    pub fn commit_for(&self, waited: Option<Duration>) {
        *self.committing_for.lock() = waited;
    }

    fn check(&self) -> Result<(), StoreError> {
        if self.is_broken.load(Ordering::SeqCst) {
            return Err(StoreError::Failed {
                detail: "no space left on device".to_owned(),
            });
        }
        Ok(())
    }
}

fn hold(place: &Mutex<Option<Hold>>, is_committed: bool) -> (oneshot::Receiver<()>, oneshot::Sender<()>) {
    let ((reached, waits), (release, released)) = (oneshot::channel(), oneshot::channel());
    *place.lock() = Some(Hold {
        is_committed,
        reached,
        released,
    });
    (waits, release)
}

#[async_trait]
impl StoreReader for Fragile {
    async fn read(&self, reads: Reads) -> Result<Snapshot, StoreError> {
        self.store.read(reads).await
    }

    async fn sessions(
        &self,
        index: &SessionIndex,
        page: PageRequest<SessionId>,
    ) -> Result<Page<StoredSession, SessionId>, StoreError> {
        self.store.sessions(index, page).await
    }

    async fn walk_sessions(&self, visit: SessionVisitor) -> Result<(), StoreError> {
        self.store.walk_sessions(visit).await
    }

    async fn api_keys(
        &self,
        realm: &RealmName,
        page: PageRequest<ApiKeyId>,
    ) -> Result<Page<ApiKey, ApiKeyId>, StoreError> {
        self.store.api_keys(realm, page).await
    }

    async fn events(&self, after: Sequence, limit: usize) -> Result<EventBatch, StoreError> {
        self.store.events(after, limit).await
    }

    async fn audit_page(&self, query: AuditQuery) -> Result<AuditPage, StoreError> {
        let hold = self.hold_audit_read.lock().take();
        if let Some(hold) = hold {
            hold.wait().await;
        }
        self.store.audit_page(query).await
    }

    fn log(&self) -> &Log {
        self.store.log()
    }
}

#[async_trait]
impl Store for Fragile {
    async fn transact(&self, work: UnitOfWork) -> Result<Placed, StoreError> {
        self.check()?;
        let hold = self.hold.lock().take();
        let Some(hold) = hold else {
            return self.store.transact(work).await;
        };
        if hold.is_committed {
            let placed = self.store.transact(work).await;
            hold.wait().await;
            return placed;
        }
        hold.wait().await;
        self.check()?;
        self.store.transact(work).await
    }

    async fn purge(&self, before: PurgeBefore, limit: usize) -> Result<PurgeReport, StoreError> {
        self.store.purge(before, limit).await
    }

    async fn back_up(&self, visit: BackupVisitor) -> Result<BackupEnd, BackupError> {
        self.store.back_up(visit).await
    }

    fn health(&self) -> StoreHealth {
        StoreHealth {
            takes_writes: !self.is_broken.load(Ordering::SeqCst),
            comes_back: false,
            committing_for: *self.committing_for.lock(),
            group: None,
            waiting: 0,
        }
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.store.close().await
    }
}
