//! Changes of policy: how they come into force, what live sessions lose, and how they are explained.

use std::{collections::BTreeMap, fs, os::unix::fs::symlink, sync::Arc, time::Duration};

use prost::Message;
use tessera_authority::Trigger;
use tessera_core::{AuditAction, EventBody, LEEWAY_MAX, OnPolicyLoss, Seconds, Sequence, SessionId};
use tessera_policy::Policy;
use tessera_proto::v1::{
    ApplyRequest, CheckRequest, ExplainRequest, ExplainResponse, GetSessionRequest, GetStatusRequest,
    GetStatusResponse, IssueRequest, IssueResponse, PlanRequest, PlanResponse, PolicyFile, Question,
    ReloadOutcome, ReloadRequest, ReloadResponse, RouteDemand, Rule, Session, explain_request::About,
};
use tessera_store::{Changes, MemoryStore, Store, StoreReader};
use tessera_store_sled::{SledOptions, SledStore};
use tessera_testkit::{
    soon,
    world::{
        Client, Fragile, PolicyDirectory, Setup, World, access_token, reason, refresh_token, seconds,
        strings, viewer,
    },
};
use tessera_token::ServerKey;
use tokio::sync::oneshot;
use tonic::Status;
use tonic_types::StatusExt;

const PLAY: &str = "p, role:viewer, *, videos/*, play";
const READ: &str = "p, role:viewer, *, videos, read";

async fn reload(client: &Client) -> Result<ReloadResponse, Status> {
    let reloaded = client.policies().reload(ReloadRequest {}).await;
    reloaded.map(tonic::Response::into_inner)
}

async fn status(client: &Client) -> GetStatusResponse {
    let status = client.policies().get_status(GetStatusRequest {}).await;
    status.unwrap().into_inner()
}

/// A viewer's session with these scopes.
async fn session(client: &Client, subject: &str, scopes: &[&str]) -> IssueResponse {
    let request = IssueRequest {
        scopes: strings(scopes),
        ..viewer(subject)
    };
    client.issue(request).await.unwrap()
}

async fn shown(client: &Client, session_id: &str) -> Session {
    let request = GetSessionRequest {
        session_id: session_id.to_owned(),
    };
    let session = client.sessions().get_session(request).await.unwrap();
    session.into_inner().session.unwrap()
}

/// The events of sessions after `after`, by session: scopes lost, or `ends` with the reason.
async fn heard(store: &dyn Store, after: Sequence) -> BTreeMap<String, String> {
    let batch = store.events(after, 10_000).await.unwrap();
    let heard = batch.events.iter().filter_map(|event| match &event.body {
        EventBody::ScopesNarrowed { session, lost, .. } => Some((session.to_string(), lost.to_string())),
        EventBody::SessionRevoked { session, reason, .. } => {
            Some((session.to_string(), format!("ends: {}", reason.as_str())))
        }
        _ => None,
    });
    heard.collect()
}

fn last(store: &dyn Store) -> Sequence {
    store.log().committed()
}

/// A world over a store that the test sees.
async fn seen_world(on_policy_loss: OnPolicyLoss) -> (World, Arc<dyn Store>) {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let world = World::with(Setup {
        store: Arc::clone(&store),
        on_policy_loss,
        ..Setup::default()
    })
    .await;
    (world, store)
}

// === live sessions ===

#[tokio::test]
async fn checklist_9_a_role_taken_away_narrows_exactly_the_sessions_that_lose_by_it() {
    let (world, store) = seen_world(OnPolicyLoss::Narrow).await;
    let (app, admin) = world.app_and_admin().await;
    let ann = session(
        &app,
        "user:ann",
        &["videos:read", "videos/v1:play", "videos/v2:play"],
    )
    .await;
    let bob = session(&app, "user:bob", &["videos:read"]).await;
    let before = last(store.as_ref());

    world.policy.take(PLAY);
    let reloaded = reload(&admin).await.unwrap();
    let impact = reloaded.sessions.unwrap();
    assert_eq!((impact.live, impact.narrowed, impact.ended), (2, 1, 0));
    assert_ne!(reloaded.policy_revision, reloaded.previous_revision);
    let lost = "videos/v1:play videos/v2:play".to_owned();
    assert_eq!(
        heard(store.as_ref(), before).await,
        BTreeMap::from([(ann.session_id.clone(), lost)])
    );

    let token = access_token(ann.tokens.as_ref());
    assert_eq!(app.introspect(&token).await.scope, "videos:read");
    let seen = shown(&admin, &ann.session_id).await;
    assert_eq!(seen.lost_scopes, ["videos/v1:play", "videos/v2:play"]);
    let next = app.refresh(&refresh_token(ann.tokens.as_ref())).await.unwrap();
    assert_eq!(next.tokens.as_ref().unwrap().scopes, ["videos:read"]);
    assert_eq!(next.policy_revision, reloaded.policy_revision);
    let bobs = app.introspect(&access_token(bob.tokens.as_ref())).await;
    assert_eq!(bobs.scope, "videos:read");

    // The scope is given back: there is no event, the old token does not change, and the next one has it again.
    let before = last(store.as_ref());
    world.policy.restore();
    reload(&admin).await.unwrap();
    assert!(heard(store.as_ref(), before).await.is_empty());
    assert_eq!(app.introspect(&token).await.scope, "videos:read");
    assert!(shown(&admin, &ann.session_id).await.lost_scopes.is_empty());
    let again = app.refresh(&refresh_token(next.tokens.as_ref())).await.unwrap();
    assert_eq!(again.tokens.as_ref().unwrap().scopes.len(), 3);
    let token = access_token(again.tokens.as_ref());
    assert_eq!(
        app.introspect(&token).await.scope,
        "videos/v1:play videos/v2:play videos:read"
    );
}

