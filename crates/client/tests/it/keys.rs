//! Keys that a verifier does not know yet.

use std::time::Duration;

use tessera_client::{
    Decision, DenyReason, Mode, Verifier,
    v1::{IssueResponse, revoke_request::Target},
};
use tessera_testkit::{Proxy, soon, until};

use crate::world::{World, access, viewer};

const BOUND: Duration = Duration::from_millis(300);

fn is_stale(verifier: &Verifier, token: &str) -> bool {
    matches!(verifier.verify(token, None), Decision::Stale { .. })
}

/// A session under a new signing key.
async fn issue_under_a_new_key(world: &World) -> IssueResponse {
    let old = world.kit.authority().signing_keys().published_keys(None)[0]
        .id
        .to_string();
    world.revoke(Target::KeyId(old)).await;
    world.issue(viewer("user:ann")).await
}

/// The bearer of a valid token is not told to sign in again because of it.
#[tokio::test]
async fn a_stale_verifier_does_not_say_that_a_key_is_unknown() {
    let world = World::start().await;
    let proxy = Proxy::to(&world.address).await;
    let verifier = Verifier::start(world.options(BOUND, proxy.address()).await).unwrap();
    soon("ready", verifier.ready(Duration::MAX)).await.unwrap();
    let old = world.issue(viewer("user:ann")).await;
    proxy.stall();
    until("stale", || is_stale(&verifier, access(&old))).await;
    let new = issue_under_a_new_key(&world).await;
    let Decision::Stale { bound, behind } = verifier.verify(access(&new), None) else {
        panic!("{:?}", verifier.verify(access(&new), None))
    };
    assert!(bound == BOUND && behind.unwrap() > BOUND, "{behind:?}");
    // At the staleness that is allowed here, the key is unknown.
    let max = Duration::from_secs(3600);
    let open = verifier
        .verify_with(access(&new), None, Mode::FailOpen { max })
        .await;
    assert!(matches!(open, Decision::Deny(DenyReason::UnknownKey)), "{open:?}");
    proxy.resume();
    until("the new key", || {
        verifier.verify(access(&new), None).claims().is_some()
    })
    .await;
}

/// Its stream has ended, and calls work.
#[tokio::test]
async fn a_stale_route_asks_about_a_token_of_a_new_key() {
    let world = World::start().await;
    let verifier = Verifier::start(world.options(BOUND, &world.address).await).unwrap();
    soon("ready", verifier.ready(Duration::MAX)).await.unwrap();
    let old = world.issue(viewer("user:ann")).await;
    world
        .take_rules("p, client:admin, *, tessera/revocations, watch")
        .await;
    until("stale", || is_stale(&verifier, access(&old))).await;
    let new = issue_under_a_new_key(&world).await;
    let asked = verifier.verify_with(access(&new), None, Mode::Introspect).await;
    assert!(asked.claims().is_some(), "{asked:?}");
}
