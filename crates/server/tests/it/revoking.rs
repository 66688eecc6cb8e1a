//! Revoke, by every target.

use tessera_core::{RealmLimits, Seconds};
use tessera_proto::v1::{
    IssueRequest, IssueResponse, KeyStatus, ListKeysRequest, RevokeRequest, revoke_request::Target,
};
use tessera_testkit::{
    soon,
    world::{Client, Fragile, Setup, World, access_token, reason, refresh_token, strings, viewer},
};

async fn is_dead(client: &Client, issued: &IssueResponse) -> bool {
    let access = client
        .introspect(&access_token(issued.tokens.as_ref()))
        .await
        .active;
    let refresh = client.refresh(&refresh_token(issued.tokens.as_ref())).await;
    assert_eq!(access, refresh.is_ok(), "access and refresh tokens end together");
    if let Err(refused) = refresh {
        assert_eq!(reason(&refused), "Unauthenticated / SESSION_REVOKED");
    }
    !access
}

/// How many sessions a revocation would end.
async fn count(client: &Client, target: Target) -> u64 {
    let request = RevokeRequest {
        validate_only: true,
        target: Some(target),
        ..RevokeRequest::default()
    };
    let answer = client.tokens().revoke(request).await.unwrap().into_inner();
    assert_eq!(answer.cursor, "", "nothing is written");
    answer.matched
}

fn id_of(api_key: &str) -> String {
    api_key["tsk_production_".len()..][..16].to_owned()
}

async fn matched(client: &Client, target: Target) -> u64 {
    client.revoke(target).await.unwrap().matched
}

#[tokio::test]
async fn checklist_4_31_and_32_each_target_ends_what_it_names_and_nothing_else() {
    let world = World::start().await;
    let (app, admin) = world.app_and_admin().await;
    let bound = |subject: &str| IssueRequest {
        labels: strings(&["stream:1"]),
        ..viewer(subject)
    };

    let (ann, bob) = (app.issue_for("user:ann").await, app.issue_for("user:bob").await);
    assert_eq!(matched(&admin, Target::Subject("user:ann".to_owned())).await, 1);
    assert!(is_dead(&app, &ann).await && !is_dead(&app, &bob).await);

    let (streaming, other) = (
        app.issue(bound("user:ann")).await.unwrap(),
        app.issue_for("user:ann").await,
    );
    assert_eq!(matched(&admin, Target::Label("stream:1".to_owned())).await, 1);
    assert!(is_dead(&app, &streaming).await && !is_dead(&app, &other).await);

    let (one, two) = (app.issue_for("user:cat").await, app.issue_for("user:cat").await);
    assert_eq!(
        matched(&admin, Target::SessionId(one.session_id.clone())).await,
        1
    );
    assert!(is_dead(&app, &one).await && !is_dead(&app, &two).await);
    let three = app.issue_for("user:cat").await;
    assert_eq!(
        matched(&app, Target::Token(refresh_token(three.tokens.as_ref()))).await,
        1
    );
    assert!(is_dead(&app, &three).await);

    let (of_app, of_admin) = (app.issue_for("user:dan").await, admin.issue_for("user:dan").await);
    assert!(matched(&admin, Target::Client("client:app".to_owned())).await > 0);
    assert!(is_dead(&app, &of_app).await && !is_dead(&admin, &of_admin).await);

    let sandbox = world.client("sandbox", "app").await;
    let elsewhere = sandbox.issue_for("user:eve").await;
    let here = app.issue_for("user:eve").await;
    assert!(matched(&admin, Target::WholeRealm(true)).await > 0);
    assert!(is_dead(&app, &here).await && !is_dead(&sandbox, &elsewhere).await);
    // Later sessions are not affected.
    let after = app.issue_for("user:ann").await;
    assert!(!is_dead(&app, &after).await);
}

