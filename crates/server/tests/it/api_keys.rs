//! API keys: made, shown once, rolled, expired, revoked.

use tessera_core::Seconds;
use tessera_proto::v1::{
    ApiKeyStatus, CreateApiKeyRequest, GetApiKeyRequest, IssueRequest, ListApiKeysRequest,
    RevokeApiKeyRequest, RollApiKeyRequest,
};

use crate::world::{World, fields, reason, seconds};

fn create(name: &str) -> CreateApiKeyRequest {
    CreateApiKeyRequest {
        name: name.to_owned(),
        ..CreateApiKeyRequest::default()
    }
}

#[tokio::test]
async fn checklist_40_a_new_key_is_shown_once_and_works() {
    let world = World::start().await;
    let admin = world.client("production", "admin").await;
    let made = admin
        .api_keys()
        .create_api_key(create("other"))
        .await
        .unwrap()
        .into_inner();
    let described = made.api_key.unwrap();
    assert_eq!(
        (described.client.as_str(), described.status()),
        ("client:other", ApiKeyStatus::Active)
    );
    let other = world.with_key(&made.secret);
    other.issue(IssueRequest::default()).await.unwrap();
    let listed = admin
        .api_keys()
        .list_api_keys(ListApiKeysRequest::default())
        .await
        .unwrap()
        .into_inner();
    let shown = format!("{listed:?}");
    assert!(shown.contains(&described.id) && !shown.contains(&made.secret[made.secret.len() - 38..]));
}

#[tokio::test]
async fn a_key_expires() {
    let world = World::start().await;
    let admin = world.client("production", "admin").await;
    let request = CreateApiKeyRequest {
        ttl: seconds(60),
        ..create("other")
    };
    let made = admin
        .api_keys()
        .create_api_key(request)
        .await
        .unwrap()
        .into_inner();
    let other = world.with_key(&made.secret);
    other.issue(IssueRequest::default()).await.unwrap();
    world.clock.advance(Seconds(60));
    let refused = other.issue(IssueRequest::default()).await.unwrap_err();
    assert_eq!(reason(&refused), "Unauthenticated / CLIENT_AUTH_FAILED");
    let id = made.api_key.unwrap().id;
    let got = admin
        .api_keys()
        .get_api_key(GetApiKeyRequest { id })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(got.api_key.unwrap().status(), ApiKeyStatus::Expired);
}

#[tokio::test]
async fn a_rolled_key_works_for_the_overlap() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let id = app.api_key["tsk_production_".len()..][..16].to_owned();
    let roll = RollApiKeyRequest {
        id: id.clone(),
        overlap: seconds(100),
    };
    // A client rolls its own key without any permission.
    let rolled = app
        .api_keys()
        .roll_api_key(roll.clone())
        .await
        .unwrap()
        .into_inner();
    let (previous, new) = (rolled.previous.unwrap(), rolled.api_key.unwrap());
    assert_eq!(
        (previous.status(), previous.successor_id),
        (ApiKeyStatus::Rolled, new.id)
    );
    let successor = world.with_key(&rolled.secret);
    let issued = app.issue_for("user:ann").await;
    successor.issue_for("user:ann").await;
    assert_eq!(
        fields(&app.api_keys().roll_api_key(roll).await.unwrap_err()),
        ["id"]
    );
    world.clock.advance(Seconds(100));
    let refused = app.issue(IssueRequest::default()).await.unwrap_err();
    assert_eq!(reason(&refused), "Unauthenticated / CLIENT_AUTH_FAILED");
    // Sessions of the old key go on with the new one.
    let refresh_token = crate::world::refresh_token(issued.tokens.as_ref());
    assert_eq!(successor.refresh(&refresh_token).await.unwrap().generation, 2);
}

#[tokio::test]
async fn keys_are_administered_by_those_who_may_and_in_their_realm() {
    let world = World::start().await;
    let (admin, app) = (
        world.client("production", "admin").await,
        world.client("production", "app").await,
    );
    let of_sandbox = world.client("sandbox", "other").await.api_key["tsk_sandbox_".len()..][..16].to_owned();
    let refused = app.api_keys().create_api_key(create("x")).await.unwrap_err();
    assert_eq!(reason(&refused), "PermissionDenied / CALL_NOT_ALLOWED");
    let refused = app
        .api_keys()
        .list_api_keys(ListApiKeysRequest::default())
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "PermissionDenied / CALL_NOT_ALLOWED");
    let elsewhere = CreateApiKeyRequest {
        realm: "sandbox".to_owned(),
        ..create("x")
    };
    let refused = admin.api_keys().create_api_key(elsewhere).await.unwrap_err();
    assert_eq!(reason(&refused), "PermissionDenied / CALL_NOT_ALLOWED");
    let id = of_sandbox.clone();
    let refused = admin
        .api_keys()
        .get_api_key(GetApiKeyRequest { id })
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "NotFound / NOT_FOUND");
    let request = RevokeApiKeyRequest {
        id: of_sandbox,
        reason: String::new(),
    };
    assert_eq!(
        admin
            .api_keys()
            .revoke_api_key(request)
            .await
            .unwrap()
            .into_inner()
            .matched,
        0
    );
}

#[tokio::test]
async fn wrong_fields_are_named() {
    let world = World::start().await;
    let admin = world.client("production", "admin").await;
    for (request, field) in [
        (create(""), "name"),
        (create("Shop"), "name"),
        (create(&"x".repeat(65)), "name"),
        (
            CreateApiKeyRequest {
                ttl: seconds(59),
                ..create("x")
            },
            "ttl",
        ),
        (
            CreateApiKeyRequest {
                realm: "Sandbox".to_owned(),
                ..create("x")
            },
            "realm",
        ),
    ] {
        assert_eq!(
            fields(&admin.api_keys().create_api_key(request).await.unwrap_err()),
            [field]
        );
    }
    let too_long = RollApiKeyRequest {
        id: "0123456789abcdef".to_owned(),
        overlap: seconds(31 * 86_400),
    };
    assert_eq!(
        fields(&admin.api_keys().roll_api_key(too_long).await.unwrap_err()),
        ["overlap"]
    );
}

#[tokio::test]
async fn lists_come_in_pages() {
    let world = World::start().await;
    let admin = world.client("production", "admin").await;
    for number in 0..6 {
        admin
            .api_keys()
            .create_api_key(create(&format!("c{number}")))
            .await
            .unwrap();
    }
    let (mut seen, mut page_token) = (std::collections::BTreeSet::new(), String::new());
    loop {
        let request = ListApiKeysRequest {
            page_size: 3,
            page_token,
        };
        let page = admin
            .api_keys()
            .list_api_keys(request)
            .await
            .unwrap()
            .into_inner();
        assert!(page.api_keys.len() <= 3);
        seen.extend(page.api_keys.into_iter().map(|key| key.id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen.len(), 7);
    let wrong = ListApiKeysRequest {
        page_size: 501,
        page_token: String::new(),
    };
    assert_eq!(
        fields(&admin.api_keys().list_api_keys(wrong).await.unwrap_err()),
        ["page_size"]
    );
    let wrong = ListApiKeysRequest {
        page_size: 3,
        page_token: "x".to_owned(),
    };
    assert_eq!(
        fields(&admin.api_keys().list_api_keys(wrong).await.unwrap_err()),
        ["page_token"]
    );
}
