//! The fence: once `AwaitPropagation` has answered, no required verifier accepts a revoked token.

use std::time::Duration;

use tessera_client::{Decision, Verifier, v1::revoke_request::Target};
use tessera_testkit::{Proxy, soon, until};
use tokio::time::Instant;

use crate::world::{World, access, viewer};

/// Long enough for a busy machine: no working verifier may seem to be silent.
const PATIENT: Duration = Duration::from_secs(30);
/// The bound of the verifier that freezes.
const SHORT: Duration = Duration::from_millis(300);

async fn required(world: &World, name: &str, bound: Duration, address: &str) -> Verifier {
    let options = world.options(bound, address).await;
    let verifier = Verifier::start(options.subscriber(name).unwrap().required(true)).unwrap();
    soon("ready", verifier.ready(Duration::MAX)).await.unwrap();
    verifier
}

fn allows(verifier: &Verifier, token: &str) -> bool {
    verifier.verify(token, None).claims().is_some()
}

/// No verifier accepts it, at any check.
fn assert_refused(verifiers: &[Verifier], token: &str) {
    let accepting: Vec<_> = verifiers.iter().filter(|v| allows(v, token)).collect();
    assert!(accepting.is_empty(), "{accepting:?}");
}

/// Nine working verifiers and one that freezes, around one revocation.
async fn round(aim: impl Fn(&tessera_client::v1::IssueResponse) -> Target) {
    let world = World::start().await;
    let proxy = Proxy::to(&world.address).await;
    let mut verifiers = Vec::new();
    for number in 1..10 {
        let name = format!("api-{number}");
        verifiers.push(required(&world, &name, PATIENT, &world.address).await);
    }
    verifiers.push(required(&world, "api-frozen", SHORT, proxy.address()).await);
    let issued = world
        .issue(tessera_client::v1::IssueRequest {
            labels: vec!["stream:1".to_owned()],
            ..viewer("user:ann")
        })
        .await;
    let token = access(&issued);
    for verifier in &verifiers {
        until("allowed", || allows(verifier, token)).await;
    }
    proxy.stall();
    let revoked = world.revoke(aim(&issued)).await;
    let fence = soon("the fence", world.admin.await_propagation(&revoked.cursor));
    let fence = fence.await.unwrap();
    let answered_at = Instant::now();
    assert_refused(&verifiers, token);
    assert_eq!((fence.acknowledged, fence.failed_closed), (9, 1));
    let frozen = verifiers.last().unwrap();
    assert!(matches!(frozen.verify(token, None), Decision::Stale { .. }));
    // Well past its bound, and after it returns.
    while answered_at.elapsed() < 3 * SHORT {
        assert_refused(&verifiers, token);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    proxy.resume();
    soon("it is back", async {
        while !matches!(frozen.verify(token, None), Decision::Deny(_)) {
            assert_refused(&verifiers, token);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_accepts_after_the_fence_whatever_was_revoked() {
    round(|issued| Target::Token(access(issued).to_owned())).await;
    round(|issued| Target::SessionId(issued.session_id.clone())).await;
    round(|_| Target::Subject("user:ann".to_owned())).await;
    round(|_| Target::Client("client:app".to_owned())).await;
    round(|_| Target::Label("stream:1".to_owned())).await;
    round(|_| Target::WholeRealm(true)).await;
}

/// A new process with the same name does not count for the old one, which still accepts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_verifier_of_a_live_ones_name_does_not_speak_for_it() {
    let world = World::start().await;
    let proxy = Proxy::to(&world.address).await;
    let bound = Duration::from_secs(2);
    let old = required(&world, "api-1", bound, proxy.address()).await;
    let new = required(&world, "api-1", PATIENT, &world.address).await;
    let issued = world.issue(viewer("user:ann")).await;
    let token = access(&issued);
    until("allowed", || allows(&old, token) && allows(&new, token)).await;
    proxy.stall();
    let revoked = world.revoke(Target::SessionId(issued.session_id.clone())).await;
    soon("the new one knows", new.applied(&revoked.cursor))
        .await
        .unwrap();
    assert!(allows(&old, token), "the old one can't know");
    let fence = soon("the fence", world.admin.await_propagation(&revoked.cursor));
    fence.await.unwrap();
    assert!(!allows(&old, token) && !allows(&new, token));
}

/// A verifier that was required before keeps accepting up to its bound, and the new process does not know it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_does_not_open_the_fence() {
    let mut world = World::start().await;
    let proxy = Proxy::to(&world.address).await;
    let verifier = required(&world, "api-1", Duration::from_secs(2), proxy.address()).await;
    let issued = world.issue(viewer("user:ann")).await;
    let token = access(&issued);
    until("allowed", || allows(&verifier, token)).await;
    proxy.stall();
    world.kit.restart().await;
    let revoked = world.revoke(Target::SessionId(issued.session_id.clone())).await;
    let fence = soon("the fence", world.admin.await_propagation(&revoked.cursor));
    fence.await.unwrap();
    assert!(!allows(&verifier, token));
}
