//! Issue, through the whole server.

use tessera_proto::v1::{IssueRequest, ListSessionsRequest, list_sessions_request, revoke_request::Target};
use tessera_testkit::world::{World, access_token, fields, reason, refresh_token, seconds, strings, viewer};
use uuid::Uuid;

use crate::endpoints::send;

#[tokio::test]
async fn a_client_gets_all_that_policy_grants_it() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let issued = app.issue(IssueRequest::default()).await.unwrap();
    let tokens = issued.tokens.as_ref().unwrap();
    assert_eq!(tokens.scopes, strings(&["videos:read", "videos:write"]));
    assert_eq!((tokens.token_type.as_str(), tokens.expires_in), ("Bearer", 3600));
    assert_eq!(tokens.refresh_expires_in, 30 * 86_400);
    assert!(issued.denied.is_empty());
    let said = app.introspect(&tokens.access_token).await;
    assert_eq!(
        (said.sub.as_str(), said.client_id.as_str()),
        ("client:app", "client:app")
    );
    assert_eq!(
        (said.iss.as_str(), said.aud.as_str()),
        ("https://auth.example.org/production", "api")
    );
}

#[tokio::test]
async fn what_is_denied_is_said_and_the_rest_is_granted() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let request = IssueRequest {
        roles: strings(&["role:viewer", "role:trial"]),
        scopes: strings(&["videos/v1:play", "videos/premium/v9:play", "videos:write"]),
        ..viewer("user:ann")
    };
    let issued = app.issue(request.clone()).await.unwrap();
    assert_eq!(issued.tokens.unwrap().scopes, strings(&["videos/v1:play"]));
    let denied: Vec<_> = issued.denied.iter().map(|denied| denied.scope.as_str()).collect();
    assert_eq!(denied, ["videos/premium/v9:play", "videos:write"]);
    assert!(issued.denied.iter().all(|denied| !denied.reason.is_empty()));

    let all = IssueRequest {
        require_all: true,
        ..request
    };
    assert_eq!(
        reason(&app.issue(all).await.unwrap_err()),
        "PermissionDenied / SCOPE_DENIED"
    );
}

#[tokio::test]
async fn nothing_granted_is_a_refusal_with_the_explanation() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let refused = app
        .issue(IssueRequest {
            subject: "user:ann".to_owned(),
            ..IssueRequest::default()
        })
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "PermissionDenied / SCOPE_DENIED");
    assert!(refused.message().contains("videos:read"), "{}", refused.message());
}

#[tokio::test]
async fn issuing_for_others_and_asserting_roles_are_decisions_of_the_policy() {
    let world = World::start().await;
    let (app, other) = (
        world.client("production", "app").await,
        world.client("production", "other").await,
    );
    let refused = other.issue(viewer("user:ann")).await.unwrap_err();
    assert_eq!(reason(&refused), "PermissionDenied / CALL_NOT_ALLOWED");
    let asserted = IssueRequest {
        roles: strings(&["role:editor"]),
        ..viewer("user:ann")
    };
    let refused = app.issue(asserted).await.unwrap_err();
    assert_eq!(reason(&refused), "PermissionDenied / CALL_NOT_ALLOWED");
    assert!(
        refused.message().contains("tessera/roles/role:editor:assert"),
        "{}",
        refused.message()
    );
}

#[tokio::test]
async fn names_that_the_catalogue_lacks_are_refused_with_the_nearest() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let cases = [
        (
            IssueRequest {
                scopes: strings(&["vidoes:read"]),
                ..viewer("user:ann")
            },
            "InvalidArgument / SCOPE_UNKNOWN",
            "scopes",
            "videos:read",
        ),
        (
            IssueRequest {
                audience: "apy".to_owned(),
                ..viewer("user:ann")
            },
            "InvalidArgument / AUDIENCE_UNKNOWN",
            "audience",
            "api",
        ),
        (
            IssueRequest {
                roles: strings(&["role:viewr"]),
                ..viewer("user:ann")
            },
            "InvalidArgument / ROLE_UNKNOWN",
            "roles",
            "role:viewer",
        ),
        (
            IssueRequest {
                scopes: strings(&["tessera/realm:revoke"]),
                ..viewer("user:ann")
            },
            "InvalidArgument / SCOPE_UNKNOWN",
            "scopes",
            "",
        ),
    ];
    for (request, expected, field, nearest) in cases {
        let refused = app.issue(request).await.unwrap_err();
        assert_eq!(reason(&refused), expected);
        assert_eq!(fields(&refused), [field]);
        assert!(refused.message().contains(nearest), "{}", refused.message());
    }
}