#[tokio::test]
async fn a_revoked_api_key_ends_what_it_began_and_not_its_clients_other_sessions() {
    let world = World::start().await;
    let (leaked, sound) = (
        world.client("production", "app").await,
        world.client("production", "app").await,
    );
    let admin = world.client("production", "admin").await;
    let (by_leaked, by_sound) = (
        leaked.issue_for("user:ann").await,
        sound.issue_for("user:ann").await,
    );
    let id = id_of(&leaked.api_key);
    assert_eq!(
        admin.revoke(Target::ApiKeyId(id.clone())).await.unwrap().matched,
        1
    );
    let refused = leaked.issue(viewer("user:ann")).await.unwrap_err();
    assert_eq!(reason(&refused), "Unauthenticated / CLIENT_AUTH_FAILED");
    assert!(is_dead(&sound, &by_leaked).await && !is_dead(&sound, &by_sound).await);
    assert_eq!(admin.revoke(Target::ApiKeyId(id)).await.unwrap().matched, 0);
}

#[tokio::test]
async fn a_revoked_signing_key_is_replaced_and_its_tokens_end_while_sessions_go_on() {
    let world = World::start().await;
    let (app, admin) = world.app_and_admin().await;
    let before = app.issue_for("user:ann").await;
    let list = async || {
        let request = ListKeysRequest {
            realm: "production".to_owned(),
            ..ListKeysRequest::default()
        };
        world.keys().list_keys(request).await.unwrap().into_inner().keys
    };
    let old = list().await.remove(0);
    admin.revoke(Target::KeyId(old.kid.clone())).await.unwrap();
    assert!(!app.introspect(&access_token(before.tokens.as_ref())).await.active);
    let refreshed = app.refresh(&refresh_token(before.tokens.as_ref())).await.unwrap();
    assert!(
        app.introspect(&access_token(refreshed.tokens.as_ref()))
            .await
            .active
    );
    let keys = list().await;
    let status = |kid: &str| keys.iter().find(|key| key.kid == kid).unwrap().status();
    assert_eq!((keys.len(), status(&old.kid)), (2, KeyStatus::Revoked));
    assert_eq!(
        keys.iter()
            .filter(|key| key.status() == KeyStatus::Active)
            .count(),
        1
    );
}

#[tokio::test]
async fn checklist_30_a_client_cannot_revoke_anothers() {
    let world = World::start().await;
    let (app, other) = (
        world.client("production", "app").await,
        world.client("production", "other").await,
    );
    let issued = app.issue_for("user:ann").await;
    for target in [
        Target::SessionId(issued.session_id.clone()),
        Target::Token(access_token(issued.tokens.as_ref())),
        Target::Token(refresh_token(issued.tokens.as_ref())),
        Target::Subject("user:ann".to_owned()),
        Target::Client("client:app".to_owned()),
        Target::Label("stream:1".to_owned()),
        Target::KeyId(format!("k4.pid.{}", "a".repeat(44))),
        Target::ApiKeyId(id_of(&app.api_key)),
        Target::WholeRealm(true),
    ] {
        let refused = other.revoke(target.clone()).await.unwrap_err();
        assert_eq!(
            reason(&refused),
            "PermissionDenied / CALL_NOT_ALLOWED",
            "{target:?}"
        );
    }
    assert!(app.introspect(&access_token(issued.tokens.as_ref())).await.active);
    // It can revoke its own.
    let own = other.issue(IssueRequest::default()).await.unwrap();
    assert_eq!(
        other
            .revoke(Target::Client("client:other".to_owned()))
            .await
            .unwrap()
            .matched,
        1
    );
    assert!(!other.introspect(&access_token(own.tokens.as_ref())).await.active);
}

