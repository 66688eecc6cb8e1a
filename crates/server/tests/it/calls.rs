//! Common behaviour of all calls: credentials, limits, health, reflection, stopping.

use std::time::Duration;

use tessera_proto::v1::{
    ApplyRequest, AwaitPropagationRequest, CheckRequest, CreateApiKeyRequest, CreateBackupRequest,
    EnableClientRequest, EvictSubscriberRequest, ExplainRequest, GetApiKeyRequest, GetSessionRequest,
    GetStatusRequest, IntrospectManyRequest, IntrospectRequest, IssueRequest, ListApiKeysRequest,
    ListAuditRecordsRequest, ListKeysRequest, ListSessionsRequest, ListSigningKeysRequest,
    ListSubscribersRequest, PlanRequest, RefreshRequest, ReloadRequest, RevokeApiKeyRequest, RevokeRequest,
    RevokeSessionRequest, RollApiKeyRequest, RotateSigningKeyRequest, TailAuditRecordsRequest,
    VerifyAuditRequest, WatchRequest,
};
use tessera_server::{ClientLimits, Limits, RateLimits, SandboxLimits};
use tessera_testkit::{
    soon,
    world::{Client, Setup, World, per_second, reason},
};
use tonic::Status;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// Calls every RPC that needs a credential, with an empty message.
async fn call_everything(client: &Client) -> Vec<(&'static str, Result<(), Status>)> {
    let mut audits = client.audits();
    let (mut tokens, mut sessions, mut keys, mut policies, mut revocations, mut signing_keys, mut backups) = (
        client.tokens(),
        client.sessions(),
        client.api_keys(),
        client.policies(),
        client.revocations(),
        client.signing_keys(),
        client.backups(),
    );
    macro_rules! results {
        ($($client:ident . $method:ident ( $message:expr )),* $(,)?) => {
            vec![$((stringify!($method), $client.$method($message).await.map(drop))),*]
        };
    }
    results![
        tokens.issue(IssueRequest::default()),
        tokens.refresh(RefreshRequest::default()),
        tokens.introspect(IntrospectRequest::default()),
        tokens.introspect_many(IntrospectManyRequest::default()),
        tokens.revoke(RevokeRequest::default()),
        sessions.get_session(GetSessionRequest::default()),
        sessions.list_sessions(ListSessionsRequest::default()),
        sessions.revoke_session(RevokeSessionRequest::default()),
        keys.create_api_key(CreateApiKeyRequest::default()),
        keys.get_api_key(GetApiKeyRequest::default()),
        keys.list_api_keys(ListApiKeysRequest::default()),
        keys.roll_api_key(RollApiKeyRequest::default()),
        keys.revoke_api_key(RevokeApiKeyRequest::default()),
        keys.enable_client(EnableClientRequest::default()),
        policies.check(CheckRequest::default()),
        policies.explain(ExplainRequest::default()),
        policies.plan(PlanRequest::default()),
        policies.apply(ApplyRequest::default()),
        policies.reload(ReloadRequest::default()),
        policies.get_status(GetStatusRequest::default()),
        revocations.watch(tokio_stream::iter([WatchRequest::default()])),
        revocations.await_propagation(AwaitPropagationRequest::default()),
        revocations.list_subscribers(ListSubscribersRequest::default()),
        revocations.evict_subscriber(EvictSubscriberRequest::default()),
        signing_keys.list_signing_keys(ListSigningKeysRequest::default()),
        signing_keys.rotate_signing_key(RotateSigningKeyRequest::default()),
        audits.list_audit_records(ListAuditRecordsRequest::default()),
        audits.tail_audit_records(TailAuditRecordsRequest::default()),
        audits.verify_audit(VerifyAuditRequest::default()),
        backups.create_backup(CreateBackupRequest::default()),
    ]
}

