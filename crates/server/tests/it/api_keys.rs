//! API keys: made, shown once, rolled, expired, revoked.

use std::{collections::BTreeSet, sync::Arc};

use tessera_core::{ApiKeyId, Clock, RealmLimits, Seconds, Timestamp};
use tessera_proto::v1::{
    ApiKey, ApiKeyStatus, CreateApiKeyRequest, CreateApiKeyResponse, EnableClientRequest, GetApiKeyRequest,
    IssueRequest, ListApiKeysRequest, RevokeApiKeyRequest, RollApiKeyRequest, revoke_request::Target,
};
use tessera_server::Limits;
use tessera_store::{MemoryStore, Priority, Store};
use tessera_testkit::world::{Client, Setup, World, fields, per_second, reason, seconds};

fn create(name: &str) -> CreateApiKeyRequest {
    CreateApiKeyRequest {
        name: name.to_owned(),
        ..CreateApiKeyRequest::default()
    }
}

/// A new key that `admin` makes.
async fn made(admin: &Client, request: CreateApiKeyRequest) -> CreateApiKeyResponse {
    let made = admin.api_keys().create_api_key(request).await;
    made.unwrap().into_inner()
}

#[tokio::test]
async fn checklist_40_a_new_key_is_shown_once_and_works() {
    let world = World::start().await;
    let admin = world.client("production", "admin").await;
    let made = made(&admin, create("other")).await;
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
    let made = made(&admin, request).await;
    let other = world.with_key(&made.secret);
    other.issue(IssueRequest::default()).await.unwrap();
    world.clock.advance(Seconds(60));
    let refused = other.issue(IssueRequest::default()).await.unwrap_err();
    assert_eq!(reason(&refused), "Unauthenticated / CLIENT_AUTH_FAILED");
    let id = made.api_key.unwrap().id;
    let got = admin.api_keys().get_api_key(get(&id)).await.unwrap().into_inner();
    assert_eq!(got.api_key.unwrap().status(), ApiKeyStatus::Expired);
}

