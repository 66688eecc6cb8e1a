//! The bound is honest: no token that was revoked longer ago than a verifier may be behind is allowed.

use std::time::Duration;

use tessera_client::{Decision, Verifier, v1::revoke_request::Target};
use tessera_testkit::{Proxy, soon};
use tokio::time::Instant;

use crate::world::{World, access, viewer};

const BOUND: Duration = Duration::from_millis(120);
const ROUNDS: usize = 300;

/// Random numbers that are the same at each run (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % sides
    }
}

/// What was looked at.
#[derive(Debug, Default)]
struct Seen {
    allowed: usize,
    allowed_revoked: usize,
    denied: usize,
    stale: usize,
}

/// Every live answer for a revoked token must be younger than what the verifier said of itself before.
fn look(verifier: &Verifier, token: &str, revoked_at: Option<Instant>, seen: &mut Seen) {
    let (asked_at, behind) = (Instant::now(), verifier.status().behind);
    match verifier.verify(token, None) {
        Decision::Allow(_) => {
            seen.allowed += 1;
            let Some(revoked_at) = revoked_at else { return };
            seen.allowed_revoked += 1;
            let age = asked_at.saturating_duration_since(revoked_at);
            let behind = behind.expect("ready");
            assert!(
                age <= BOUND,
                "allowed {age:?} after it was revoked; the bound is {BOUND:?}"
            );
            assert!(
                age <= behind,
                "allowed {age:?} after it was revoked, and said {behind:?} before"
            );
        }
        Decision::Deny(_) => {
            assert!(revoked_at.is_some(), "a good token is refused");
            seen.denied += 1;
        }
        Decision::Stale { behind, .. } => {
            assert!(behind.is_none_or(|behind| behind > BOUND));
            seen.stale += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_weather_makes_a_verifier_overrate_itself() {
    let world = World::start().await;
    let proxy = Proxy::to(&world.address).await;
    let verifier = Verifier::start(world.options(BOUND, proxy.address()).await).unwrap();
    soon("ready", verifier.ready()).await;
    let (mut dice, mut seen) = (Dice(0x7E55_E7A5), Seen::default());
    let mut tokens = Vec::new();
    for round in 0..ROUNDS {
        match dice.roll(8) {
            0 => proxy.stall(),
            1 => proxy.cut(),
            2 => proxy.delay(Duration::from_millis(10 + dice.roll(250))),
            _ => proxy.resume(),
        }
        let issued = world.issue(viewer("user:ann")).await;
        tokens.push((access(&issued).to_owned(), None));
        let later = Instant::now() + Duration::from_millis(10 + dice.roll(60));
        if dice.roll(2) == 0 {
            world.revoke(Target::FamilyId(issued.family_id.clone())).await;
            tokens.last_mut().unwrap().1 = Some(Instant::now());
        }
        while Instant::now() < later {
            for (token, revoked_at) in tokens.iter().rev().take(4) {
                look(&verifier, token, *revoked_at, &mut seen);
            }
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        assert!(round < ROUNDS);
    }
    println!("{seen:?}");
    // It was worth looking: all three answers came, and revoked tokens were met within the bound too.
    assert!(
        seen.allowed > 100 && seen.denied > 100 && seen.stale > 100,
        "{seen:?}"
    );
    assert!(seen.allowed_revoked > 0, "{seen:?}");
    proxy.resume();
    soon("fresh again", async {
        for (token, revoked_at) in &tokens {
            loop {
                match (verifier.verify(token, None), revoked_at) {
                    (Decision::Allow(_), None) | (Decision::Deny(_), Some(_)) => break,
                    _ => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        }
    })
    .await;
}
