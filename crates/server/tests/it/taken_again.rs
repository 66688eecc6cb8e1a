//! A scope that policy removes, gives back and removes again: verifiers get an event whenever a token has it,
//! regardless of the policy change in between.

use std::{collections::BTreeMap, sync::Arc};

use tessera_authority::Trigger;
use tessera_core::{EventBody, Sequence};
use tessera_proto::v1::{IssueRequest, IssueResponse, ReloadRequest};
use tessera_store::{Store, StoreReader};
use tessera_testkit::{
    soon,
    world::{Client, Fragile, Setup, World, access_token, refresh_token, strings, viewer},
};
use tessera_token::ServerKey;
use uuid::Uuid;

const PLAY: &str = "p, role:viewer, *, videos/*, play";
const PLAYED: &str = "videos/v1:play";
const ALL: &str = "videos/v1:play videos:read";

/// A request for both scopes; a second one with the same id is for the same session.
fn request(id: Uuid) -> IssueRequest {
    IssueRequest {
        request_id: id.to_string(),
        scopes: strings(&["videos:read", PLAYED]),
        ..viewer("user:ann")
    }
}

/// The losses of sessions in the log, after `after`.
async fn lost_after(store: &dyn Store, after: Sequence) -> BTreeMap<String, String> {
    let batch = store.events(after, 100).await.unwrap();
    let lost = batch.events.iter().filter_map(|event| match &event.body {
        EventBody::ScopesNarrowed { session, lost, .. } => Some((session.to_string(), lost.to_string())),
        _ => None,
    });
    lost.collect()
}

/// The authority is killed after its sessions were narrowed and before that is noted, and starts with the previous
/// policy, which is noted as reconciled.
#[tokio::test]
async fn after_a_change_that_was_cut_off() {
    let store = Fragile::new();
    let key = ServerKey::generate().unwrap().to_paserk();
    let setup = || Setup {
        store: store.clone(),
        server_key: ServerKey::parse(&key).unwrap(),
        ..Setup::default()
    };
    let world = World::with(setup()).await;
    let app = world.client("production", "app").await;
    let session = app.issue(request(Uuid::new_v4())).await.unwrap();
    world.policy.take(PLAY);
    cut_off_before_the_note(&world, &store).await;

    world.policy.restore();
    let world = World::in_directory(setup(), world.policy).await;
    let app = world.client("production", "app").await;
    let refreshed = app
        .refresh(&refresh_token(session.tokens.as_ref()))
        .await
        .unwrap();
    let token = access_token(refreshed.tokens.as_ref());
    assert_eq!(app.introspect(&token).await.scope, ALL);
    assert_heard_when_taken(&world, store.as_ref(), &app, &session, &token).await;
}

/// Lets a policy change write twice, the change and the sessions' losses, and nothing more.
async fn cut_off_before_the_note(world: &World, store: &Fragile) {
    let (mut waits, mut release) = store.hold_next();
    let authority = Arc::clone(&world.authority);
    let reloading = tokio::spawn(async move { authority.policies().reload(Trigger::Call).await });
    for _ in 0..2 {
        soon("a write", waits).await.unwrap();
        let next = store.hold_next();
        release.send(()).unwrap();
        (waits, release) = next;
    }
    soon("the note", waits).await.unwrap();
    store.break_now();
    release.send(()).unwrap();
    assert!(reloading.await.unwrap().is_err());
    store.repair();
}

/// How a session gets another token.
#[derive(Clone, Copy, Debug)]
enum Way {
    Refresh,
    RefreshAgain,
    IssueAgain,
}

/// A policy gives a scope back, but the write fails; meanwhile the session gets a token with the scope.
#[tokio::test]
async fn after_a_change_that_could_not_be_written() {
    for way in [Way::Refresh, Way::RefreshAgain, Way::IssueAgain] {
        let store = Fragile::new();
        let world = World::with(Setup {
            store: store.clone(),
            ..Setup::default()
        });
        let world = world.await;
        let app = world.client("production", "app").await;
        let id = Uuid::new_v4();
        let session = app.issue(request(id)).await.unwrap();
        let first = refresh_token(session.tokens.as_ref());
        world.policy.take(PLAY);
        world.authority.policies().reload(Trigger::Call).await.unwrap();
        if matches!(way, Way::RefreshAgain) {
            app.refresh(&first).await.unwrap();
        }

        world.policy.restore();
        let (reloading, release) = store.hold_behind_policy(&world.authority).await;
        let tokens = match way {
            Way::IssueAgain => app.issue(request(id)).await.unwrap().tokens,
            Way::Refresh | Way::RefreshAgain => app.refresh(&first).await.unwrap().tokens,
        };
        let token = access_token(tokens.as_ref());
        assert_eq!(app.introspect(&token).await.scope, ALL, "{way:?}");
        store.break_now();
        release.send(()).unwrap();
        assert!(reloading.await.unwrap().is_err());
        store.repair();

        assert_heard_when_taken(&world, store.as_ref(), &app, &session, &token).await;
    }
}

async fn assert_heard_when_taken(
    world: &World,
    store: &Fragile,
    app: &Client,
    session: &IssueResponse,
    token: &str,
) {
    let before = store.log().committed();
    world.policy.take(PLAY);
    let admin = world.client("production", "admin").await;
    admin.policies().reload(ReloadRequest {}).await.unwrap();
    assert_eq!(app.introspect(token).await.scope, "videos:read");
    assert_eq!(
        lost_after(store, before).await,
        BTreeMap::from([(session.session_id.clone(), PLAYED.to_owned())])
    );
}