#[tokio::test]
async fn checklist_20_a_token_names_one_audience() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    // Two audiences in the catalogue: there is no default.
    let unnamed = app.tokens().issue(viewer("user:ann")).await.unwrap_err();
    assert_eq!(reason(&unnamed), "InvalidArgument / FIELD_INVALID");
    assert_eq!(fields(&unnamed), ["audience"]);
    let named = app
        .issue(IssueRequest {
            audience: "player".to_owned(),
            ..viewer("user:ann")
        })
        .await
        .unwrap();
    assert_eq!(
        app.introspect(&access_token(named.tokens.as_ref())).await.aud,
        "player"
    );
}

#[tokio::test]
async fn checklist_13_no_access_token_outlives_the_maximum() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    for (request, field) in [
        (
            IssueRequest {
                access_ttl: seconds(86_401),
                ..viewer("user:ann")
            },
            "access_ttl",
        ),
        (
            IssueRequest {
                access_ttl: seconds(0),
                ..viewer("user:ann")
            },
            "access_ttl",
        ),
        (
            IssueRequest {
                access_ttl: seconds(-1),
                ..viewer("user:ann")
            },
            "access_ttl",
        ),
        (
            IssueRequest {
                session_ttl: seconds(91 * 86_400),
                ..viewer("user:ann")
            },
            "session_ttl",
        ),
        (
            IssueRequest {
                session_ttl: seconds(i64::MAX),
                ..viewer("user:ann")
            },
            "session_ttl",
        ),
    ] {
        let refused = app.issue(request).await.unwrap_err();
        assert_eq!(
            (reason(&refused).as_str(), fields(&refused)),
            ("InvalidArgument / FIELD_INVALID", strings(&[field]))
        );
    }
    let longest = IssueRequest {
        access_ttl: seconds(86_400),
        ..viewer("user:ann")
    };
    assert_eq!(
        app.issue(longest).await.unwrap().tokens.unwrap().expires_in,
        86_400
    );
}

#[tokio::test]
async fn every_malformed_field_is_named() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let request = IssueRequest {
        request_id: "not-a-uuid".to_owned(),
        subject: "a\nb".to_owned(),
        roles: strings(&["viewer"]),
        scopes: strings(&["videos:read", "videos:*"]),
        audience: "API".to_owned(),
        access_ttl: Some(prost_types::Duration { seconds: 1, nanos: 5 }),
        labels: (0..9).map(|number| format!("b:{number}")).collect(),
        ..IssueRequest::default()
    };
    let refused = app.issue(request).await.unwrap_err();
    assert_eq!(reason(&refused), "InvalidArgument / FIELD_INVALID");
    assert_eq!(
        fields(&refused),
        [
            "request_id",
            "subject",
            "roles[0]",
            "scopes[1]",
            "audience",
            "access_ttl",
            "labels"
        ]
    );
    let many = IssueRequest {
        scopes: vec!["videos:read".to_owned(); 101],
        ..viewer("user:ann")
    };
    assert_eq!(fields(&app.issue(many).await.unwrap_err()), ["scopes"]);
}

#[tokio::test]
async fn the_same_request_id_gives_the_same_session() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let request = IssueRequest {
        request_id: Uuid::new_v4().to_string(),
        ..viewer("user:ann")
    };
    let first = app.issue(request.clone()).await.unwrap();
    let again = app.issue(request.clone()).await.unwrap();
    assert_eq!(first.session_id, again.session_id);
    assert_eq!(
        refresh_token(first.tokens.as_ref()),
        refresh_token(again.tokens.as_ref())
    );
    assert_eq!(
        app.refresh(&refresh_token(again.tokens.as_ref()))
            .await
            .unwrap()
            .generation,
        2
    );
    // Its first refresh token is spent: it is not returned again.
    assert_eq!(
        reason(&app.issue(request.clone()).await.unwrap_err()),
        "AlreadyExists / ALREADY_REFRESHED"
    );

    let another = IssueRequest {
        subject: "user:bob".to_owned(),
        ..request.clone()
    };
    assert_eq!(
        reason(&app.issue(another).await.unwrap_err()),
        "AlreadyExists / IDEMPOTENCY_MISMATCH"
    );
    // Another client's request ids are separate.
    let admin = world.client("production", "admin").await;
    assert_ne!(
        admin.issue(request.clone()).await.unwrap().session_id,
        first.session_id
    );

    world.clock.advance(tessera_core::Seconds(600));
    assert_ne!(app.issue(request).await.unwrap().session_id, first.session_id);
}

