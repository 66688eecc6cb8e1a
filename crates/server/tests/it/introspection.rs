//! Introspect, through the whole server.

use tessera_core::Seconds;
use tessera_proto::v1::{
    IntrospectManyRequest, IntrospectRequest, IntrospectResponse, revoke_request::Target,
};

use tessera_testkit::world::{Setup, World, access_token, reason, refresh_token};
use tessera_token::{ServerKey, ServerKeys};

#[tokio::test]
async fn checklist_24_and_25_the_not_entitled_see_inactive_and_nothing_else() {
    let world = World::start().await;
    let (app, other, admin) = (
        world.client("production", "app").await,
        world.client("production", "other").await,
        world.client("production", "admin").await,
    );
    let issued = app.issue_for("user:ann").await;
    let access = access_token(issued.tokens.as_ref());
    assert!(app.introspect(&access).await.active);
    assert!(admin.introspect(&access).await.active);
    assert_eq!(other.introspect(&access).await, IntrospectResponse::default());
    // Only its client may introspect a refresh token, regardless of roles.
    let refresh = refresh_token(issued.tokens.as_ref());
    let said = app.introspect(&refresh).await;
    assert_eq!(
        (said.active, said.token_kind.as_str(), said.generation),
        (true, "refresh_token", 1)
    );
    assert_eq!(admin.introspect(&refresh).await, IntrospectResponse::default());
}

#[tokio::test]
async fn checklist_26_signature_time_and_revocation_are_checked() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let issued = app.issue_for("user:ann").await;
    let access = access_token(issued.tokens.as_ref());
    let mut forged = access.clone().into_bytes();
    let middle = forged.len() / 3;
    forged[middle] = if forged[middle] == b'A' { b'B' } else { b'A' };
    for text in [
        String::from_utf8(forged).unwrap(),
        format!("{access}x"),
        "x".to_owned(),
    ] {
        assert_eq!(app.introspect(&text).await, IntrospectResponse::default());
    }
    // Twice, so that the second answer comes from the cache.
    assert!(app.introspect(&access).await.active && app.introspect(&access).await.active);
    world.clock.advance(Seconds(3599));
    assert!(app.introspect(&access).await.active);
    world.clock.advance(Seconds(1));
    assert_eq!(app.introspect(&access).await, IntrospectResponse::default());
    world.clock.advance_millis(-1000);
    assert!(app.introspect(&access).await.active);
    app.revoke(Target::Token(access.clone())).await.unwrap();
    assert_eq!(app.introspect(&access).await, IntrospectResponse::default());
    // Only that token.
    assert_eq!(
        app.refresh(&refresh_token(issued.tokens.as_ref()))
            .await
            .unwrap()
            .generation,
        2
    );
}

#[tokio::test]
async fn a_spent_refresh_token_is_inactive() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let first = refresh_token(app.issue_for("user:ann").await.tokens.as_ref());
    let second = refresh_token(app.refresh(&first).await.unwrap().tokens.as_ref());
    assert!(!app.introspect(&first).await.active);
    assert!(app.introspect(&second).await.active);
}

#[tokio::test]
async fn many_are_answered_in_their_order() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let access = access_token(app.issue_for("user:ann").await.tokens.as_ref());
    let many = |tokens| IntrospectManyRequest {
        tokens,
        at_least_as_fresh: String::new(),
    };
    let tokens = vec!["x".to_owned(), access.clone(), "y".to_owned(), access];
    let results = app
        .tokens()
        .introspect_many(many(tokens))
        .await
        .unwrap()
        .into_inner()
        .results;
    assert_eq!(
        results.iter().map(|r| r.active).collect::<Vec<_>>(),
        [false, true, false, true]
    );
    for wrong in [Vec::new(), vec!["x".to_owned(); 101]] {
        let refused = app.tokens().introspect_many(many(wrong)).await.unwrap_err();
        assert_eq!(reason(&refused), "InvalidArgument / FIELD_INVALID");
    }
}

#[tokio::test]
async fn a_new_token_is_active_by_a_clock_that_was_set_back_a_little() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let issued = app.issue_for("user:ann").await;
    let access = access_token(issued.tokens.as_ref());
    let said = app.introspect(&access).await;
    assert_eq!(said.nbf, said.iat - 10);
    world.clock.advance_millis(-10_000);
    assert!(app.introspect(&access).await.active);
    world.clock.advance_millis(-3_600_000);
    assert!(!app.introspect(&access).await.active);
}

#[tokio::test]
async fn a_caller_can_insist_on_freshness() {
    let server_key = ServerKey::generate().unwrap();
    let same_key = ServerKey::parse(&server_key.to_paserk()).unwrap();
    let world = World::with(Setup {
        server_key,
        ..Setup::default()
    })
    .await;
    let app = world.client("production", "app").await;
    let issued = app.issue_for("user:ann").await;
    let access = access_token(issued.tokens.as_ref());
    let revoked = app.revoke(Target::SessionId(issued.session_id)).await.unwrap();
    let ask = async |cursor: &str, patience| {
        let message = IntrospectRequest {
            token: access.clone(),
            at_least_as_fresh: cursor.to_owned(),
        };
        let mut request = tonic::Request::new(message);
        request.set_timeout(std::time::Duration::from_millis(patience));
        app.tokens()
            .introspect(request)
            .await
            .map(tonic::Response::into_inner)
    };
    assert!(!ask(&revoked.cursor, 5_000).await.unwrap().active);
    let cursor = tessera_core::Cursor::parse(&revoked.cursor).unwrap();
    let forged = tessera_core::Cursor {
        sequence: cursor.sequence.next(),
        ..cursor
    };
    // A cursor of an authority that continued this log elsewhere.
    let ahead = ServerKeys::new(same_key, Vec::new()).authenticate_cursor(forged);
    assert_eq!(
        reason(&ask(&ahead.to_string(), 2_000).await.unwrap_err()),
        "Unavailable / NOT_FRESH_ENOUGH"
    );
    let elsewhere = tessera_core::Cursor {
        log: tessera_core::LogId::from_bytes([9; 16]),
        ..cursor
    };
    for wrong in [elsewhere.to_string(), forged.to_string(), "x".to_owned()] {
        assert_eq!(
            reason(&ask(&wrong, 5_000).await.unwrap_err()),
            "InvalidArgument / CURSOR_INVALID"
        );
    }
}
