//! Refresh, through the whole server: the table of `semantics.md` §3 and the checklist.

use tessera_core::{RealmLimits, Seconds};
use tessera_proto::v1::{IssueRequest, SessionState, revoke_request::Target};
use tessera_testkit::world::{Setup, World, access_token, reason, refresh_token, seconds, strings, viewer};

use tonic_types::StatusExt as _;

#[tokio::test]
async fn a_refresh_gives_a_new_access_and_a_new_refresh_token() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let issued = app.issue_for("user:ann").await;
    let first = refresh_token(issued.tokens.as_ref());
    let refreshed = app.refresh(&first).await.unwrap();
    assert_eq!((refreshed.generation, refreshed.replayed), (2, false));
    assert_eq!(refreshed.session_id, issued.session_id);
    assert_ne!(refresh_token(refreshed.tokens.as_ref()), first);
    assert_ne!(
        access_token(refreshed.tokens.as_ref()),
        access_token(issued.tokens.as_ref())
    );
    let third = app
        .refresh(&refresh_token(refreshed.tokens.as_ref()))
        .await
        .unwrap();
    assert_eq!(third.generation, 3);
}

#[tokio::test]
async fn checklist_1_a_spent_token_is_refused_and_its_session_revoked() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let issued = app.issue_for("user:ann").await;
    let first = refresh_token(issued.tokens.as_ref());
    let second = app.refresh(&first).await.unwrap();
    world.clock.advance(Seconds(11));
    assert_eq!(
        reason(&app.refresh(&first).await.unwrap_err()),
        "Unauthenticated / REFRESH_TOKEN_REUSED"
    );
    // The thief's use ended the owner's session, including its access tokens.
    let owner = app
        .refresh(&refresh_token(second.tokens.as_ref()))
        .await
        .unwrap_err();
    assert_eq!(reason(&owner), "Unauthenticated / SESSION_REVOKED");
    assert!(!app.introspect(&access_token(second.tokens.as_ref())).await.active);
    assert!(!app.introspect(&access_token(issued.tokens.as_ref())).await.active);
}

#[tokio::test]
async fn a_token_two_generations_old_is_reuse_even_within_the_grace_window() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let first = refresh_token(app.issue_for("user:ann").await.tokens.as_ref());
    let second = app.refresh(&first).await.unwrap();
    app.refresh(&refresh_token(second.tokens.as_ref())).await.unwrap();
    assert_eq!(
        reason(&app.refresh(&first).await.unwrap_err()),
        "Unauthenticated / REFRESH_TOKEN_REUSED"
    );
}

#[tokio::test]
async fn checklist_3_a_retry_gives_the_same_successor_until_the_window_closes() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let first = refresh_token(app.issue_for("user:ann").await.tokens.as_ref());
    let answer = app.refresh(&first).await.unwrap();
    world.clock.advance(Seconds(10));
    let again = app.refresh(&first).await.unwrap();
    assert!(again.replayed);
    assert_eq!(
        refresh_token(again.tokens.as_ref()),
        refresh_token(answer.tokens.as_ref())
    );
    assert_ne!(
        access_token(again.tokens.as_ref()),
        access_token(answer.tokens.as_ref())
    );
    // Measured from the first rotation, never sliding.
    world.clock.advance_millis(1);
    assert_eq!(
        reason(&app.refresh(&first).await.unwrap_err()),
        "Unauthenticated / REFRESH_TOKEN_REUSED"
    );
}

#[tokio::test]
async fn a_retry_too_many_within_the_grace_window_is_refused_and_ends_nothing() {
    let limits = RealmLimits {
        grace_replays_max: 5,
        ..RealmLimits::default()
    };
    let world = World::with(Setup {
        limits,
        ..Setup::default()
    })
    .await;
    let app = world.client("production", "app").await;
    let issued = app.issue_for("user:ann").await;
    let first = refresh_token(issued.tokens.as_ref());
    let second = refresh_token(app.refresh(&first).await.unwrap().tokens.as_ref());
    for _ in 0..5 {
        // Simultaneous retries count once.
        world.clock.advance(Seconds(1));
        for _ in 0..3 {
            assert!(app.refresh(&first).await.unwrap().replayed);
        }
    }
    world.clock.advance(Seconds(1));
    for _ in 0..3 {
        let refused = app.refresh(&first).await.unwrap_err();
        assert_eq!(reason(&refused), "ResourceExhausted / REPLAYS_EXCEEDED");
        assert!(refused.get_details_retry_info().is_some());
    }
    // A client with an answer continues; a spent token after the window is a theft.
    app.refresh(&second).await.unwrap();
    world.clock.advance(Seconds(11));
    assert_eq!(
        reason(&app.refresh(&first).await.unwrap_err()),
        "Unauthenticated / REFRESH_TOKEN_REUSED"
    );
}

