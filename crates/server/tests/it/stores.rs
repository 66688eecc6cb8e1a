//! When the store fails, forgets, or is older than the tokens that it meets.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tessera_authority::{Applied, ApplyError, Authority, Trigger};
use tessera_core::{
    ApiKey, ApiKeyId, AuditRecord, Event, EventBody, LEEWAY_MAX, Label, PolicyRevision, RealmLimits,
    RealmName, Seconds, Sequence, SessionId, SigningKey,
};
use tessera_daemon::RunError;
use tessera_proto::v1::{
    WatchRequest, WatchStart, revoke_request::Target, watch_request::Message, watch_start::From,
};
use tessera_server::ServeError;
use tessera_store::{
    Changes, EventBatch, Log, MemoryStore, NewEvent, Page, PageRequest, Placed, PolicyFiles, PurgeBefore,
    PurgeReport, Reads, SessionIndex, SessionVisitor, Snapshot, Store, StoreError, StoreHealth, StoreReader,
    StoredSession, UnitOfWork,
};
use tessera_token::ServerKey;
use tokio::{sync::oneshot, task::JoinHandle};
use tokio_stream::StreamExt;

use crate::world::{Setup, World, access_token, realm, reason, refresh_token, soon};

/// A store that can be made to fail, as a disk is full from one moment to the next, and to hold a write.
pub(crate) struct Fragile {
    store: MemoryStore,
    is_broken: AtomicBool,
    hold: Mutex<Option<Hold>>,
    committing_for: Mutex<Option<Duration>>,
}

/// Where the next write waits.
struct Hold {
    reached: oneshot::Sender<()>,
    released: oneshot::Receiver<()>,
}

