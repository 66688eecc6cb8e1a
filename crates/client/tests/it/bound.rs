//! The bound holds: a token that was revoked longer ago than the verifier may be behind is never allowed.

use std::time::Duration;

use tessera_client::{Decision, Mode, Verifier};
use tessera_testkit::soon;

use crate::storm::{BOUND, Outcome, Storm};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_weather_makes_a_verifier_overrate_itself() {
    let outcome = storms(2, 150, Mode::FailClosed).await;
    outcome.assert_honest();
    // The check was meaningful: all kinds of answers occurred, and revoked tokens were checked within the bound too.
    let seen = &outcome.seen;
    assert!(
        seen.allowed > 100 && seen.denied > 100 && seen.stale > 100,
        "{seen:?}"
    );
    assert!(seen.allowed_revoked > 0 && seen.restarts > 0, "{seen:?}");
    assert!(seen.moves > 0, "{seen:?}");
}

/// The long form; a minute or so:
///
/// ```console
/// $ cargo test -p tessera-client --test it -- --ignored --nocapture bound::ten_thousand_rounds
/// ```
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute"]
async fn ten_thousand_rounds() {
    let outcome = storms(8, 1250, Mode::FailClosed).await;
    outcome.assert_honest();
    let seen = &outcome.seen;
    assert!(seen.allowed_revoked > 1000, "{seen:?}");
    assert!(seen.allowed_ahead > 1000 && seen.allowed_behind > 0, "{seen:?}");
}

/// A check that can't fail proves nothing. This verifier keeps answering beyond its bound.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_storm_finds_a_verifier_without_a_bound() {
    let mode = Mode::FailOpen {
        max: Duration::from_secs(3600),
    };
    let outcome = storms(2, 40, mode).await;
    assert!(
        outcome.violations.iter().any(|v| v.contains("the bound is")),
        "{outcome:?}"
    );
}

/// This many storms at once, each around its own authority; every second one has two addresses.
async fn storms(lanes: u64, rounds: usize, mode: Mode) -> Outcome {
    let running: Vec<_> = (1..=lanes)
        .map(|lane| {
            // The control needs a verifier without another address.
            let addresses = if mode == Mode::FailClosed { 2 - lane % 2 } else { 1 };
            tokio::spawn(async move { Storm::gather(lane, addresses, mode).await.rage(rounds).await })
        })
        .collect();
    let mut outcome = Outcome::default();
    for lane in running {
        outcome.add(lane.await.unwrap());
    }
    println!("{outcome:?}");
    outcome
}

/// Waits until the verifier's answer for a token is correct, once the storm is over.
pub(crate) async fn settled(verifier: &Verifier, token: &str, is_revoked: bool) {
    soon("the truth", async {
        loop {
            match (verifier.verify(token, None), is_revoked) {
                (Decision::Allow(_), false) | (Decision::Deny(_), true) => break,
                _ => tokio::time::sleep(BOUND / 20).await,
            }
        }
    })
    .await;
}
