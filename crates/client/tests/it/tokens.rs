//! The source of tokens.

use std::time::Duration;

use tessera_client::{
    Client, ClientOptions, Connection, TokenError, TokenRequest, TokenSource, v1::revoke_request::Target,
};
use tessera_testkit::{soon, until};
use tonic::Code;

use crate::{
    fake::{Gate, gate},
    world::World,
};

fn request(ttl: Option<u64>) -> TokenRequest {
    TokenRequest {
        subject: "user:ann".to_owned(),
        roles: vec!["role:viewer".to_owned()],
        audience: "api".to_owned(),
        access_ttl: ttl.map(Duration::from_secs),
        ..TokenRequest::default()
    }
}

async fn source(world: &World, ttl: Option<u64>) -> (Gate, TokenSource) {
    let (gate, address) = gate(world).await;
    let options = ClientOptions {
        deadline: Duration::from_millis(500),
        backoff: Duration::from_millis(5),
        backoff_max: Duration::from_millis(20),
    };
    let client = world.client("app", &address, options).await;
    (gate, TokenSource::new(client, request(ttl)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_callers_make_one_call() {
    let world = World::start().await;
    let (gate, source) = source(&world, None).await;
    gate.hold(true);
    let callers: Vec<_> = (0..10_000)
        .map(|_| {
            let source = source.clone();
            tokio::spawn(async move { source.token().await.unwrap().expose().to_owned() })
        })
        .collect();
    until("the call", || gate.answered() == 1).await;
    gate.hold(false);
    let mut tokens = std::collections::BTreeSet::new();
    for caller in callers {
        tokens.insert(soon("a token", caller).await.unwrap());
    }
    assert_eq!((tokens.len(), gate.issues(), gate.refreshes()), (1, 1, 0));
    let token = source.token().await.unwrap();
    assert!(token.remaining() > Duration::from_secs(3590) && !token.scopes().is_empty());
    assert!(!format!("{token:?} {source:?}").contains(token.expose()));
}

#[tokio::test]
async fn renewing_serves_the_old_token_and_then_the_new() {
    let world = World::start().await;
    let (gate, source) = source(&world, Some(3)).await;
    let old = source.token().await.unwrap();
    let began = std::time::Instant::now();
    gate.hold(true);
    until("renewing", || gate.answered() == 2).await;
    let renewed_after = began.elapsed();
    assert!(
        (1_750..2_400).contains(&renewed_after.as_millis()),
        "at two thirds of 3 s, give or take a tenth: {renewed_after:?}"
    );
    for _ in 0..100 {
        assert_eq!(source.token().await.unwrap().expose(), old.expose());
    }
    gate.hold(false);
    soon("the new one", async {
        while source.token().await.unwrap().expose() == old.expose() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!((gate.issues(), gate.refreshes()), (1, 1));
    // The renewal ends with the last handle.
    drop(source);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(gate.refreshes(), 1);
}

#[tokio::test]
async fn a_session_that_is_gone_is_replaced() {
    let world = World::start().await;
    let (gate, source) = source(&world, Some(1)).await;
    let old = source.token().await.unwrap();
    world.revoke(Target::Subject("user:ann".to_owned())).await;
    until("issued again", || gate.issues() == 2 && gate.refreshes() == 1).await;
    soon("the new one", async {
        while source.token().await.unwrap().expose() == old.expose() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_error_that_passes_leaves_the_old_token_in_use() {
    let world = World::start().await;
    let (gate, source) = source(&world, Some(3)).await;
    let old = source.token().await.unwrap();
    gate.fail(&[Code::Unavailable; 1000]);
    until("renewing fails", || gate.refreshes() > 5).await;
    // A call gives up after half a second; the old token lives longer than that.
    while old.remaining() > Duration::from_millis(50) {
        assert_eq!(source.token().await.unwrap().expose(), old.expose());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // After its lifetime there is none, and waiting helps.
    let error = soon("an error", async {
        loop {
            if let Err(error) = source.token().await {
                return error;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    assert!(matches!(error.await, TokenError::Passing(_)));
    gate.repair();
    soon("it passes", async {
        while source.token().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(gate.issues(), 1, "the session went on");
}

#[tokio::test]
async fn an_error_that_stays_is_told_to_all_without_a_call_each() {
    let world = World::start().await;
    let (gate, address) = gate(&world).await;
    let client = world.client("none", &address, ClientOptions::default()).await;
    let source = TokenSource::new(
        client,
        TokenRequest {
            audience: "api".to_owned(),
            ..TokenRequest::default()
        },
    );
    for _ in 0..10 {
        let error = source.token().await.unwrap_err();
        assert!(
            matches!(&error, TokenError::Permanent(call) if call.code() == Code::PermissionDenied),
            "{error}"
        );
    }
    assert_eq!(gate.issues(), 1);
    // An API key that is not accepted is permanent too.
    let key = tessera_token::ApiKeySecret::generate(tessera_core::RealmKind::Production).unwrap();
    let client = Client::new(&Connection::new(address, key)).unwrap();
    let source = TokenSource::new(client, request(None));
    assert!(
        matches!(source.token().await, Err(TokenError::Permanent(call)) if call.code() == Code::Unauthenticated)
    );
}

/// If policy removes a scope from a live session, the source ends, whatever token it still had.
#[tokio::test]
async fn what_policy_takes_is_permanent() {
    let world = World::start().await;
    let (gate, source) = source(&world, Some(1)).await;
    source.token().await.unwrap();
    world
        .take_rules("p, client:app, *, tessera/subjects/*, issue")
        .await;
    world.revoke(Target::Subject("user:ann".to_owned())).await;
    soon("told", async {
        while !matches!(source.token().await, Err(TokenError::Permanent(_))) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!((gate.issues(), gate.refreshes()), (2, 1));
}
