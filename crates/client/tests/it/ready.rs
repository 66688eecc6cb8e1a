//! The messages of a verifier that does not work.

use std::time::Duration;

use tessera_client::{Connection, NotReadyError, Verifier, VerifierOptions};
use tessera_testkit::{soon, until};

use crate::world::World;

async fn why_not(connection: Connection, audience: &str, timeout: Duration) -> NotReadyError {
    let options = VerifierOptions::new(connection, "production", audience).unwrap();
    let verifier = Verifier::start(options).unwrap();
    let refused = soon("an error", verifier.ready(timeout)).await.unwrap_err();
    assert!(!verifier.is_ready() && !verifier.is_fresh() && !verifier.status().is_fresh);
    refused
}

#[tokio::test]
async fn what_waiting_does_not_help_ends_it_at_once() {
    let world = World::start().await;
    let mut cases = vec![
        (
            world.connection("production", "other", &world.address).await,
            "api",
            "CALL_NOT_ALLOWED",
        ),
        (
            world.connection("production", "admin", &world.address).await,
            "apo",
            "did you mean `api`?",
        ),
        (
            world.connection("sandbox", "admin", &world.address).await,
            "api",
            "of the realm `sandbox`",
        ),
    ];
    let stranger = World::start().await;
    let theirs = stranger.connection("production", "admin", &world.address).await;
    cases.push((theirs, "api", "CLIENT_AUTH_FAILED"));
    for (connection, audience, expected) in cases {
        let error = why_not(connection, audience, Duration::MAX).await;
        assert!(error.is_permanent, "{error}");
        assert_eq!(error.address, world.address);
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn what_may_pass_is_told_at_the_timeout() {
    let world = World::start().await;
    let connection = world
        .connection("production", "admin", "http://127.0.0.1:1")
        .await;
    let error = why_not(connection, "api", Duration::from_millis(300)).await;
    assert!(!error.is_permanent, "{error}");
    assert!(error.to_string().contains("http://127.0.0.1:1: "), "{error}");
}

#[tokio::test]
async fn freshness_is_told_beside_readiness() {
    let world = World::start().await;
    let connection = world.kit.connection();
    let bound = Duration::from_millis(300);
    let options = VerifierOptions::new(connection, "production", "api").unwrap();
    let verifier = Verifier::start(options.staleness_bound(bound)).unwrap();
    soon("ready", verifier.ready(Duration::MAX)).await.unwrap();
    assert!(verifier.is_ready() && verifier.is_fresh());
    world.kit.stall();
    until("stale", || !verifier.is_fresh()).await;
    assert!(verifier.is_ready() && !verifier.status().is_fresh);
    world.kit.resume();
    until("fresh again", || verifier.is_fresh()).await;
}