/// The RPCs of the contract, from its descriptors: one that is added must be added here too.
fn rpcs_of_the_contract() -> Vec<String> {
    let set: prost_types::FileDescriptorSet =
        prost::Message::decode(tessera_proto::FILE_DESCRIPTOR_SET).unwrap();
    let files = set.file.into_iter().filter(|file| file.package() == "tessera.v1");
    let methods = files
        .flat_map(|file| file.service)
        .flat_map(|service| service.method);
    methods.map(|method| method.name().to_owned()).collect()
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

#[tokio::test]
async fn checklist_33_every_rpc_authenticates_and_refuses_in_one_voice() {
    let server = Limits {
        refusals_per_second_per_address: per_second(1000).unwrap(),
        ..Limits::default()
    };
    let world = bounded(server).await;
    let good = world.client("production", "admin").await.api_key;
    let mut typo = good.clone();
    typo.pop();
    let other_world = World::start().await;
    let stranger = other_world.client("production", "admin").await.api_key;
    let mut messages = std::collections::BTreeSet::new();
    for key in ["", "x", &typo, &stranger, &good.replace("production", "sandbox")] {
        for (rpc, result) in call_everything(&world.with_key(key)).await {
            let refused = result.expect_err(rpc);
            assert_eq!(
                reason(&refused),
                "Unauthenticated / CLIENT_AUTH_FAILED",
                "{rpc} with {key:?}"
            );
            if key.is_empty() {
                assert!(
                    refused.message().starts_with("no API key"),
                    "{}",
                    refused.message()
                );
            } else {
                messages.insert(refused.message().to_owned());
            }
        }
    }
    assert_eq!(messages.len(), 1, "{messages:?}");
    let mut called: Vec<_> = call_everything(&world.with_key(""))
        .await
        .into_iter()
        .map(|(rpc, _)| rpc)
        .collect();
    // The one that needs no credential.
    called.push("list_keys");
    world.keys().list_keys(ListKeysRequest::default()).await.unwrap();
    called.sort_unstable();
    let mut contract: Vec<_> = rpcs_of_the_contract()
        .iter()
        .map(|name| snake_case(name))
        .collect();
    contract.sort_unstable();
    assert_eq!(called, contract);
}

#[tokio::test]
async fn an_empty_message_never_gets_further_than_its_fields() {
    let world = World::start().await;
    let admin = world.client("production", "admin").await;
    for (rpc, result) in call_everything(&admin).await {
        match rpc {
            "introspect" | "list_api_keys" | "list_signing_keys" | "list_subscribers" | "watch" | "plan"
            | "list_audit_records" | "tail_audit_records" | "verify_audit" | "reload" | "get_status"
            | "create_backup" => {
                assert!(result.is_ok(), "{rpc}");
            }
            "issue" => assert_eq!(reason(&result.unwrap_err()), "InvalidArgument / FIELD_INVALID"),
            "await_propagation" => {
                assert_eq!(reason(&result.unwrap_err()), "InvalidArgument / CURSOR_INVALID");
            }
            _ => assert_eq!(
                reason(&result.expect_err(rpc)),
                "InvalidArgument / FIELD_INVALID",
                "{rpc}"
            ),
        }
    }
}

#[tokio::test]
async fn checklist_27_guessing_is_told_to_wait_and_the_rest_is_served() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    app.issue_for("user:ann").await;
    let stranger = world.with_key("tsk_production_guess");
    let mut told = String::new();
    for _ in 0..200 {
        told = reason(&stranger.issue(IssueRequest::default()).await.unwrap_err());
        if told != "Unauthenticated / CLIENT_AUTH_FAILED" {
            break;
        }
    }
    assert_eq!(told, "ResourceExhausted / RATE_LIMITED");
    app.issue_for("user:ann").await;
}

#[tokio::test]
async fn a_method_that_does_not_exist_is_told_so() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    for path in ["/tessera.v1.TokenService/NoSuch", "/no.Such/Method"] {
        let mut calls = tonic::client::Grpc::new(app.intercepted());
        calls.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static(path);
        let codec = tonic_prost::ProstCodec::<IssueRequest, IssueRequest>::default();
        let called = calls.unary(tonic::Request::new(IssueRequest::default()), path, codec);
        let refused = called.await.unwrap_err();
        assert_eq!(
            (refused.code(), refused.message()),
            (tonic::Code::Unimplemented, "no such method")
        );
    }
}

/// A world whose server has these bounds.
async fn bounded(server: Limits) -> World {
    World::with(Setup {
        server,
        ..Setup::default()
    })
    .await
}