impl Fragile {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            store: MemoryStore::new(),
            is_broken: AtomicBool::new(false),
            hold: Mutex::new(None),
            committing_for: Mutex::new(None),
        })
    }

    /// Holds the next write: the first end tells when it waits, the second lets it go on.
    pub(crate) fn hold_next(&self) -> (oneshot::Receiver<()>, oneshot::Sender<()>) {
        let ((reached, waits), (release, released)) = (oneshot::channel(), oneshot::channel());
        *self.hold.lock().unwrap() = Some(Hold { reached, released });
        (waits, release)
    }

    /// Begins to reload the policy of `authority`, lets it put it in force, and holds what it writes next: the events
    /// that follow from it. The first end answers how the reload ended, the second lets it go on.
    pub(crate) async fn hold_behind_policy(
        &self,
        authority: &Arc<Authority>,
    ) -> (JoinHandle<Result<Applied, ApplyError>>, oneshot::Sender<()>) {
        let (waits, release) = self.hold_next();
        let reloading = tokio::spawn({
            let authority = Arc::clone(authority);
            async move { authority.reload(Trigger::Call).await }
        });
        soon("the policy", waits).await.unwrap();
        let (waits, held) = self.hold_next();
        release.send(()).unwrap();
        soon("the first event", waits).await.unwrap();
        (reloading, held)
    }

    pub(crate) fn repair(&self) {
        self.is_broken.store(false, Ordering::SeqCst);
    }

    pub(crate) fn break_now(&self) {
        self.is_broken.store(true, Ordering::SeqCst);
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

#[async_trait]
impl StoreReader for Fragile {
    async fn read(&self, reads: Reads) -> Result<Snapshot, StoreError> {
        self.store.read(reads).await
    }

    async fn sessions(
        &self,
        index: SessionIndex,
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

    async fn signing_keys(&self) -> Result<Vec<SigningKey>, StoreError> {
        self.store.signing_keys().await
    }

    async fn policy_files(&self, revision: &PolicyRevision) -> Result<Option<PolicyFiles>, StoreError> {
        self.store.policy_files(revision).await
    }

    async fn events(&self, after: Sequence, limit: usize) -> Result<EventBatch, StoreError> {
        self.store.events(after, limit).await
    }

    async fn events_below_floor(&self) -> Result<Vec<Arc<Event>>, StoreError> {
        self.store.events_below_floor().await
    }

    async fn audit(&self, after: u64, limit: usize) -> Result<Vec<(u64, AuditRecord)>, StoreError> {
        self.store.audit(after, limit).await
    }

    fn log(&self) -> &Log {
        self.store.log()
    }
}

#[async_trait]
impl Store for Fragile {
    async fn transact(&self, work: UnitOfWork) -> Result<Placed, StoreError> {
        self.check()?;
        let hold = self.hold.lock().unwrap().take();
        if let Some(hold) = hold {
            hold.reached.send(()).unwrap();
            hold.released.await.unwrap();
            self.check()?;
        }
        self.store.transact(work).await
    }

    async fn purge(&self, before: PurgeBefore, limit: usize) -> Result<PurgeReport, StoreError> {
        self.store.purge(before, limit).await
    }

    fn health(&self) -> StoreHealth {
        StoreHealth {
            takes_writes: !self.is_broken.load(Ordering::SeqCst),
            committing_for: *self.committing_for.lock().unwrap(),
            group: None,
        }
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.store.close().await
    }
}

#[tokio::test]
async fn a_store_that_fails_is_acknowledged_by_nobody_and_the_server_stops() {
    let store = Fragile::new();
    let mut world = World::with(Setup {
        store: store.clone(),
        ..Setup::default()
    })
    .await;
    let app = world.client("production", "app").await;
    let issued = app.issue_for("user:ann").await;
    store.break_now();
    let refused = app
        .refresh(&refresh_token(issued.tokens.as_ref()))
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "Unavailable / STORE_UNAVAILABLE");
    // What the disk said is for the log.
    assert!(!refused.message().contains("space"), "{}", refused.message());
    let ended = soon("the server stops", &mut world.serving).await.unwrap();
    assert!(
        matches!(ended, Err(RunError::Serve(ServeError::StoreFailed))),
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_token_that_is_newer_than_the_store_revokes_nothing() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let world = World::with(Setup {
        store: store.clone(),
        ..Setup::default()
    })
    .await;
    let app = world.client("production", "app").await;
    let issued = app.issue_for("user:ann").await;
    let session = SessionId::parse(&issued.session_id).unwrap();
    let backup = store.session(session).await.unwrap().unwrap();
    let first = refresh_token(issued.tokens.as_ref());
    let second = refresh_token(app.refresh(&first).await.unwrap().tokens.as_ref());
    let restored = Changes {
        sessions: vec![backup.session],
        ..Changes::default()
    };
    store.write(restored).await.unwrap();
    assert_eq!(
        reason(&app.refresh(&second).await.unwrap_err()),
        "Unauthenticated / REFRESH_TOKEN_AHEAD"
    );
    assert_eq!(app.refresh(&first).await.unwrap().generation, 2);
}

#[tokio::test]
async fn a_cursor_that_is_older_than_the_log_starts_again_with_a_snapshot() {
    let world = World::start().await;
    let (app, admin) = (
        world.client("production", "app").await,
        world.client("production", "admin").await,
    );
    let old = app
        .revoke(Target::SessionId(app.issue_for("user:ann").await.session_id))
        .await
        .unwrap();
    admin
        .revoke(Target::Subject("user:bob".to_owned()))
        .await
        .unwrap();
    world.clock.advance(Seconds::days(3));
    let later = admin
        .revoke(Target::Subject("user:bob".to_owned()))
        .await
        .unwrap();
    let horizon = world.authority.now();
    world.authority.purge(horizon, Seconds::days(90)).await.unwrap();
    let watch = async |cursor: &str| {
        let start = WatchStart {
            from: Some(From::Cursor(cursor.to_owned())),
            ..WatchStart::default()
        };
        let first = WatchRequest {
            message: Some(Message::Start(start)),
        };
        // The request stream stays open, as a subscriber's does.
        let requests = tokio_stream::iter([first]).chain(tokio_stream::pending());
        let mut stream = admin.revocations().watch(requests).await.unwrap().into_inner();
        soon("an answer", stream.message()).await
    };
    assert_eq!(
        reason(&watch(&old.cursor).await.unwrap_err()),
        "OutOfRange / CURSOR_EXPIRED"
    );
    watch(&later.cursor).await.unwrap();
}

#[tokio::test]
async fn purging_forgets_dead_sessions_and_keeps_the_living() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let (dead, alive) = (app.issue_for("user:ann").await, app.issue_for("user:ann").await);
    app.revoke(Target::SessionId(dead.session_id.clone()))
        .await
        .unwrap();
    world.clock.advance(Seconds::days(2));
    world
        .authority
        .purge(world.authority.now(), Seconds::days(90))
        .await
        .unwrap();
    let refused = app
        .refresh(&refresh_token(dead.tokens.as_ref()))
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "Unauthenticated / REFRESH_TOKEN_INVALID");
    assert_eq!(
        app.refresh(&refresh_token(alive.tokens.as_ref()))
            .await
            .unwrap()
            .generation,
        2
    );
}

/// Limits that were lowered since shorten nothing that was promised before.
#[tokio::test]
async fn a_revocation_is_kept_for_tokens_that_were_issued_under_higher_limits() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let key = ServerKey::generate().unwrap().to_paserk();
    let setup = |limits| Setup {
        limits,
        store: store.clone(),
        server_key: ServerKey::parse(&key).unwrap(),
        ..Setup::default()
    };
    let world = World::with(setup(RealmLimits::default())).await;
    let app = world.client("production", "app").await;
    let issued = app.issue_for("user:ann").await;
    let lowered = RealmLimits {
        access_ttl_max: Seconds(60),
        access_ttl_default: Seconds(60),
        session_ttl_max: Seconds(3600),
        ..RealmLimits::default()
    };
    let world = World::with(setup(lowered)).await;
    let (app, admin) = (
        world.client("production", "app").await,
        world.client("production", "admin").await,
    );
    admin
        .revoke(Target::Subject("user:ann".to_owned()))
        .await
        .unwrap();
    let log = store.events(Sequence(0), 100).await.unwrap().events;
    let event = log.last().unwrap();
    assert_eq!(
        event.relevant_until,
        event.occurred_at.plus(Seconds::DAY).plus(LEEWAY_MAX)
    );
    world.clock.advance(Seconds::days(3));
    world
        .authority
        .purge(world.authority.now(), Seconds::days(90))
        .await
        .unwrap();
    let refused = app
        .refresh(&refresh_token(issued.tokens.as_ref()))
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "Unauthenticated / SESSION_REVOKED");
}

