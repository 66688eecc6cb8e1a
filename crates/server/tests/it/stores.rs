//! A store that fails, forgets, or is older than the tokens that are presented.

use std::{sync::Arc, time::Duration};

use tessera_core::{EventBody, LEEWAY_MAX, Label, RealmLimits, Seconds, Sequence, SessionId};
use tessera_daemon::RunError;
use tessera_proto::v1::{
    WatchRequest, WatchStart, revoke_request::Target, watch_request::Message, watch_start::From,
};
use tessera_server::ServeError;
use tessera_store::{Changes, MemoryStore, NewEvent, Store};
use tessera_testkit::{
    soon,
    world::{Fragile, Setup, World, access_token, realm, reason, refresh_token},
};
use tessera_token::ServerKey;
use tokio_stream::StreamExt;

#[tokio::test]
async fn a_store_that_fails_is_acknowledged_by_nobody_and_the_server_stops() {
    let store = Fragile::new();
    let mut world = World::on(store.clone()).await;
    let app = world.client("production", "app").await;
    let issued = app.issue_for("user:ann").await;
    store.break_now();
    let refused = app
        .refresh(&refresh_token(issued.tokens.as_ref()))
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "Unavailable / STORE_UNAVAILABLE");
    // The disk's error is only for the log.
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
    let world = World::on(store.clone()).await;
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
    let (app, admin) = world.app_and_admin().await;
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
    world
        .authority
        .purging()
        .purge(horizon, Seconds::days(90))
        .await
        .unwrap();
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
        .purging()
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

/// Limits that were lowered later do not shorten earlier guarantees.
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
    let (app, admin) = world.app_and_admin().await;
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
        .purging()
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
    let (app, admin) = world.app_and_admin().await;
    let issued = app.issue_for("user:ann").await;
    admin
        .revoke(Target::Subject("user:ann".to_owned()))
        .await
        .unwrap();
    world.clock.advance(Seconds::days(3));
    world
        .authority
        .purging()
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
        // The stream is not read until the server has ended it.
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
    let world = World::on(store.clone()).await;
    assert!(world.authority.is_ready());
    store.commit_for(Some(Duration::from_secs(4)));
    assert!(world.authority.is_ready());
    store.commit_for(Some(Duration::from_secs(6)));
    assert!(!world.authority.is_ready());
    assert_eq!(world.authority.commit_waiting(), Duration::from_secs(6));
    store.commit_for(None);
    assert!(world.authority.is_ready());
}

#[tokio::test]
async fn a_disk_that_stands_still_for_a_while_does_not_end_serving() {
    let store = Fragile::new();
    let world = World::on(store.clone()).await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(world.channel());
    let asked = tonic_health::pb::HealthCheckRequest::default();
    let mut states = soon("a stream", health.watch(asked)).await.unwrap().into_inner();
    let mut next = async || {
        let state = soon("a state", states.next()).await;
        state.map(|state| state.unwrap().status)
    };
    let (serving, not_serving) = (Some(1), Some(2));
    assert_eq!(next().await, serving);
    store.commit_for(Some(Duration::from_secs(6)));
    assert_eq!(next().await, not_serving);
    store.commit_for(None);
    assert_eq!(next().await, serving);
    let app = world.client("production", "app").await;
    app.issue_for("user:ann").await;
}