#[tokio::test]
async fn checklist_29_revocation_is_idempotent_and_unknown_targets_match_nothing() {
    let world = World::start().await;
    let (app, admin) = world.app_and_admin().await;
    let issued = app.issue_for("user:ann").await;
    let access = access_token(issued.tokens.as_ref());
    let first = app.revoke(Target::Token(access.clone())).await.unwrap();
    let again = app.revoke(Target::Token(access)).await.unwrap();
    assert_eq!((first.matched, again.matched, first.cursor), (1, 0, again.cursor));
    for target in [
        Target::Token("x".to_owned()),
        Target::Token("tsr_x".to_owned()),
        Target::SessionId(uuid::Uuid::new_v4().to_string()),
        Target::Subject("user:nobody".to_owned()),
        Target::Label("none".to_owned()),
        Target::ApiKeyId("0123456789abcdef".to_owned()),
        Target::KeyId(format!("k4.pid.{}", "a".repeat(44))),
    ] {
        let answer = admin.revoke(target.clone()).await.unwrap();
        assert_eq!(answer.matched, 0, "{target:?}");
        assert!(!answer.cursor.is_empty());
    }
}

#[tokio::test]
async fn validate_only_counts_and_ends_nothing() {
    let world = World::start().await;
    let (app, admin) = world.app_and_admin().await;
    let sessions = [
        app.issue_for("user:ann").await,
        app.issue_for("user:ann").await,
        app.issue_for("user:ann").await,
    ];
    app.revoke(Target::SessionId(sessions[0].session_id.clone()))
        .await
        .unwrap();
    let target = Target::Subject("user:ann".to_owned());
    assert_eq!(count(&admin, target).await, 2);
    assert!(
        app.introspect(&access_token(sessions[1].tokens.as_ref()))
            .await
            .active
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_who_revoke_one_signing_key_leave_one_successor() {
    let world = World::start().await;
    let admin = world.client("production", "admin").await;
    let kid = world
        .authority
        .signing_keys()
        .published_keys(Some(&tessera_testkit::world::realm("production")))[0]
        .id
        .to_string();
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let (admin, kid) = (admin.clone(), kid.clone());
            tokio::spawn(async move { admin.revoke(Target::KeyId(kid)).await.unwrap() })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    let keys = world
        .authority
        .signing_keys()
        .published_keys(Some(&tessera_testkit::world::realm("production")));
    assert_eq!(keys.len(), 2, "{keys:?}");
}

/// Sessions that go idle after ten minutes, with access tokens that live an hour.
fn soon_idle() -> Setup {
    Setup {
        limits: RealmLimits {
            idle_ttl: Seconds(600),
            ..RealmLimits::default()
        },
        ..Setup::default()
    }
}

/// A session that went idle can't be refreshed, but its access token is still valid.
#[tokio::test]
async fn a_session_that_went_idle_ends_by_each_target_that_it_belongs_to() {
    type Aim = fn(&str, &IssueResponse) -> Target;
    let aims: [Aim; 7] = [
        |_, issued| Target::SessionId(issued.session_id.clone()),
        |_, issued| Target::Token(refresh_token(issued.tokens.as_ref())),
        |api_key, _| Target::ApiKeyId(id_of(api_key)),
        |_, _| Target::Subject("user:ann".to_owned()),
        |_, _| Target::Client("client:app".to_owned()),
        |_, _| Target::Label("stream:1".to_owned()),
        |_, _| Target::WholeRealm(true),
    ];
    for aim in aims {
        let world = World::with(soon_idle()).await;
        let (app, admin) = world.app_and_admin().await;
        let bound = IssueRequest {
            labels: strings(&["stream:1"]),
            ..viewer("user:ann")
        };
        let issued = app.issue(bound).await.unwrap();
        let target = || aim(&app.api_key, &issued);
        world.clock.advance(Seconds(601));
        let refused = app.refresh(&refresh_token(issued.tokens.as_ref())).await;
        assert_eq!(reason(&refused.unwrap_err()), "Unauthenticated / SESSION_EXPIRED");
        let access = access_token(issued.tokens.as_ref());
        assert!(admin.introspect(&access).await.active, "{:?}", target());

        assert_eq!(count(&admin, target()).await, 1, "{:?}", target());
        assert_eq!(admin.revoke(target()).await.unwrap().matched, 1, "{:?}", target());
        assert!(!admin.introspect(&access).await.active, "{:?}", target());
        assert_eq!(count(&admin, target()).await, 0, "{:?}", target());
        assert_eq!(admin.revoke(target()).await.unwrap().matched, 0, "{:?}", target());
    }
}

/// Verifiers accept an access token for up to a minute after its end, and it can be revoked for that long.
#[tokio::test]
async fn what_a_verifier_may_still_accept_is_revoked_and_nothing_after_that() {
    let world = World::with(soon_idle()).await;
    let app = world.client("production", "app").await;
    let issued = app.issue_for("user:ann").await;
    let token = || Target::Token(access_token(issued.tokens.as_ref()));
    let session = || Target::SessionId(issued.session_id.clone());
    let is_revocable = async |target| count(&app, target).await == 1;
    world.clock.advance(Seconds(3659));
    assert!(is_revocable(token()).await);
    assert!(!app.introspect(&access_token(issued.tokens.as_ref())).await.active);
    world.clock.advance(Seconds(1));
    assert!(!is_revocable(token()).await);
    // A token of the session that was refreshed just before it went idle would still be valid.
    world.clock.advance(Seconds(599));
    assert!(is_revocable(session()).await);
    assert_eq!(app.revoke(token()).await.unwrap().matched, 0);
    world.clock.advance(Seconds(1));
    assert!(!is_revocable(session()).await);
    assert_eq!(app.revoke(session()).await.unwrap().matched, 0);
}

#[tokio::test]
async fn what_ends_nothing_is_no_change() {
    use tessera_authority::{RevokeRequest, RevokeTarget};
    use tessera_core::{ApiKeyId, SessionId};

    let world = World::start().await;
    let app = world.client("production", "app").await;
    let issued = app.issue_for("user:ann").await;
    let principal = world
        .authority
        .credentials()
        .authenticate(&app.api_key, [127, 0, 0, 1].into())
        .await
        .unwrap();
    let is_change = async |target: RevokeTarget| {
        let request = RevokeRequest {
            request_id: None,
            reason: String::new(),
            validate_only: false,
            target,
            disables_client: false,
            with_made_keys: false,
        };
        world
            .authority
            .sessions()
            .revoke(&principal, &request)
            .await
            .unwrap()
            .is_change
    };
    let session = SessionId::parse(&issued.session_id).unwrap();
    assert!(is_change(RevokeTarget::Session(session)).await);
    // Every holder of a key can cause this as often as its rate allows: the log has no line for it.
    assert!(!is_change(RevokeTarget::Session(session)).await);
    let unknown = ApiKeyId::parse("0123456789abcdef").unwrap();
    assert!(!is_change(RevokeTarget::ApiKey(unknown)).await);
    let own = ApiKeyId::parse(app.api_key.split('_').next_back().unwrap().get(..16).unwrap()).unwrap();
    assert!(is_change(RevokeTarget::ApiKey(own)).await);
    assert!(!is_change(RevokeTarget::ApiKey(own)).await);
}

/// Only counting is done in turn: on a disk that takes milliseconds, a client could end few labels a second otherwise.
#[tokio::test]
async fn a_revocation_that_waits_for_the_disk_delays_no_other_of_its_client() {
    let store = Fragile::new();
    let world = World::on(store.clone()).await;
    let (_, admin) = world.app_and_admin().await;
    let (waits, release) = store.hold_next();
    let first = tokio::spawn({
        let admin = admin.clone();
        async move { admin.revoke(Target::Subject("user:ann".to_owned())).await }
    });
    soon("the first commit", waits).await.unwrap();
    let second = admin.revoke(Target::Subject("user:bob".to_owned()));
    soon("the second revocation", second).await.unwrap();
    release.send(()).unwrap();
    first.await.unwrap().unwrap();
}