#[tokio::test]
async fn a_client_has_no_more_sessions_than_it_may() {
    let limits = RealmLimits {
        sessions_per_client_max: 3,
        ..RealmLimits::default()
    };
    let world = World::with(Setup {
        limits,
        ..Setup::default()
    })
    .await;
    let app = world.client("production", "app").await;
    let request = IssueRequest {
        request_id: uuid::Uuid::new_v4().to_string(),
        ..viewer("user:ann")
    };
    app.issue(request.clone()).await.unwrap();
    for _ in 0..2 {
        app.issue_for("user:ann").await;
    }
    let refused = app.issue(viewer("user:bob")).await.unwrap_err();
    assert_eq!(reason(&refused), "ResourceExhausted / SESSIONS_EXCEEDED");
    // A retry begins no session, and the same name in another realm is a different client.
    app.issue(request).await.unwrap();
    let other = world.client("sandbox", "app").await;
    other.issue_for("user:ann").await;
    // After the ended sessions are removed there is room again.
    world.clock.advance(Seconds::days(200));
    let horizon = world.authority.now();
    world
        .authority
        .purging()
        .purge(horizon, Seconds::days(90))
        .await
        .unwrap();
    app.issue_for("user:ann").await;
}

#[tokio::test]
async fn checklist_2_fifty_concurrent_refreshes_give_one_successor() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let first = refresh_token(app.issue_for("user:ann").await.tokens.as_ref());
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let (app, first) = (app.clone(), first.clone());
            tokio::spawn(async move { app.refresh(&first).await.unwrap() })
        })
        .collect();
    let mut successors = std::collections::BTreeSet::new();
    let mut rotations = 0;
    for call in calls {
        let answer = call.await.unwrap();
        assert_eq!(answer.generation, 2);
        rotations += usize::from(!answer.replayed);
        successors.insert(refresh_token(answer.tokens.as_ref()));
    }
    assert_eq!((rotations, successors.len()), (1, 1));
}

#[tokio::test]
async fn checklist_5_and_6_sessions_end_when_idle_and_absolutely() {
    let limits = RealmLimits {
        idle_ttl: Seconds(100),
        ..RealmLimits::default()
    };
    let world = World::with(Setup {
        limits,
        ..Setup::default()
    })
    .await;
    let app = world.client("production", "app").await;

    let idle = app.issue_for("user:ann").await;
    world.clock.advance(Seconds(100));
    let refused = app
        .refresh(&refresh_token(idle.tokens.as_ref()))
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "Unauthenticated / SESSION_EXPIRED");

    let request = IssueRequest {
        session_ttl: seconds(150),
        access_ttl: seconds(120),
        ..viewer("user:ann")
    };
    let used = app.issue(request).await.unwrap();
    world.clock.advance(Seconds(90));
    let refreshed = app.refresh(&refresh_token(used.tokens.as_ref())).await.unwrap();
    let tokens = refreshed.tokens.as_ref().unwrap();
    // Nothing outlives the absolute end.
    assert_eq!((tokens.expires_in, tokens.refresh_expires_in), (60, 60));
    world.clock.advance(Seconds(60));
    let refused = app.refresh(&tokens.refresh_token).await.unwrap_err();
    assert_eq!(reason(&refused), "Unauthenticated / SESSION_EXPIRED");
    assert!(!app.introspect(&tokens.access_token).await.active);
}

#[tokio::test]
async fn checklist_7_a_refresh_token_works_for_its_own_client_only() {
    let world = World::start().await;
    let (app, other) = (
        world.client("production", "app").await,
        world.client("production", "other").await,
    );
    let first = refresh_token(app.issue_for("user:ann").await.tokens.as_ref());
    assert_eq!(
        reason(&other.refresh(&first).await.unwrap_err()),
        "PermissionDenied / CLIENT_MISMATCH"
    );
    // It was not changed.
    assert!(!app.refresh(&first).await.unwrap().replayed);
}

#[tokio::test]
async fn another_key_of_the_same_client_refreshes() {
    let world = World::start().await;
    let (one, two) = (
        world.client("production", "app").await,
        world.client("production", "app").await,
    );
    let first = refresh_token(one.issue_for("user:ann").await.tokens.as_ref());
    assert_eq!(two.refresh(&first).await.unwrap().generation, 2);
}