#[tokio::test]
async fn a_session_that_is_left_with_nothing_ends() {
    let (world, store) = seen_world(OnPolicyLoss::Narrow).await;
    let (app, admin) = world.app_and_admin().await;
    let ann = session(&app, "user:ann", &["videos/v1:play"]).await;
    let before = last(store.as_ref());
    world.policy.take(PLAY);
    let impact = reload(&admin).await.unwrap().sessions.unwrap();
    assert_eq!((impact.narrowed, impact.ended), (0, 1));
    assert_eq!(
        heard(store.as_ref(), before).await[&ann.session_id],
        "ends: policy"
    );
    assert!(!app.introspect(&access_token(ann.tokens.as_ref())).await.active);
    let refused = app
        .refresh(&refresh_token(ann.tokens.as_ref()))
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "Unauthenticated / SESSION_REVOKED");
    // It ended permanently.
    world.policy.restore();
    reload(&admin).await.unwrap();
    let refused = app
        .refresh(&refresh_token(ann.tokens.as_ref()))
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "Unauthenticated / SESSION_REVOKED");
    assert_eq!(shown(&admin, &ann.session_id).await.revoke_reason, "policy");
}

#[tokio::test]
async fn a_client_that_may_no_longer_assert_a_role_loses_the_sessions_it_began_with_it() {
    let (world, store) = seen_world(OnPolicyLoss::Narrow).await;
    let (app, admin) = world.app_and_admin().await;
    let (by_app, by_admin) = (app.issue_for("user:ann").await, admin.issue_for("user:ann").await);
    let before = last(store.as_ref());
    world.policy.take("p, client:app, *, tessera/roles/role:viewer");
    reload(&admin).await.unwrap();
    let heard = heard(store.as_ref(), before).await;
    assert_eq!(
        heard,
        BTreeMap::from([(by_app.session_id, "ends: policy".to_owned())])
    );
    assert!(
        admin
            .introspect(&access_token(by_admin.tokens.as_ref()))
            .await
            .active
    );
}

#[tokio::test]
async fn a_realm_can_end_sessions_that_lose_a_scope_or_let_their_tokens_run_out() {
    let (world, store) = seen_world(OnPolicyLoss::Revoke).await;
    let (app, admin) = world.app_and_admin().await;
    let ann = session(&app, "user:ann", &["videos:read", "videos/v1:play"]).await;
    let before = last(store.as_ref());
    world.policy.take(PLAY);
    reload(&admin).await.unwrap();
    assert_eq!(
        heard(store.as_ref(), before).await[&ann.session_id],
        "ends: policy"
    );
    assert!(!app.introspect(&access_token(ann.tokens.as_ref())).await.active);

    let (world, store) = seen_world(OnPolicyLoss::Expire).await;
    let (app, admin) = world.app_and_admin().await;
    let ann = session(&app, "user:ann", &["videos:read", "videos/v1:play"]).await;
    let before = last(store.as_ref());
    world.policy.take(PLAY);
    reload(&admin).await.unwrap();
    assert!(heard(store.as_ref(), before).await.is_empty());
    let token = access_token(ann.tokens.as_ref());
    assert_eq!(app.introspect(&token).await.scope, "videos/v1:play videos:read");
    let next = app.refresh(&refresh_token(ann.tokens.as_ref())).await.unwrap();
    assert_eq!(next.tokens.as_ref().unwrap().scopes, ["videos:read"]);
}

/// After the new policy and before its events, a session that will end is not active.
#[tokio::test]
async fn a_session_that_will_end_is_inactive_before_the_events_are_written() {
    let store = Fragile::new();
    let world = World::with(Setup {
        store: store.clone(),
        on_policy_loss: OnPolicyLoss::Revoke,
        ..Setup::default()
    })
    .await;
    let app = world.client("production", "app").await;
    let ann = session(&app, "user:ann", &["videos:read", "videos/v1:play"]).await;
    let bob = session(&app, "user:bob", &["videos:read"]).await;
    world.policy.take(PLAY);
    let (reloading, release) = store.hold_behind_policy(&world.authority).await;
    assert!(!app.introspect(&access_token(ann.tokens.as_ref())).await.active);
    assert!(app.introspect(&access_token(bob.tokens.as_ref())).await.active);
    release.send(()).unwrap();
    assert_eq!(reloading.await.unwrap().unwrap().total().ended, 1);
}