#[tokio::test]
async fn a_revoked_subject_stays_revoked_although_its_event_was_purged() {
    let world = World::start().await;
    let (app, admin) = (
        world.client("production", "app").await,
        world.client("production", "admin").await,
    );
    let issued = app.issue_for("user:ann").await;
    admin
        .revoke(Target::Subject("user:ann".to_owned()))
        .await
        .unwrap();
    world.clock.advance(Seconds::days(3));
    world
        .authority
        .purge(world.authority.now(), Seconds::days(90))
        .await
        .unwrap();
    let refused = app
        .refresh(&refresh_token(issued.tokens.as_ref()))
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "Unauthenticated / SESSION_REVOKED");
    let after = app.issue_for("user:ann").await;
    assert!(app.introspect(&access_token(after.tokens.as_ref())).await.active);
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_is_ended_with_its_cursor_and_slows_nobody() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let watch_stall_max = Duration::from_millis(50);
    let world = World::with(Setup {
        store: store.clone(),
        watch_stall_max,
        ..Setup::default()
    })
    .await;
    let admin = world.client("production", "admin").await;
    let start = WatchStart {
        from: Some(From::Latest(true)),
        ..WatchStart::default()
    };
    let first = WatchRequest {
        message: Some(Message::Start(start)),
    };
    let requests = tokio_stream::iter([first]).chain(tokio_stream::pending());
    let mut stream = admin.revocations().watch(requests).await.unwrap().into_inner();
    soon("the first checkpoint", stream.message()).await.unwrap();
    let at = world.authority.now();
    let events = 5_000_u64;
    let revoked = |number| NewEvent {
        occurred_at: at,
        tokens_until: at.plus(Seconds::DAY),
        sessions_until: at.plus(Seconds::DAY),
        realm: realm("production"),
        note: String::new(),
        body: EventBody::LabelRevoked {
            label: Label::parse(&format!("stream:{number}")).unwrap(),
        },
    };
    let write = store.write(Changes {
        events: (0..events).map(revoked).collect(),
        ..Changes::default()
    });
    soon("the writer", write).await.unwrap();
    soon("the watcher's end", async {
        while world.authority.position().sequence.0 < events {
            tokio::task::yield_now().await;
        }
        // The stream is not read until the server has given up on it.
        tokio::time::sleep(watch_stall_max * 4).await;
    })
    .await;
    let (mut heard, mut last) = (0, String::new());
    let status = loop {
        match soon("the end", stream.message()).await {
            Ok(Some(message)) => {
                if let Some(tessera_proto::v1::watch_response::Message::Event(event)) = message.message {
                    heard += 1;
                    last = event.cursor;
                }
            }
            Ok(None) => panic!("ended without a status"),
            Err(status) => break status,
        }
    };
    assert_eq!(reason(&status), "ResourceExhausted / SLOW_CONSUMER");
    assert!(heard < events, "{heard}");
    let info = tonic_types::StatusExt::get_details_error_info(&status).unwrap();
    assert_eq!(
        info.metadata.get("cursor"),
        Some(&last),
        "it may resume where it was cut off"
    );
}

#[tokio::test]
async fn a_disk_that_stands_still_turns_readiness_off_until_it_is_well() {
    let store = Fragile::new();
    let world = World::with(Setup {
        store: store.clone(),
        ..Setup::default()
    })
    .await;
    assert!(world.authority.is_ready());
    *store.committing_for.lock().unwrap() = Some(Duration::from_secs(4));
    assert!(world.authority.is_ready());
    *store.committing_for.lock().unwrap() = Some(Duration::from_secs(6));
    assert!(!world.authority.is_ready());
    assert_eq!(world.authority.commit_waiting(), Duration::from_secs(6));
    *store.committing_for.lock().unwrap() = None;
    assert!(world.authority.is_ready());
}

#[tokio::test]
async fn a_disk_that_stands_still_for_a_while_does_not_end_serving() {
    let store = Fragile::new();
    let world = World::with(Setup {
        store: store.clone(),
        ..Setup::default()
    })
    .await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(world.channel());
    let asked = tonic_health::pb::HealthCheckRequest::default();
    let mut states = soon("a stream", health.watch(asked)).await.unwrap().into_inner();
    let mut next = async || {
        let state = soon("a state", states.next()).await;
        state.map(|state| state.unwrap().status)
    };
    let (serving, not_serving) = (Some(1), Some(2));
    assert_eq!(next().await, serving);
    *store.committing_for.lock().unwrap() = Some(Duration::from_secs(6));
    assert_eq!(next().await, not_serving);
    *store.committing_for.lock().unwrap() = None;
    assert_eq!(next().await, serving);
    let app = world.client("production", "app").await;
    app.issue_for("user:ann").await;
}
