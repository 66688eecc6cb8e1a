//! Signing keys are replaced, and no verifier refuses a valid token because of it.

use std::time::Duration;

use tessera_client::{Decision, Mode, Verifier};
use tessera_testkit::{soon, until};

use crate::world::{World, access, viewer};

const ROTATIONS: usize = 20;

async fn required(world: &World, name: &str) -> Verifier {
    let options = world.options(Duration::from_secs(10), &world.address).await;
    let options = options.subscriber(name).unwrap().required(true);
    let verifier = Verifier::start(options).unwrap();
    soon("ready", verifier.ready(Duration::MAX)).await.unwrap();
    verifier
}

/// A token that is issued at the moment that a new key signs is verified by all at once, and so is an earlier one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_good_token_is_refused_over_twenty_rotations() {
    let world = World::start().await;
    let verifiers = [
        required(&world, "api-1").await,
        required(&world, "api-2").await,
        world.verifier().await,
    ];
    let mut before = world.issue(viewer("user:ann")).await;
    for rotation in 0..ROTATIONS {
        world.kit.rotate_signing_key().await;
        let after = world.issue(viewer("user:ann")).await;
        for verifier in &verifiers[..2] {
            for issued in [&before, &after] {
                // As services call it: a token may have a position of the log that is a moment ahead.
                let decision = verifier.verify_with(access(issued), None, Mode::FailClosed).await;
                assert!(matches!(decision, Decision::Allow(_)), "{rotation}: {decision:?}");
            }
        }
        until("nobody waits for those that are not required", || {
            matches!(verifiers[2].verify(access(&after), None), Decision::Allow(_))
        })
        .await;
        before = after;
    }
}