/// After the new policy and before its events, answers follow the policy.
#[tokio::test]
async fn introspection_follows_before_the_events_are_written() {
    let store = Fragile::new();
    let world = World::on(store.clone()).await;
    let app = world.client("production", "app").await;
    let ann = session(&app, "user:ann", &["videos:read", "videos/v1:play"]).await;
    world.policy.take(PLAY);
    let (reloading, release) = store.hold_behind_policy(&world.authority).await;
    let introspected = app.introspect(&access_token(ann.tokens.as_ref())).await;
    assert_eq!(introspected.scope, "videos:read");
    let next = app.refresh(&refresh_token(ann.tokens.as_ref())).await.unwrap();
    assert_eq!(next.tokens.unwrap().scopes, ["videos:read"]);
    release.send(()).unwrap();
    assert_eq!(reloading.await.unwrap().unwrap().total().narrowed, 1);
}

/// Two ends of a channel that nothing uses.
fn oneshot() -> (oneshot::Receiver<()>, oneshot::Sender<()>) {
    let (sender, receiver) = oneshot::channel();
    (receiver, sender)
}

/// A grant of the old policy is committed before the change, or not at all.
#[tokio::test]
async fn a_decision_of_the_policy_before_is_made_anew() {
    let store = Fragile::new();
    let world = World::on(store.clone()).await;
    let (app, admin) = world.app_and_admin().await;
    let started = app.issue_for("user:bob").await;
    for is_refresh in [false, true] {
        world.policy.restore();
        reload(&admin).await.unwrap();
        let (waits, release) = store.hold_next();
        let (app, token) = (app.clone(), refresh_token(started.tokens.as_ref()));
        let calling = tokio::spawn(async move {
            if is_refresh {
                let next = app.refresh(&token).await.unwrap();
                (next.tokens.unwrap().scopes, next.policy_revision)
            } else {
                let ann = session(&app, "user:ann", &["videos:read", "videos/v1:play"]).await;
                (ann.tokens.unwrap().scopes, ann.policy_revision)
            }
        });
        soon("the commit", waits).await.unwrap();
        world.policy.take(PLAY);
        let reloaded = reload(&admin).await.unwrap();
        release.send(()).unwrap();
        let (scopes, revision) = calling.await.unwrap();
        assert_eq!(scopes, ["videos:read"], "refresh: {is_refresh}");
        assert_eq!(revision, reloaded.policy_revision);
    }
}

#[tokio::test]
async fn a_policy_that_never_stands_still_decides_nothing() {
    let store = Fragile::new();
    let world = World::on(store.clone()).await;
    let (app, admin) = world.app_and_admin().await;
    let mut held = store.hold_next();
    let calling = tokio::spawn(async move { app.issue(viewer("user:ann")).await });
    // Each commit of the call finds another policy in force.
    for round in 0..5 {
        soon("the commit", held.0).await.unwrap();
        world.policy.add(&format!("# {round}"));
        reload(&admin).await.unwrap();
        let release = held.1;
        held = if round < 4 { store.hold_next() } else { oneshot() };
        release.send(()).unwrap();
    }
    let refused = calling.await.unwrap().unwrap_err();
    assert_eq!(reason(&refused), "Unavailable / POLICY_NOT_READY");
    assert!(refused.get_details_retry_info().is_some());
}

#[tokio::test]
async fn a_policy_that_was_changed_while_the_authority_was_stopped_is_applied_at_its_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    let open = || -> Arc<dyn Store> { Arc::new(SledStore::open(&path, SledOptions::default()).unwrap()) };
    let key = ServerKey::generate().unwrap().to_paserk();
    let mut world = World::with(Setup {
        store: open(),
        server_key: ServerKey::parse(&key).unwrap(),
        ..Setup::default()
    })
    .await;
    let app = world.client("production", "app").await;
    let ann = session(&app, "user:ann", &["videos:read", "videos/v1:play"]).await;
    world.stop();
    (&mut world.serving).await.unwrap().unwrap();
    let policy = world.policy;
    policy.take(PLAY);

    let store = open();
    let _world = World::in_directory(
        Setup {
            store: store.clone(),
            server_key: ServerKey::parse(&key).unwrap(),
            ..Setup::default()
        },
        policy,
    )
    .await;
    let id = SessionId::parse(&ann.session_id).unwrap();
    let stored = store.session(id).await.unwrap().unwrap();
    assert_eq!(stored.session.lost.to_string(), "videos/v1:play");
    assert_eq!(
        heard(store.as_ref(), Sequence(0)).await,
        BTreeMap::from([(ann.session_id, "videos/v1:play".to_owned())])
    );
}