#[tokio::test]
async fn a_client_that_calls_too_often_is_told_when_to_come_back() {
    let server = Limits {
        per_client: ClientLimits {
            rates: RateLimits {
                calls_per_second: per_second(2),
                ..RateLimits::default()
            },
            ..ClientLimits::default()
        },
        ..Limits::default()
    };
    let world = bounded(server).await;
    let (app, other) = (
        world.client("production", "app").await,
        world.client("production", "other").await,
    );
    let mut refused = None;
    for _ in 0..50 {
        if let Err(status) = app.issue(IssueRequest::default()).await {
            refused = Some(status);
            break;
        }
    }
    let refused = refused.unwrap();
    assert_eq!(reason(&refused), "ResourceExhausted / RATE_LIMITED");
    assert!(
        tonic_types::StatusExt::get_details_retry_info(&refused)
            .unwrap()
            .retry_delay
            .is_some()
    );
    other.issue(IssueRequest::default()).await.unwrap();
}

#[tokio::test]
async fn many_clients_of_a_sandbox_get_no_more_than_one() {
    let server = Limits {
        per_sandbox: SandboxLimits {
            rates: RateLimits {
                calls_per_second: per_second(2),
                ..RateLimits::default()
            },
            ..SandboxLimits::default()
        },
        ..Limits::default()
    };
    let world = bounded(server).await;
    let production = world.client("production", "app").await;
    let token = || IntrospectRequest {
        token: "v4.public.none".to_owned(),
        ..IntrospectRequest::default()
    };
    let mut refused = None;
    for client in 0..50 {
        let client = world.client("sandbox", &format!("app-{client}")).await;
        if let Err(status) = client.tokens().introspect(token()).await {
            refused = Some(status);
            break;
        }
    }
    let refused = refused.unwrap();
    assert_eq!(reason(&refused), "ResourceExhausted / RATE_LIMITED");
    assert!(
        refused.message().contains("calls_per_second_per_sandbox"),
        "{refused}"
    );
    for _ in 0..10 {
        production.issue_for("user:ann").await;
    }
}

#[tokio::test]
async fn a_full_server_says_so_at_once() {
    let server = Limits {
        calls_in_flight_max: 0,
        calls_reserved: 0,
        ..Limits::default()
    };
    let world = bounded(server).await;
    let app = world.client("production", "app").await;
    let refused = app.issue(IssueRequest::default()).await.unwrap_err();
    assert_eq!(reason(&refused), "Unavailable / OVERLOADED");
    assert!(tonic_types::StatusExt::get_details_retry_info(&refused).is_some());
}

#[tokio::test]
async fn a_stopped_server_has_stopped() {
    let mut world = World::start().await;
    let app = world.client("production", "app").await;
    app.issue_for("user:ann").await;
    world.stop();
    soon("the server stops", &mut world.serving)
        .await
        .unwrap()
        .unwrap();
    assert!(app.issue(IssueRequest::default()).await.is_err());
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused_without_being_read() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let huge = IssueRequest {
        subject: "x".repeat(4 * 1024 * 1024),
        ..IssueRequest::default()
    };
    let refused = app.tokens().issue(huge).await.unwrap_err();
    assert_eq!(reason(&refused), "InvalidArgument / REQUEST_TOO_LARGE");
    soon("another call", async { app.issue_for("user:ann").await }).await;
    tokio::time::timeout(Duration::from_secs(5), app.issue_for("user:ann"))
        .await
        .unwrap();
}

/// As in `grpc.health.v1`: a watch of an unknown service stays open, so that its client does not call again at once.
#[tokio::test]
async fn a_watch_of_an_unknown_service_says_so_and_stays_open() {
    let mut world = World::start().await;
    let mut health = HealthClient::new(world.channel());
    let ask = |service: &str| HealthCheckRequest {
        service: service.to_owned(),
    };
    let unknown = health.check(ask("no.Such")).await.unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::NotFound);
    let mut watch = health.watch(ask("no.Such")).await.unwrap().into_inner();
    let mut known = health
        .watch(ask("tessera.v1.TokenService"))
        .await
        .unwrap()
        .into_inner();
    let first = soon("a status", watch.message()).await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::ServiceUnknown);
    let first = soon("a status", known.message()).await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::Serving);
    // The next status of the known service shows that the other stream had no message meanwhile.
    world.stop();
    let next = soon("a status", known.message()).await.unwrap().unwrap();
    assert_eq!(next.status(), ServingStatus::NotServing);
    assert!(
        tokio::time::timeout(std::time::Duration::ZERO, watch.message())
            .await
            .is_err()
    );
}