#[tokio::test]
async fn a_repeated_request_does_not_bring_a_revoked_session_back() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let request = IssueRequest {
        request_id: Uuid::new_v4().to_string(),
        ..viewer("user:ann")
    };
    let first = app.issue(request.clone()).await.unwrap();
    app.revoke(Target::SessionId(first.session_id)).await.unwrap();
    assert_eq!(
        reason(&app.issue(request).await.unwrap_err()),
        "Unauthenticated / SESSION_REVOKED"
    );
}

#[tokio::test]
async fn without_refresh_there_is_one_access_token_and_its_session() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let request = IssueRequest {
        without_refresh: true,
        access_ttl: seconds(60),
        ..viewer("user:ann")
    };
    let issued = app.issue(request).await.unwrap();
    let tokens = issued.tokens.as_ref().unwrap();
    assert_eq!(
        (
            tokens.refresh_token.as_str(),
            tokens.refresh_expires_in,
            tokens.expires_in
        ),
        ("", 0, 60)
    );
    assert!(app.introspect(&tokens.access_token).await.active);
    assert_eq!(
        app.revoke(Target::SessionId(issued.session_id))
            .await
            .unwrap()
            .matched,
        1
    );
    assert!(!app.introspect(&tokens.access_token).await.active);
}

#[tokio::test]
async fn subjects_are_whatever_identity_systems_call_them() {
    let world = World::start().await;
    let (app, admin) = world.app_and_admin().await;
    for (subject, header) in [
        ("spiffe://example.org/ns/prod/sa/videos", None),
        ("arn:aws:iam::123456789012:user/Ann", None),
        ("o'neil@example.org", None),
        ("CN=Ann, C=DE", Some("CN=Ann%2C%20C=DE")),
        ("j\u{fc}rgen 100%", Some("j%C3%BCrgen%20100%25")),
        ("\u{1f642}\"\\;", Some("%F0%9F%99%82%22%5C%3B")),
        (&"\u{fc}".repeat(127), Some(&"%C3%BC".repeat(127))),
    ] {
        let issued = app.issue_for(subject).await;
        let token = access_token(issued.tokens.as_ref());
        assert_eq!(app.introspect(&token).await.sub, subject);
        let bearer = format!("Bearer {token}");
        let asked = send(
            &world,
            "GET /forward-auth?scope=any",
            &[("authorization", &bearer)],
            b"",
        )
        .await;
        assert_eq!(asked.header("x-tessera-subject"), [header.unwrap_or(subject)]);

        let renewed = app.refresh(&refresh_token(issued.tokens.as_ref())).await.unwrap();
        let by = list_sessions_request::By::Subject(subject.to_owned());
        let mut sessions = admin.sessions();
        let listed = sessions.list_sessions(ListSessionsRequest {
            by: Some(by),
            ..ListSessionsRequest::default()
        });
        assert_eq!(listed.await.unwrap().into_inner().sessions.len(), 1);
        let revoked = admin.revoke(Target::Subject(subject.to_owned())).await.unwrap();
        assert_eq!(revoked.matched, 1, "{subject}");
        assert!(
            !app.introspect(&access_token(renewed.tokens.as_ref()))
                .await
                .active
        );
    }
    for wrong in [
        "user:*",
        " ann",
        "ann\n",
        "a\u{202e}b",
        "u\u{308}",
        "role:viewer",
        &"x".repeat(256),
    ] {
        let refused = app.issue(viewer(wrong)).await.unwrap_err();
        assert_eq!(reason(&refused), "InvalidArgument / FIELD_INVALID", "{wrong:?}");
        assert_eq!(fields(&refused), ["subject"]);
    }
}