/// The store fails during the change; the rest is done later, and there are no duplicate events.
#[tokio::test]
async fn a_change_that_was_cut_off_is_completed() {
    let store = Fragile::new();
    let key = ServerKey::generate().unwrap().to_paserk();
    let setup = || Setup {
        store: store.clone(),
        server_key: ServerKey::parse(&key).unwrap(),
        ..Setup::default()
    };
    let world = World::with(setup()).await;
    let app = world.client("production", "app").await;
    for _ in 0..1100 {
        session(&app, "user:ann", &["videos:read", "videos/v1:play"]).await;
    }
    world.policy.take(PLAY);
    let before = last(store.as_ref());
    let mut held = store.hold_next();
    let authority = Arc::clone(&world.authority);
    let reloading = tokio::spawn(async move { authority.policies().reload(Trigger::Call).await });
    // The first write is the change itself, the second reconciles the first page of sessions.
    for _ in 0..2 {
        soon("a write", held.0).await.unwrap();
        let release = held.1;
        held = store.hold_next();
        release.send(()).unwrap();
    }
    soon("the second page", held.0).await.unwrap();
    store.break_now();
    held.1.send(()).unwrap();
    assert!(reloading.await.unwrap().unwrap_err().is_passing());
    let status = world.authority.policies().policy_status();
    // It is in force, although not all are updated.
    assert_eq!(
        (status.applied, status.refused, status.is_reconciled),
        (1, 1, false)
    );
    let heard_first = heard(store.as_ref(), before).await.len();

    store.repair();
    let _again = World::in_directory(setup(), world.policy).await;
    let batch = store.events(before, 10_000).await.unwrap();
    let narrowed = batch
        .events
        .iter()
        .filter(|event| matches!(event.body, EventBody::ScopesNarrowed { .. }))
        .count();
    assert!(heard_first > 0 && heard_first < 1100, "{heard_first}");
    assert_eq!(
        (narrowed, heard(store.as_ref(), before).await.len()),
        (1100, 1100)
    );
}

// === reloading ===

#[tokio::test]
async fn checklist_36_a_policy_that_is_refused_changes_nothing_and_says_why() {
    let world = World::start().await;
    let admin = world.client("production", "admin").await;
    let before = status(&admin).await;
    assert_eq!(before.attempt_trigger, "start");
    assert!(before.compiled && before.reconciled && before.rules > 10);
    world.policy.add("p, role:viewr, *, videos, read, allow");
    let refused = reload(&admin).await.unwrap_err();
    assert_eq!(reason(&refused), "FailedPrecondition / POLICY_REFUSED");
    assert!(refused.message().contains("policy.csv:26:4: P037"), "{refused}");
    let after = status(&admin).await;
    assert_eq!(after.policy_revision, before.policy_revision);
    assert_eq!(after.attempt_outcome(), ReloadOutcome::Refused);
    assert_eq!(after.attempt_trigger, "call");
    let found = &after.diagnostics[0];
    assert_eq!((found.code.as_str(), found.line, found.column), ("P037", 26, 4));
    assert!(found.help.contains("role:viewer"), "{found:?}");
    session(
        &world.client("production", "app").await,
        "user:ann",
        &["videos:read"],
    )
    .await;

    // A realm that is served must be in the catalogue.
    world.policy.restore();
    let catalogue = fs::read_to_string(world.policy.path().join("catalogue.toml")).unwrap();
    world.policy.write(
        "catalogue.toml",
        &catalogue.replace("sandbox = \"for trying out\"\n", ""),
    );
    let refused = reload(&admin).await.unwrap_err();
    assert_eq!(reason(&refused), "FailedPrecondition / POLICY_REFUSED");
    assert!(refused.message().contains("sandbox"), "{refused}");
    assert_eq!(metadata(&refused, "diagnostics").as_deref(), Some("0"));

    world.policy.write("catalogue.toml", &catalogue);
    let reloaded = reload(&admin).await.unwrap();
    assert_eq!(reloaded.previous_revision, reloaded.policy_revision);
    assert_eq!(status(&admin).await.attempt_outcome(), ReloadOutcome::Unchanged);
}