#[tokio::test]
async fn a_rolled_key_works_for_the_overlap() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let id = app.api_key["tsk_production_".len()..][..16].to_owned();
    let roll = roll(&id, 100);
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
    // Sessions of the old key continue with the new one.
    let refresh_token = tessera_testkit::world::refresh_token(issued.tokens.as_ref());
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
    let refused = admin.api_keys().get_api_key(get(&of_sandbox)).await.unwrap_err();
    assert_eq!(reason(&refused), "NotFound / NOT_FOUND");
    let request = RevokeApiKeyRequest {
        id: of_sandbox,
        ..RevokeApiKeyRequest::default()
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
    let too_long = roll("0123456789abcdef", 31 * 86_400);
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
    let (mut seen, mut page_token) = (BTreeSet::new(), String::new());
    loop {
        let request = ListApiKeysRequest {
            page_size: 3,
            page_token,
            ..ListApiKeysRequest::default()
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
        ..ListApiKeysRequest::default()
    };
    assert_eq!(
        fields(&admin.api_keys().list_api_keys(wrong).await.unwrap_err()),
        ["page_size"]
    );
    let wrong = ListApiKeysRequest {
        page_size: 3,
        page_token: "x".to_owned(),
        ..ListApiKeysRequest::default()
    };
    assert_eq!(
        fields(&admin.api_keys().list_api_keys(wrong).await.unwrap_err()),
        ["page_token"]
    );
}

/// The id in an API key.
fn id_of(api_key: &str) -> String {
    api_key.rsplit('_').next().unwrap()[..16].to_owned()
}

fn roll(id: &str, overlap: i64) -> RollApiKeyRequest {
    RollApiKeyRequest {
        id: id.to_owned(),
        overlap: seconds(overlap),
        ..RollApiKeyRequest::default()
    }
}

fn get(id: &str) -> GetApiKeyRequest {
    GetApiKeyRequest {
        id: id.to_owned(),
        with_descendants: false,
    }
}

fn revoke(id: &str) -> RevokeApiKeyRequest {
    RevokeApiKeyRequest {
        id: id.to_owned(),
        ..RevokeApiKeyRequest::default()
    }
}

#[tokio::test]
async fn a_successor_ends_when_its_predecessor_would_have() {
    let world = World::start().await;
    let admin = world.client("production", "admin").await;
    let request = CreateApiKeyRequest {
        ttl: seconds(60),
        ..create("other")
    };
    let made = made(&admin, request).await;
    let end = made.api_key.unwrap().expire_time;
    let mut holder = world.with_key(&made.secret);
    for _ in 0..3 {
        let id = id_of(&holder.api_key);
        let rolled = holder.api_keys().roll_api_key(roll(&id, 0)).await.unwrap();
        let rolled = rolled.into_inner();
        let successor = rolled.api_key.unwrap();
        assert_eq!(successor.expire_time, end);
        assert_eq!(successor.made_with_id, id);
        holder = world.with_key(&rolled.secret);
    }
    // After a roll by an administrator, it ends at the same time, too.
    let id = id_of(&holder.api_key);
    let rolled = admin.api_keys().roll_api_key(roll(&id, 0)).await.unwrap();
    assert_eq!(rolled.into_inner().api_key.unwrap().expire_time, end);
}

#[tokio::test]
async fn rolls_are_bounded() {
    let world = World::start().await;
    let mut app = world.client("production", "app").await;
    for _ in 0..tessera_authority::ROLLS_MAX {
        let rolled = app.api_keys().roll_api_key(roll(&id_of(&app.api_key), 0)).await;
        app = world.with_key(&rolled.unwrap().into_inner().secret);
    }
    let refused = app.api_keys().roll_api_key(roll(&id_of(&app.api_key), 0)).await;
    assert_eq!(reason(&refused.unwrap_err()), "ResourceExhausted / RATE_LIMITED");
    world.clock.advance(Seconds::HOUR);
    app.api_keys()
        .roll_api_key(roll(&id_of(&app.api_key), 0))
        .await
        .unwrap();
}

#[tokio::test]
async fn revoking_a_key_ends_its_successors_and_names_what_it_made() {
    let world = World::start().await;
    let admin = world.client("production", "admin").await;
    let thief = world.with_key(&made(&admin, create("admin")).await.secret);
    let rolled = thief
        .api_keys()
        .roll_api_key(roll(&id_of(&thief.api_key), 1000))
        .await;
    let second = world.with_key(&rolled.unwrap().into_inner().secret);
    let made = world.with_key(&made(&second, create("other")).await.secret);
    let session = second.issue_for("user:ann").await;
    let own = made.issue(IssueRequest::default()).await.unwrap();

    let preview = RevokeApiKeyRequest {
        validate_only: true,
        ..revoke(&id_of(&thief.api_key))
    };
    let preview = admin
        .api_keys()
        .revoke_api_key(preview)
        .await
        .unwrap()
        .into_inner();
    second.issue_for("user:ann").await;
    let revoked = admin
        .api_keys()
        .revoke_api_key(revoke(&id_of(&thief.api_key)))
        .await;
    let revoked = revoked.unwrap().into_inner();
    let ended = [id_of(&thief.api_key), id_of(&second.api_key)];
    for said in [&preview, &revoked] {
        assert_eq!(said.api_key_ids, ended);
        assert_eq!(said.made_key_ids, [id_of(&made.api_key)]);
    }
    assert_eq!((preview.matched, revoked.matched), (1, 2));
    for client in [&thief, &second] {
        let refused = client.issue(IssueRequest::default()).await.unwrap_err();
        assert_eq!(reason(&refused), "Unauthenticated / CLIENT_AUTH_FAILED");
    }
    let token = tessera_testkit::world::access_token(session.tokens.as_ref());
    assert!(!admin.introspect(&token).await.active);
    made.issue(IssueRequest::default()).await.unwrap();

    let all = RevokeApiKeyRequest {
        with_made_keys: true,
        ..revoke(&id_of(&thief.api_key))
    };
    let revoked = admin.api_keys().revoke_api_key(all).await.unwrap().into_inner();
    assert!(revoked.api_key_ids.contains(&id_of(&made.api_key)));
    let refused = made.issue(IssueRequest::default()).await.unwrap_err();
    assert_eq!(reason(&refused), "Unauthenticated / CLIENT_AUTH_FAILED");
    let token = tessera_testkit::world::access_token(own.tokens.as_ref());
    assert!(!admin.introspect(&token).await.active);
}

#[tokio::test]
async fn a_roll_that_races_a_revocation_leaves_no_key() {
    let world = World::with(Setup {
        server: Limits {
            refusals_per_second_per_address: per_second(1000).unwrap(),
            ..Limits::default()
        },
        ..Setup::default()
    })
    .await;
    let admin = world.client("production", "admin").await;
    for _ in 0..30 {
        let app = world.client("production", "app").await;
        let id = id_of(&app.api_key);
        let mut keys = (app.api_keys(), admin.api_keys());
        let (rolled, revoked) = tokio::join!(
            keys.0.roll_api_key(roll(&id, 1000)),
            keys.1.revoke_api_key(revoke(&id)),
        );
        revoked.unwrap();
        let secrets = rolled.into_iter().map(|rolled| rolled.into_inner().secret);
        for secret in secrets.chain([app.api_key]) {
            let refused = world.with_key(&secret).issue(IssueRequest::default()).await;
            assert_eq!(
                reason(&refused.unwrap_err()),
                "Unauthenticated / CLIENT_AUTH_FAILED"
            );
        }
    }
}

/// Makes keys with `maker`, and with those keys, until it is refused.
async fn make_until_refused(world: &World, maker: String) -> Vec<String> {
    let (mut made, mut next) = (Vec::new(), maker);
    loop {
        let keys = world.with_key(&next).api_keys();
        let Ok(child) = keys.clone().create_api_key(create("admin")).await else {
            return made;
        };
        next = child.into_inner().secret;
        made.push(next.clone());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_are_made_while_their_maker_is_revoked_end_with_it_or_are_named() {
    let world = World::with(Setup {
        server: Limits {
            refusals_per_second_per_address: per_second(10_000).unwrap(),
            ..Limits::default()
        },
        ..Setup::default()
    })
    .await;
    let admin = world.client("production", "admin").await;
    for round in 0..20 {
        let thief = made(&admin, create("admin")).await.secret;
        let request = RevokeApiKeyRequest {
            with_made_keys: round % 2 == 0,
            ..revoke(&id_of(&thief))
        };
        let mut keys = admin.api_keys();
        let revoking = async {
            // A few keys are made first.
            tokio::task::yield_now().await;
            keys.revoke_api_key(request).await.unwrap().into_inner()
        };
        let making = async {
            let mut made = Vec::new();
            // Made keys continue to work if only their maker is revoked.
            while made.len() < 8 {
                let keys = world.with_key(&thief).api_keys();
                match keys.clone().create_api_key(create("admin")).await {
                    Ok(child) => made.push(child.into_inner().secret),
                    Err(_) => break,
                }
                if round % 2 == 0 {
                    made.extend(make_until_refused(&world, made[made.len() - 1].clone()).await);
                }
            }
            made
        };
        let (revoked, made) = tokio::join!(revoking, making);
        for secret in made {
            let works = world
                .with_key(&secret)
                .issue(IssueRequest::default())
                .await
                .is_ok();
            let named = revoked.made_key_ids.contains(&id_of(&secret));
            assert_eq!(works, named, "{round}");
            assert!(!(works && round % 2 == 0), "{round}");
        }
    }
}

#[tokio::test]
async fn a_key_that_another_client_rolled_was_made_by_that_one() {
    let world = World::start().await;
    let admin = world.client("production", "admin").await;
    let thief = world.with_key(&made(&admin, create("admin")).await.secret);
    let app = world.client("production", "app").await;
    let rolled = thief
        .api_keys()
        .roll_api_key(roll(&id_of(&app.api_key), 1000))
        .await;
    let rolled = rolled.unwrap().into_inner();
    let made_with = rolled.api_key.unwrap().made_with_id;
    assert_eq!(made_with, id_of(&thief.api_key));
    // The client that rolled the key saw the new secret.
    let request = RevokeApiKeyRequest {
        with_made_keys: true,
        ..revoke(&id_of(&thief.api_key))
    };
    let revoked = admin
        .api_keys()
        .revoke_api_key(request)
        .await
        .unwrap()
        .into_inner();
    assert!(
        revoked.api_key_ids.contains(&id_of(&rolled.secret)),
        "{revoked:?}"
    );
    world
        .with_key(&rolled.secret)
        .issue(IssueRequest::default())
        .await
        .unwrap_err();
    app.issue(IssueRequest::default()).await.unwrap();
}

#[tokio::test]
async fn permissions_name_the_client_whose_keys_they_are_for() {
    let world = World::start().await;
    let admin = world.client("production", "admin").await;
    let (other, app) = (
        world.client("production", "other").await,
        world.client("production", "app").await,
    );
    world.policy.add(
        "p, client:other, *, tessera/api-keys, create, allow\n\
         p, client:other, *, tessera/api-keys/client:app, create, allow\n",
    );
    world
        .authority
        .policies()
        .reload(tessera_authority::Trigger::Signal)
        .await
        .unwrap();
    let mut keys = other.api_keys();
    for allowed in ["other", "app"] {
        keys.create_api_key(create(allowed)).await.unwrap();
    }
    let refused = keys.create_api_key(create("admin")).await.unwrap_err();
    assert_eq!(reason(&refused), "PermissionDenied / CALL_NOT_ALLOWED");
    assert!(
        refused.message().contains("tessera/api-keys/client:admin:create"),
        "{refused}"
    );
    // Rolling also ends the old key: it needs both permissions.
    let refused = keys
        .roll_api_key(roll(&id_of(&app.api_key), 0))
        .await
        .unwrap_err();
    assert!(
        refused.message().contains("tessera/api-keys/client:app:revoke"),
        "{refused}"
    );
    let refused = keys
        .revoke_api_key(revoke(&id_of(&app.api_key)))
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "PermissionDenied / CALL_NOT_ALLOWED");
    app.issue_for("user:ann").await;
    admin
        .api_keys()
        .roll_api_key(roll(&id_of(&app.api_key), 0))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_disabled_client_has_no_key_that_works() {
    let world = World::start().await;
    let admin = world.client("production", "admin").await;
    let (app, other) = (
        world.client("production", "app").await,
        world.client("production", "other").await,
    );
    let session = app.issue_for("user:ann").await;
    let disable = |validate_only| tessera_proto::v1::RevokeRequest {
        disable_client: true,
        validate_only,
        target: Some(Target::Client("client:app".to_owned())),
        ..tessera_proto::v1::RevokeRequest::default()
    };
    let refused = other.tokens().revoke(disable(false)).await.unwrap_err();
    assert_eq!(reason(&refused), "PermissionDenied / CALL_NOT_ALLOWED");
    let preview = admin.tokens().revoke(disable(true)).await.unwrap().into_inner();
    app.issue(IssueRequest::default()).await.unwrap();
    let revoked = admin.tokens().revoke(disable(false)).await.unwrap().into_inner();
    assert_eq!((preview.matched, revoked.matched), (1, 2));
    let made = world.with_key(&made(&admin, create("app")).await.secret);
    for client in [&app, &made] {
        let refused = client.issue(IssueRequest::default()).await.unwrap_err();
        assert_eq!(reason(&refused), "Unauthenticated / CLIENT_AUTH_FAILED");
    }
    let request = EnableClientRequest {
        name: "app".to_owned(),
    };
    let refused = other.api_keys().enable_client(request.clone()).await.unwrap_err();
    assert_eq!(reason(&refused), "PermissionDenied / CALL_NOT_ALLOWED");
    admin.api_keys().enable_client(request).await.unwrap();
    app.issue(IssueRequest::default()).await.unwrap();
    // What was revoked stays revoked.
    let token = tessera_testkit::world::access_token(session.tokens.as_ref());
    assert!(!admin.introspect(&token).await.active);
    let wrong = tessera_proto::v1::RevokeRequest {
        disable_client: true,
        target: Some(Target::Subject("user:ann".to_owned())),
        ..tessera_proto::v1::RevokeRequest::default()
    };
    let refused = admin.tokens().revoke(wrong).await.unwrap_err();
    assert_eq!(fields(&refused), ["disable_client"]);
}

#[tokio::test]
async fn a_key_that_is_dead_for_long_is_forgotten_unless_a_session_needs_it() {
    let world = World::with(Setup {
        limits: RealmLimits {
            session_ttl_max: Seconds::days(365),
            idle_ttl: Seconds::days(365),
            ..RealmLimits::default()
        },
        ..Setup::default()
    })
    .await;
    let admin = world.client("production", "admin").await;
    let request = CreateApiKeyRequest {
        ttl: seconds(60),
        ..create("other")
    };
    let mut ids = Vec::new();
    for uses in [false, true] {
        let made = made(&admin, request.clone()).await;
        if uses {
            let issued = world.with_key(&made.secret).issue(IssueRequest::default()).await;
            issued.unwrap();
        }
        ids.push(made.api_key.unwrap().id);
    }
    world.clock.advance(Seconds::days(31));
    world
        .authority
        .purging()
        .purge(world.clock.now(), Seconds::days(90))
        .await
        .unwrap();
    let gone = admin.api_keys().get_api_key(get(&ids[0])).await.unwrap_err();
    assert_eq!(reason(&gone), "NotFound / NOT_FOUND");
    admin.api_keys().get_api_key(get(&ids[1])).await.unwrap();
}

async fn with_ttls(default: Option<u32>, max: Option<u32>) -> World {
    World::with(Setup {
        limits: RealmLimits {
            api_key_ttl_default: default.map(Seconds),
            api_key_ttl_max: max.map(Seconds),
            ..RealmLimits::default()
        },
        ..Setup::default()
    })
    .await
}

fn life(key: &ApiKey) -> Option<i64> {
    let end = key.expire_time.as_ref()?;
    Some(end.seconds - key.create_time.as_ref().unwrap().seconds)
}

#[tokio::test]
async fn the_realm_says_how_long_keys_work() {
    for (default, max, expected) in [
        (None, None, None),
        (Some(600), None, Some(600)),
        (None, Some(900), Some(900)),
        (Some(600), Some(900), Some(600)),
    ] {
        let world = with_ttls(default, max).await;
        let admin = world.client("production", "admin").await;
        let own = admin.api_keys().get_api_key(get(&id_of(&admin.api_key))).await;
        let made = admin.api_keys().create_api_key(create("other")).await.unwrap();
        for key in [own.unwrap().into_inner().api_key, made.into_inner().api_key] {
            assert_eq!(life(&key.unwrap()), expected, "{default:?} {max:?}");
        }
    }
    let world = with_ttls(Some(600), Some(900)).await;
    let admin = world.client("production", "admin").await;
    let lasting = |ttl| CreateApiKeyRequest {
        ttl: seconds(ttl),
        ..create("other")
    };
    let made = admin.api_keys().create_api_key(lasting(900)).await.unwrap();
    assert_eq!(life(&made.into_inner().api_key.unwrap()), Some(900));
    let refused = admin.api_keys().create_api_key(lasting(901)).await.unwrap_err();
    assert_eq!(fields(&refused), ["ttl"]);
    assert!(
        refused.message().contains("at most 15m, the `api_key_ttl_max`"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_successor_works_longer_only_where_its_maker_may_create_keys() {
    let world = with_ttls(Some(600), Some(900)).await;
    let (admin, app) = (
        world.client("production", "admin").await,
        world.client("production", "app").await,
    );
    let lasting = |id: &str, ttl| RollApiKeyRequest {
        ttl: seconds(ttl),
        ..roll(id, 100)
    };
    let id = id_of(&app.api_key);
    let refused = app.api_keys().roll_api_key(lasting(&id, 601)).await.unwrap_err();
    assert_eq!(reason(&refused), "PermissionDenied / CALL_NOT_ALLOWED");
    assert!(
        refused.message().contains("tessera/api-keys/client:app:create"),
        "{refused}"
    );
    let refused = app.api_keys().roll_api_key(lasting(&id, 901)).await.unwrap_err();
    assert_eq!(fields(&refused), ["ttl"]);
    let shorter = app
        .api_keys()
        .roll_api_key(lasting(&id, 300))
        .await
        .unwrap()
        .into_inner();
    let shorter = shorter.api_key.unwrap();
    assert_eq!(life(&shorter), Some(300));
    world.clock.advance(Seconds(60));
    let longer = admin.api_keys().roll_api_key(lasting(&shorter.id, 900)).await;
    assert_eq!(life(&longer.unwrap().into_inner().api_key.unwrap()), Some(900));
}

#[tokio::test]
async fn a_key_says_what_it_came_of_and_what_came_of_it() {
    let world = World::start().await;
    let admin = world.client("production", "admin").await;
    let made = admin
        .api_keys()
        .create_api_key(create("admin"))
        .await
        .unwrap()
        .into_inner();
    let maker = world.with_key(&made.secret);
    let child = maker
        .api_keys()
        .create_api_key(create("shop"))
        .await
        .unwrap()
        .into_inner();
    let child = child.api_key.unwrap();
    let rolled = maker
        .api_keys()
        .roll_api_key(roll(&id_of(&maker.api_key), 100))
        .await;
    let rolled = rolled.unwrap().into_inner().api_key.unwrap();
    let replaced = admin.api_keys().roll_api_key(roll(&child.id, 100)).await;
    let replaced = replaced.unwrap().into_inner().api_key.unwrap();
    assert_eq!(
        (child.made_by.as_str(), child.replaces_id.as_str()),
        ("client:admin", "")
    );
    assert_eq!(replaced.replaces_id, child.id);
    assert_eq!(rolled.replaces_id, id_of(&maker.api_key));

    let request = GetApiKeyRequest {
        with_descendants: true,
        ..get(&id_of(&maker.api_key))
    };
    let got = admin.api_keys().get_api_key(request).await.unwrap().into_inner();
    let came: BTreeSet<_> = got.descendants.iter().map(|key| key.id.clone()).collect();
    assert_eq!(came, BTreeSet::from([child.id, rolled.id, replaced.id.clone()]));
    assert_eq!(
        got.descendants.last().map(|key| &key.id),
        Some(&replaced.id),
        "nearest first"
    );
    assert!(!got.has_more_descendants);
    let own = admin
        .api_keys()
        .get_api_key(get(&id_of(&admin.api_key)))
        .await
        .unwrap();
    let own = own.into_inner();
    assert!(own.descendants.is_empty() && own.api_key.unwrap().made_by.is_empty());
}

/// The day on which a key was last used, from the store.
async fn used_on(store: &Arc<dyn Store>, id: &str) -> Option<Timestamp> {
    let key = store.api_key(&ApiKeyId::parse(id).unwrap()).await.unwrap();
    key.unwrap().last_used_on
}

#[tokio::test]
async fn the_day_of_the_last_use_is_known_at_once_and_written_behind_the_calls() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let world = World::on(store.clone()).await;
    let (admin, app) = (
        world.client("production", "admin").await,
        world.client("production", "app").await,
    );
    let id = id_of(&app.api_key);
    let shown = async || {
        let got = admin.api_keys().get_api_key(get(&id)).await.unwrap();
        let used = got.into_inner().api_key.unwrap().last_use_time;
        used.map(|time| time.seconds)
    };
    assert_eq!(shown().await, None);
    let today = world.clock.now().floor_to_day();
    let refused = world.with_key(&app.api_key.replace("_production_", "_sandbox_"));
    refused.issue(IssueRequest::default()).await.unwrap_err();
    assert_eq!(shown().await, None, "a call that is refused uses nothing");
    app.issue(IssueRequest::default()).await.unwrap();
    assert_eq!(
        (shown().await, used_on(&store, &id).await),
        (Some(today.as_seconds()), None)
    );
    let listed = admin
        .api_keys()
        .list_api_keys(ListApiKeysRequest::default())
        .await
        .unwrap();
    let listed = listed.into_inner().api_keys.into_iter().find(|key| key.id == id);
    assert_eq!(listed.unwrap().last_use_time.unwrap().seconds, today.as_seconds());
    let write = || {
        world
            .authority
            .credentials()
            .write_used_api_keys(Priority::Foreground)
    };
    write().await.unwrap();
    assert_eq!(
        (shown().await, used_on(&store, &id).await),
        (Some(today.as_seconds()), Some(today))
    );
    // The next day, and only once per day: a revocation keeps the day.
    world.clock.advance(Seconds::DAY);
    let tomorrow = today.plus(Seconds::DAY);
    app.issue(IssueRequest::default()).await.unwrap();
    admin.api_keys().revoke_api_key(revoke(&id)).await.unwrap();
    write().await.unwrap();
    let key = store
        .api_key(&ApiKeyId::parse(&id).unwrap())
        .await
        .unwrap()
        .unwrap();
    assert!(key.revoked_at.is_some());
    assert_eq!(key.last_used_on, Some(tomorrow));
}

/// The clients of the keys that a request lists, page by page.
async fn listed(admin: &Client, request: &ListApiKeysRequest) -> (Vec<String>, usize) {
    let (mut clients, mut pages, mut page_token) = (Vec::new(), 0, String::new());
    loop {
        let request = ListApiKeysRequest {
            page_token,
            ..request.clone()
        };
        let page = admin
            .api_keys()
            .list_api_keys(request)
            .await
            .unwrap()
            .into_inner();
        pages += 1;
        clients.extend(page.api_keys.into_iter().map(|key| key.client));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            clients.sort();
            return (clients, pages);
        }
    }
}

#[tokio::test]
async fn keys_to_look_at_are_listed_in_full_pages() {
    let world = World::start().await;
    let admin = world.client("production", "admin").await;
    let mut secrets = Vec::new();
    for number in 0..10 {
        let days = if number % 2 == 0 { 101 } else { 365 };
        let request = CreateApiKeyRequest {
            ttl: seconds(days * 86_400),
            ..create(&format!("c{number}"))
        };
        let made = admin.api_keys().create_api_key(request).await.unwrap();
        secrets.push(made.into_inner().secret);
    }
    world.clock.advance(Seconds::days(95));
    let admin = world.client("production", "admin").await;
    for secret in &secrets[..6] {
        // It is authenticated, but has no scopes.
        let denied = world.with_key(secret).issue(IssueRequest::default()).await;
        assert_eq!(reason(&denied.unwrap_err()), "PermissionDenied / SCOPE_DENIED");
    }
    let asked = |unused_days: Option<i64>, days: Option<i64>| ListApiKeysRequest {
        page_size: 2,
        unused_for: unused_days.and_then(|days| seconds(days * 86_400)),
        ends_within: days.and_then(|days| seconds(days * 86_400)),
        ..ListApiKeysRequest::default()
    };
    // The administrator's first key is included: its last use is of the day on which it made the others.
    let stale = ["client:admin", "client:c6", "client:c7", "client:c8", "client:c9"];
    assert_eq!(
        listed(&admin, &asked(Some(90), None)).await,
        (stale.map(str::to_owned).to_vec(), 3)
    );
    let ending = ["client:c0", "client:c2", "client:c4", "client:c6", "client:c8"];
    assert_eq!(
        listed(&admin, &asked(None, Some(7))).await,
        (ending.map(str::to_owned).to_vec(), 3)
    );
    let both = ["client:c6", "client:c8"];
    assert_eq!(listed(&admin, &asked(Some(90), Some(7))).await.0, both);
    assert!(listed(&admin, &asked(None, Some(5))).await.0.is_empty());

    world
        .authority
        .credentials()
        .count_ending_api_keys()
        .await
        .unwrap();
    let counts = world.authority.credentials().ending_api_keys();
    let counted = |realm: &str| -> Vec<_> {
        let of = counts.iter().filter(|count| count.realm.as_str() == realm);
        of.map(|count| (count.within.to_string(), count.keys)).collect()
    };
    let within = |keys: [usize; 3]| {
        ["1d", "7d", "30d"]
            .map(str::to_owned)
            .into_iter()
            .zip(keys)
            .collect::<Vec<_>>()
    };
    assert_eq!(counted("production"), within([0, 5, 5]));
    assert_eq!(counted("sandbox"), within([0, 0, 0]));
}

#[tokio::test]
async fn a_dead_key_is_kept_while_a_key_that_came_of_it_is() {
    let world = World::start().await;
    let admin = world.client("production", "admin").await;
    let lasting = |name: &str, days: i64| CreateApiKeyRequest {
        ttl: seconds(days * 86_400),
        ..create(name)
    };
    let maker = admin
        .api_keys()
        .create_api_key(lasting("admin", 10))
        .await
        .unwrap()
        .into_inner();
    let maker = world.with_key(&maker.secret);
    let child = maker
        .api_keys()
        .create_api_key(lasting("shop", 60))
        .await
        .unwrap()
        .into_inner();
    let rolled = admin
        .api_keys()
        .create_api_key(lasting("other", 60))
        .await
        .unwrap()
        .into_inner();
    let rolled = rolled.api_key.unwrap().id;
    let successor = admin
        .api_keys()
        .roll_api_key(roll(&rolled, 0))
        .await
        .unwrap()
        .into_inner();
    let all = [
        id_of(&maker.api_key),
        child.api_key.unwrap().id,
        rolled,
        successor.api_key.unwrap().id,
    ];
    let left = async |days: u32| {
        world.clock.advance(Seconds::days(days));
        let (now, audit) = (world.clock.now(), Seconds::days(90));
        // The number of purges between two checks of API keys.
        for _ in 0..720 {
            world.authority.purging().purge(now, audit).await.unwrap();
        }
        let mut left = Vec::new();
        for id in &all {
            left.push(admin.api_keys().get_api_key(get(id)).await.is_ok());
        }
        left
    };
    // The maker and the rolled key have been dead for long; their successors work.
    assert_eq!(left(50).await, [true, true, true, true]);
    assert_eq!(left(45).await, [false, false, false, false]);
}