#[tokio::test]
async fn checklist_8_a_refresh_narrows_one_access_token_and_never_widens() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let request = IssueRequest {
        scopes: strings(&["videos:read", "videos/v1:play"]),
        ..viewer("user:ann")
    };
    let first = refresh_token(app.issue(request).await.unwrap().tokens.as_ref());

    let refused = app.refresh_with(&first, &["videos/v2:play"]).await.unwrap_err();
    assert_eq!(reason(&refused), "InvalidArgument / SCOPE_EXCEEDS_GRANT");
    let narrowed = app.refresh_with(&first, &["videos:read"]).await.unwrap();
    assert_eq!(
        (
            narrowed.generation,
            narrowed.tokens.as_ref().unwrap().scopes.clone()
        ),
        (2, strings(&["videos:read"]))
    );
    let whole = app
        .refresh(&refresh_token(narrowed.tokens.as_ref()))
        .await
        .unwrap();
    assert_eq!(
        whole.tokens.unwrap().scopes,
        strings(&["videos/v1:play", "videos:read"])
    );
}

#[tokio::test]
async fn checklist_39_a_refresh_token_of_another_realm_is_not_known() {
    let world = World::start().await;
    let (production, sandbox) = (
        world.client("production", "app").await,
        world.client("sandbox", "app").await,
    );
    let issued = production.issue_for("user:ann").await;
    let refused = sandbox
        .refresh(&refresh_token(issued.tokens.as_ref()))
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "Unauthenticated / REFRESH_TOKEN_INVALID");
    assert!(
        !sandbox
            .introspect(&access_token(issued.tokens.as_ref()))
            .await
            .active
    );
    assert!(
        !sandbox
            .introspect(&refresh_token(issued.tokens.as_ref()))
            .await
            .active
    );
    let matched = sandbox
        .revoke(Target::Token(access_token(issued.tokens.as_ref())))
        .await
        .unwrap()
        .matched;
    assert_eq!(matched, 0);
    assert!(
        production
            .introspect(&access_token(issued.tokens.as_ref()))
            .await
            .active
    );
}

#[tokio::test]
async fn checklist_18_an_access_token_does_not_refresh() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let issued = app.issue_for("user:ann").await;
    for text in [
        access_token(issued.tokens.as_ref()),
        "tsr_".to_owned(),
        "tsr_v4.local.AAAA".to_owned(),
        "x".to_owned(),
    ] {
        let refused = app.refresh(&text).await.unwrap_err();
        assert_eq!(
            reason(&refused),
            "Unauthenticated / REFRESH_TOKEN_INVALID",
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_clock_that_jumps_loses_no_session() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let first = refresh_token(app.issue_for("user:ann").await.tokens.as_ref());
    let ten_years = i64::from(Seconds::days(3650).0) * 1000;
    world.clock.advance_millis(ten_years);
    assert_eq!(
        reason(&app.refresh(&first).await.unwrap_err()),
        "Unauthenticated / SESSION_EXPIRED"
    );
    world.clock.advance_millis(-ten_years);
    let second = app.refresh(&first).await.unwrap();
    world.clock.advance_millis(-300_000);
    assert!(app.refresh(&first).await.unwrap().replayed);
    assert_eq!(
        app.refresh(&refresh_token(second.tokens.as_ref()))
            .await
            .unwrap()
            .generation,
        3
    );
}

#[tokio::test]
async fn a_session_says_what_it_is() {
    let world = World::start().await;
    let (app, admin) = world.app_and_admin().await;
    let issued = app.issue_for("user:ann").await;
    let get = async |client: &tessera_testkit::world::Client| {
        let request = tessera_proto::v1::GetSessionRequest {
            session_id: issued.session_id.clone(),
        };
        client
            .sessions()
            .get_session(request)
            .await
            .map(|response| response.into_inner().session.unwrap())
    };
    let session = get(&app).await.unwrap();
    assert_eq!(
        (session.state(), session.generation, session.subject.as_str()),
        (SessionState::Active, 1, "user:ann")
    );
    let other = world.client("production", "other").await;
    assert_eq!(reason(&get(&other).await.unwrap_err()), "NotFound / NOT_FOUND");
    admin
        .revoke(Target::Subject("user:ann".to_owned()))
        .await
        .unwrap();
    let session = get(&admin).await.unwrap();
    assert_eq!(
        (session.state(), session.revoke_reason.as_str()),
        (SessionState::Revoked, "subject_revoked")
    );
}

#[tokio::test]
async fn the_last_refresh_gives_a_token_that_is_alive_or_is_refused() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    world.clock.advance_millis(500);
    let request = IssueRequest {
        session_ttl: seconds(2),
        ..viewer("user:ann")
    };
    let mut token = refresh_token(app.issue(request).await.unwrap().tokens.as_ref());
    for _ in 0..30 {
        world.clock.advance_millis(100);
        match app.refresh(&token).await {
            Ok(next) => {
                let tokens = next.tokens.unwrap();
                assert!(tokens.expires_in > 0);
                assert!(app.introspect(&tokens.access_token).await.active);
                token = tokens.refresh_token;
            }
            Err(refused) => {
                assert_eq!(reason(&refused), "Unauthenticated / SESSION_EXPIRED");
                return;
            }
        }
    }
    panic!("the session did not end");
}