/// Waits until another policy than `before` is in force.
async fn another_policy(world: &World, before: &str) -> String {
    soon("another policy", async {
        loop {
            let now = world.authority.policy().revision().to_string();
            if now != before {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_change_in_the_directory_is_noticed_and_a_mistake_is_reported_once() {
    let world = World::with(Setup {
        policy_watch: true,
        ..Setup::default()
    })
    .await;
    let first = world.authority.policy().revision().to_string();
    world.policy.take(PLAY);
    let second = another_policy(&world, &first).await;
    world.policy.add("nonsense");
    soon("the refusal", async {
        while world.authority.policies().policy_status().refused == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    // A file outside the policy causes another read of the directory, and no second refusal.
    world.policy.write("notes.md", "nothing");
    world.policy.restore();
    assert_eq!(another_policy(&world, &second).await, first);
    assert_eq!(world.authority.policies().policy_status().refused, 1);
}

/// As Kubernetes mounts a ConfigMap: files are links through `..data`, which is swapped.
#[tokio::test]
async fn a_swap_of_symbolic_links_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let mounted = directory.path().join("policy");
    fs::create_dir(&mounted).unwrap();
    let world = World::start().await;
    let names = ["model.conf", "catalogue.toml", "policy.csv"];
    let version = |name: &str| {
        let version = mounted.join(name);
        fs::create_dir(&version).unwrap();
        for name in names {
            fs::copy(world.policy.path().join(name), version.join(name)).unwrap();
        }
    };
    version("..2026_11_24_1");
    symlink("..2026_11_24_1", mounted.join("..data")).unwrap();
    for name in names {
        symlink(format!("..data/{name}"), mounted.join(name)).unwrap();
    }
    let served = World::in_directory(
        Setup {
            policy_watch: true,
            ..Setup::default()
        },
        PolicyDirectory::at(&mounted),
    )
    .await;
    let first = served.authority.policy().revision().to_string();
    world.policy.take(PLAY);
    version("..2026_11_24_2");
    symlink("..2026_11_24_2", mounted.join("..data_tmp")).unwrap();
    fs::rename(mounted.join("..data_tmp"), mounted.join("..data")).unwrap();
    fs::remove_dir_all(mounted.join("..2026_11_24_1")).unwrap();
    let second = another_policy(&served, &first).await;
    assert_eq!(
        second,
        Policy::load(world.policy.path()).unwrap().revision().to_string()
    );
}

// === plans ===

async fn plan(client: &Client, files: Vec<PolicyFile>) -> PlanResponse {
    let plan = client.policies().plan(PlanRequest { files }).await;
    plan.unwrap().into_inner()
}

async fn apply(client: &Client, plan: &str, max_sessions: Option<u64>) -> Result<String, Status> {
    let request = ApplyRequest {
        plan: plan.to_owned(),
        max_sessions,
    };
    let applied = client.policies().apply(request).await;
    applied.map(|applied| applied.into_inner().policy_revision)
}

#[tokio::test]
async fn a_plan_says_what_applying_it_does_and_is_refused_once_it_is_out_of_date() {
    let world = World::start().await;
    let (app, admin) = world.app_and_admin().await;
    for subject in ["user:ann", "user:bob"] {
        session(&app, subject, &["videos:read", "videos/v1:play"]).await;
    }
    session(&app, "user:eve", &["videos/v1:play"]).await;
    // A session that has ended, for verifiers too, is not changed.
    let short = IssueRequest {
        session_ttl: seconds(60),
        access_ttl: seconds(60),
        ..viewer("user:dan")
    };
    app.issue(short).await.unwrap();
    world.clock.advance(Seconds(60 + LEEWAY_MAX.0));
    world.policy.take(PLAY);
    let planned = plan(&admin, Vec::new()).await;
    let impact = planned.sessions.unwrap();
    assert_eq!((impact.live, impact.narrowed, impact.ended), (3, 2, 1));
    assert!(
        planned
            .changes
            .iter()
            .any(|change| { change.holder == "role:viewer" && change.scope.ends_with(":play") })
    );
    assert_eq!(
        world.authority.policy().revision().to_string(),
        planned.current_revision
    );

    let refused = apply(&admin, &planned.plan, Some(2)).await.unwrap_err();
    assert_eq!(reason(&refused), "FailedPrecondition / TOO_MANY_SESSIONS");
    let applied = apply(&admin, &planned.plan, Some(3)).await.unwrap();
    assert_eq!(applied, planned.new_revision);
    // It was made for the earlier policy.
    let refused = apply(&admin, &planned.plan, None).await.unwrap_err();
    assert_eq!(reason(&refused), "Aborted / PLAN_STALE");

    let planned = plan(&admin, Vec::new()).await;
    assert_eq!(planned.current_revision, planned.new_revision);
    world.policy.take(READ);
    let refused = apply(&admin, &planned.plan, None).await.unwrap_err();
    assert_eq!(reason(&refused), "Aborted / PLAN_STALE");
    let refused = apply(&admin, "x..y", None).await.unwrap_err();
    assert_eq!(reason(&refused), "InvalidArgument / FIELD_INVALID");
}

#[tokio::test]
async fn files_that_are_sent_are_planned_and_never_applied() {
    let world = World::start().await;
    let admin = world.client("production", "admin").await;
    session(&admin, "user:ann", &["videos:read", "videos/v1:play"]).await;
    let file = |name: &str| PolicyFile {
        name: name.to_owned(),
        content: fs::read(world.policy.path().join(name)).unwrap(),
    };
    let mut files = vec![file("model.conf"), file("catalogue.toml"), file("policy.csv")];
    let same = plan(&admin, files.clone()).await;
    assert_eq!(same.new_revision, same.current_revision);
    let rules = String::from_utf8(files[2].content.clone()).unwrap();
    files[2].content = rules.replace(PLAY, "# ").into_bytes();
    let planned = plan(&admin, files.clone()).await;
    assert_eq!(planned.sessions.unwrap().narrowed, 1);
    files[2].content = b"nonsense".to_vec();
    let refused = admin.policies().plan(PlanRequest { files }).await.unwrap_err();
    assert_eq!(reason(&refused), "FailedPrecondition / POLICY_REFUSED");
    assert_eq!(status(&admin).await.policy_revision, same.current_revision);
}

/// The changes of routes in a plan of the policy directory: sign, call, and its needs before and after.
async fn planned_routes(client: &Client) -> (Vec<String>, [u64; 3]) {
    let planned = plan(client, Vec::new()).await;
    let demand = |demand: Option<&RouteDemand>| {
        let demand = demand.unwrap();
        let needs = format!("{:?}", demand.needs());
        let texts = [&needs, &demand.scopes.join(" "), &demand.audience, &demand.realm];
        texts.map(String::as_str).join(" ").trim_end().to_owned()
    };
    let routes = planned.routes.iter().map(|change| {
        let marks = [
            (change.gain, "gain "),
            (change.loss, "loss "),
            (change.gone, "gone "),
        ];
        let marks: String = marks
            .iter()
            .filter(|(is, _)| *is)
            .map(|(_, mark)| *mark)
            .collect();
        let line = |rule: Option<&Rule>| rule.map_or(0, |rule| rule.line);
        let lines = [line(change.old_route.as_ref()), line(change.new_route.as_ref())];
        let call = format!("{} {}{}", change.methods.join(","), change.host, change.path);
        let (before, after) = (demand(change.before.as_ref()), demand(change.after.as_ref()));
        format!("{marks}{} [{before}] [{after}] {lines:?}", call.trim_start())
    });
    let counts = [planned.routes_total, planned.routes_gained, planned.routes_lost];
    (routes.collect(), counts)
}

#[tokio::test]
async fn a_plan_says_which_requests_need_something_else() {
    let directory = PolicyDirectory::new();
    directory.write(
        "routes.toml",
        "[[route]]\npath = \"/health\"\nopen = true\n\n[[route]]\nhost = \"a.example.org\"\npath = \"/videos\"\n\
         methods = [\"GET\"]\nscope = \"videos:read\"\naudience = \"api\"\n",
    );
    let world = World::in_directory(Setup::default(), directory).await;
    let (admin, sandbox) = (
        world.client("production", "admin").await,
        world.client("sandbox", "admin").await,
    );
    assert_eq!(planned_routes(&admin).await, (Vec::new(), [0; 3]));
    world.policy.write(
        "routes.toml",
        "[[route]]\npath = \"/health\"\nscope = \"any\"\n\n[[route]]\npath = \"/metrics\"\nscope = \"any\"\n\
         realm = \"production\"\n",
    );
    let (routes, counts) = planned_routes(&admin).await;
    assert_eq!(
        routes,
        [
            "loss /health [Nothing] [Token] [1, 1]",
            "gain /metrics [Refused] [Token   production] [0, 5]",
            "gain loss gone GET a.example.org/videos [Token videos:read api] [Refused] [5, 0]",
        ]
    );
    assert_eq!(counts, [3, 2, 2]);
    // Changes of another realm are counted, and not shown.
    let (seen, counts) = planned_routes(&sandbox).await;
    assert_eq!(seen, [routes[0].as_str(), routes[2].as_str()]);
    assert_eq!(counts, [3, 2, 2]);

    fs::remove_file(world.policy.path().join("routes.toml")).unwrap();
    let (routes, _) = planned_routes(&admin).await;
    assert!(routes[0].starts_with("gain loss"), "{routes:?}");
    assert!(routes[0].contains("[Unsaid]"), "{routes:?}");
}

#[tokio::test]
async fn a_plan_of_very_many_long_routes_is_an_answer_that_clients_take() {
    let world = World::start().await;
    let admin = world.client("production", "admin").await;
    let long = "a".repeat(1000);
    let routes = (0..1000).map(|number| format!("[[route]]\npath = \"/{long}/{number}\"\nscope = \"any\"\n"));
    world.policy.write("routes.toml", &routes.collect::<String>());
    let planned = plan(&admin, Vec::new()).await;
    let bytes: usize = planned.routes.iter().map(Message::encoded_len).sum();
    assert!((1_000_000..=1024 * 1024).contains(&bytes), "{bytes}");
    assert!(planned.routes_total >= 1000, "{}", planned.routes_total);

    let short = (0..1000).map(|number| format!("[[route]]\npath = \"/{number}\"\nscope = \"any\"\n"));
    world.policy.write("routes.toml", &short.collect::<String>());
    let planned = plan(&admin, Vec::new()).await;
    assert_eq!((planned.routes.len(), planned.routes_total), (1000, 1001));
}

#[tokio::test]
async fn a_key_of_a_sandbox_realm_can_look_and_not_apply() {
    let world = World::start().await;
    let (sandbox, other) = (
        world.client("sandbox", "admin").await,
        world.client("production", "other").await,
    );
    world.policy.take(PLAY);
    let planned = plan(&sandbox, Vec::new()).await;
    for refused in [
        reload(&sandbox).await.unwrap_err(),
        apply(&sandbox, &planned.plan, None).await.unwrap_err(),
        reload(&other).await.unwrap_err(),
        other
            .policies()
            .get_status(GetStatusRequest {})
            .await
            .unwrap_err(),
        other.policies().plan(PlanRequest::default()).await.unwrap_err(),
        explain(&other, About::Question(Question::default_for("videos:read")))
            .await
            .unwrap_err(),
    ] {
        assert_eq!(reason(&refused), "PermissionDenied / CALL_NOT_ALLOWED");
    }
    assert_eq!(status(&sandbox).await.policy_revision, planned.current_revision);
}

// === questions ===

trait DefaultFor {
    fn default_for(scope: &str) -> Self;
}

impl DefaultFor for Question {
    fn default_for(scope: &str) -> Self {
        Self {
            scope: scope.to_owned(),
            ..Self::default()
        }
    }
}

async fn explain(client: &Client, about: About) -> Result<ExplainResponse, Status> {
    let request = ExplainRequest { about: Some(about) };
    let explained = client.policies().explain(request).await;
    explained.map(tonic::Response::into_inner)
}

async fn explain_decision(client: &Client, decision: &str) -> Result<ExplainResponse, Status> {
    explain(client, About::DecisionId(decision.to_owned())).await
}

#[tokio::test]
async fn check_answers_as_issue_would_and_issues_nothing() {
    let world = World::start().await;
    let (admin, other) = (
        world.client("production", "admin").await,
        world.client("production", "other").await,
    );
    let request = CheckRequest {
        subject: "user:ann".to_owned(),
        roles: strings(&["role:trial", "role:viewer"]),
        scopes: strings(&["videos/v1:play", "videos/premium/v1:play", "videos:write"]),
    };
    let checked = admin
        .policies()
        .check(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(checked.granted, ["videos/v1:play"]);
    assert_eq!(checked.denied.len(), 2);
    let refused = other.policies().check(request).await.unwrap_err();
    assert_eq!(reason(&refused), "PermissionDenied / CALL_NOT_ALLOWED");
    // Every client may ask about itself.
    let own = CheckRequest {
        scopes: strings(&["videos:read", "videos:write"]),
        ..CheckRequest::default()
    };
    let checked = other.policies().check(own).await.unwrap().into_inner();
    assert_eq!(checked.granted, ["videos:read"]);
}

#[tokio::test]
async fn explanations_name_the_rule_the_roles_and_the_nearest_misses() {
    let world = World::start().await;
    let admin = world.client("production", "admin").await;
    let question = Question {
        subject: "client:app".to_owned(),
        ..Question::default_for("videos:read")
    };
    let explained = explain(&admin, About::Question(question)).await.unwrap();
    let [explained] = &explained.explanations[..] else {
        panic!("{explained:?}")
    };
    assert!(explained.allowed);
    let rule = explained.rule.as_ref().unwrap();
    assert_eq!((rule.file.as_str(), rule.line), ("policy.csv", 1));
    let path: Vec<_> = explained.path.iter().map(|step| step.role.as_str()).collect();
    assert_eq!(path, ["role:editor", "role:viewer"]);

    let question = Question {
        subject: "client:other".to_owned(),
        ..Question::default_for("videos:write")
    };
    let explained = explain(&admin, About::Question(question)).await.unwrap();
    let explained = &explained.explanations[0];
    assert!(!explained.allowed && explained.reason.contains("client:other"));
    assert!(
        explained
            .misses
            .iter()
            .any(|miss| miss.remedy.contains("role:editor")),
        "{explained:?}"
    );

    let question = Question {
        subject: "client:other".to_owned(),
        ..Question::default_for("tessera/tokens:introspect")
    };
    let explained = explain(&admin, About::Question(question)).await.unwrap();
    assert!(!explained.explanations[0].allowed);
    let bad = explain(&admin, About::Question(Question::default_for("videos"))).await;
    assert_eq!(reason(&bad.unwrap_err()), "InvalidArgument / FIELD_INVALID");
}

#[tokio::test]
async fn a_decision_is_explained_by_the_policy_that_made_it() {
    let world = World::start().await;
    let (app, admin) = world.app_and_admin().await;
    let issued = session(
        &app,
        "user:ann",
        &["videos:read", "videos/v1:play", "videos:write"],
    )
    .await;
    let denied = app
        .issue(IssueRequest {
            scopes: strings(&["videos:write"]),
            ..viewer("user:ann")
        })
        .await
        .unwrap_err();
    let denied = denied.get_details_error_info().unwrap().metadata;
    world.policy.take(PLAY);
    reload(&admin).await.unwrap();
    world.clock.advance(Seconds(5));
    let refreshed = app.refresh(&refresh_token(issued.tokens.as_ref())).await.unwrap();

    let explained = explain_decision(&admin, &issued.decision_id).await.unwrap();
    let verdicts: Vec<_> = explained
        .explanations
        .iter()
        .map(|explained| (explained.scope.as_str(), explained.allowed))
        .collect();
    assert_eq!(
        verdicts,
        [
            ("videos/v1:play", true),
            ("videos:read", true),
            ("videos:write", false)
        ]
    );
    assert_eq!(explained.explanations[0].policy_revision, issued.policy_revision);
    assert!(explained.decide_time.is_some());

    let first = async |id: &str, revision: &str| {
        let explained = explain_decision(&admin, id).await.unwrap().explanations.remove(0);
        assert_eq!(explained.policy_revision, revision, "{explained:?}");
        explained.allowed
    };
    assert!(!first(&denied["decision_id"], &denied["policy_revision"]).await);
    assert!(!first(&refreshed.decision_id, &refreshed.policy_revision).await);
    // A retry is a separate decision, by the current policy.
    let replayed = app.refresh(&refresh_token(issued.tokens.as_ref())).await.unwrap();
    assert!(replayed.replayed);
    first(&replayed.decision_id, &replayed.policy_revision).await;

    // Another realm does not know it, and a decision that was never made is not found.
    let elsewhere = world.client("sandbox", "admin").await;
    let unknown = "01939b7e-0000-7000-8000-000000000000";
    for refused in [
        explain_decision(&elsewhere, &issued.decision_id)
            .await
            .unwrap_err(),
        explain_decision(&admin, unknown).await.unwrap_err(),
    ] {
        assert_eq!(reason(&refused), "NotFound / NOT_FOUND");
    }
}

#[tokio::test]
async fn a_request_that_is_repeated_leaves_its_own_decision() {
    let (world, store) = seen_world(OnPolicyLoss::Expire).await;
    let admin = world.client("production", "admin").await;
    let request = IssueRequest {
        request_id: "01939b7e-0000-4000-8000-000000000001".to_owned(),
        scopes: strings(&["videos:read", "videos/v1:play"]),
        ..viewer("user:ann")
    };
    let first = admin.issue(request.clone()).await.unwrap();
    world.policy.take(PLAY);
    reload(&admin).await.unwrap();
    let again = admin.issue(request).await.unwrap();
    assert_eq!(again.session_id, first.session_id);
    assert_eq!(again.tokens.unwrap().scopes, ["videos:read"]);
    assert_ne!(again.decision_id, first.decision_id);
    let explained = explain_decision(&admin, &again.decision_id).await.unwrap();
    let verdicts: Vec<_> = explained.explanations.iter().map(|one| one.allowed).collect();
    assert_eq!(verdicts, [false, true]);
    // Two issued tokens are two records, for one session.
    let records = store.audit(0, 100).await.unwrap();
    let issued = records.iter().filter_map(|(_, record)| match &record.action {
        AuditAction::Issued { session, .. } => Some(session.to_string()),
        _ => None,
    });
    assert_eq!(
        issued.collect::<Vec<_>>(),
        [first.session_id.clone(), first.session_id]
    );
}

#[tokio::test]
async fn a_policy_that_is_too_large_to_be_kept_explains_nothing_once_it_is_replaced() {
    let world = World::start().await;
    let admin = world.client("production", "admin").await;
    let comment = format!("# {}\n", "x".repeat(4000));
    world.policy.write("remarks.csv", &comment.repeat(2200));
    reload(&admin).await.unwrap();
    let issued = session(&admin, "user:ann", &["videos:read"]).await;
    assert!(
        explain_decision(&admin, &issued.decision_id)
            .await
            .unwrap()
            .explanations[0]
            .allowed
    );
    fs::remove_file(world.policy.path().join("remarks.csv")).unwrap();
    reload(&admin).await.unwrap();
    let refused = explain_decision(&admin, &issued.decision_id).await.unwrap_err();
    assert_eq!(reason(&refused), "FailedPrecondition / POLICY_FORGOTTEN");
}

/// Nothing is wrong with the store: the files were a policy for the version that kept them.
#[tokio::test]
async fn kept_files_that_are_no_policy_are_not_called_forgotten() {
    let (world, store) = seen_world(OnPolicyLoss::Narrow).await;
    let admin = world.client("production", "admin").await;
    // Too large to be kept, so that the test can keep other files under its name.
    let comment = format!("# {}\n", "x".repeat(4000));
    world.policy.write("remarks.csv", &comment.repeat(2200));
    reload(&admin).await.unwrap();
    let issued = session(&admin, "user:ann", &["videos:read"]).await;
    let decided_by = *world.authority.policy().revision();
    fs::remove_file(world.policy.path().join("remarks.csv")).unwrap();
    reload(&admin).await.unwrap();
    let files = vec![("policy.csv".to_owned(), b"nonsense".to_vec())];
    let changes = Changes {
        policies: vec![(decided_by, files)],
        ..Changes::default()
    };
    store.write(changes).await.unwrap();
    let refused = explain_decision(&admin, &issued.decision_id).await.unwrap_err();
    assert_eq!(reason(&refused), "FailedPrecondition / POLICY_UNREADABLE");
    assert_eq!(
        metadata(&refused, "policy_revision").as_deref(),
        Some(decided_by.to_string().as_str())
    );
}

fn metadata(status: &Status, key: &str) -> Option<String> {
    status.get_details_error_info()?.metadata.remove(key)
}
