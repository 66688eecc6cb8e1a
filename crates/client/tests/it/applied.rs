//! Reading one's own revocations.

use std::time::Duration;

use tessera_client::{AppliedError, Decision, DenyReason, Verifier, v1::revoke_request::Target};
use tessera_testkit::{Proxy, soon};

use crate::world::{World, access, viewer};

fn is_revoked(verifier: &Verifier, token: &str) -> bool {
    matches!(verifier.verify(token, None), Decision::Deny(DenyReason::Revoked))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_revoked_is_refused_once_it_is_applied() {
    let world = World::start().await;
    let verifier = world.verifier().await;
    for _ in 0..50 {
        let issued = world.issue(viewer("user:ann")).await;
        let revoked = world.revoke(Target::SessionId(issued.session_id.clone())).await;
        soon("applied", verifier.applied(&revoked.cursor)).await.unwrap();
        assert!(is_revoked(&verifier, access(&issued)));
    }
}

/// It must not be ready too early: neither while nothing arrives, nor during a snapshot.
#[tokio::test]
async fn it_waits_for_as_long_as_nothing_comes() {
    let world = World::start().await;
    let proxy = Proxy::to(&world.address).await;
    proxy.stall();
    let options = world.options(Duration::from_secs(10), proxy.address()).await;
    let verifier = Verifier::start(options).unwrap();
    let issued = world.issue(viewer("user:ann")).await;
    let revoked = world.revoke(Target::SessionId(issued.session_id.clone())).await;
    let applied = async || verifier.applied(&revoked.cursor).await;
    let early = tokio::time::timeout(Duration::from_millis(50), applied()).await;
    assert!(early.is_err(), "{early:?}");
    proxy.resume();
    soon("by the snapshot", applied()).await.unwrap();
    assert!(is_revoked(&verifier, access(&issued)));
    // The same on an established stream.
    soon("ready", verifier.ready(Duration::MAX)).await.unwrap();
    let issued = world.issue(viewer("user:ann")).await;
    assert!(verifier.verify(access(&issued), None).claims().is_some());
    proxy.stall();
    let revoked = world.revoke(Target::SessionId(issued.session_id.clone())).await;
    let early = tokio::time::timeout(Duration::from_millis(50), verifier.applied(&revoked.cursor)).await;
    assert!(early.is_err(), "{early:?}");
    proxy.resume();
    soon("by the stream", verifier.applied(&revoked.cursor))
        .await
        .unwrap();
    assert!(is_revoked(&verifier, access(&issued)));
}

/// A verifier accepts a token for a little longer than its lifetime, but not after its revocation.
#[tokio::test]
async fn what_was_revoked_within_its_leeway_is_refused() {
    let world = World::start().await;
    let verifier = world.verifier().await;
    let issued = world.issue(viewer("user:ann")).await;
    world.clock.advance(Duration::from_secs(3600 + 29));
    assert!(verifier.verify(access(&issued), None).claims().is_some());
    let revoked = world.revoke(Target::Token(access(&issued).to_owned())).await;
    assert_eq!(revoked.matched, 1);
    soon("applied", verifier.applied(&revoked.cursor)).await.unwrap();
    assert!(is_revoked(&verifier, access(&issued)));
}

/// The filter hides an event of another audience, but the verifier waits for it too.
#[tokio::test]
async fn what_does_not_concern_it_is_applied_too() {
    let world = World::start().await;
    let verifier = world.verifier().await;
    let player = tessera_client::v1::IssueRequest {
        audience: "player".to_owned(),
        ..viewer("user:ann")
    };
    let issued = world.issue(player).await;
    let revoked = world.revoke(Target::SessionId(issued.session_id.clone())).await;
    soon("applied", verifier.applied(&revoked.cursor)).await.unwrap();
    assert_eq!(verifier.status().entries, 0);
}

#[tokio::test]
async fn what_can_never_be_applied_is_an_error() {
    let (world, other) = (World::start().await, World::start().await);
    let verifier = world.verifier().await;
    let applied = async |cursor: &str| soon("an answer", verifier.applied(cursor)).await;
    assert_eq!(applied("").await, Err(AppliedError::NotACursor));
    assert_eq!(applied("tsr_x").await, Err(AppliedError::NotACursor));
    let elsewhere = other.revoke(Target::Subject("user:ann".to_owned())).await;
    assert_eq!(applied(&elsewhere.cursor).await, Err(AppliedError::OtherLog));
}
