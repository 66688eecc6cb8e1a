//! Figures: `cargo test --release -p tessera-client --test it -- --ignored --nocapture figures`.

use std::{hint::black_box, time::Instant};

use tessera_client::{Decision, v1::IssueRequest};
use tessera_token::{Keyring, VerifyingKey, access};

use crate::world::{World, access as access_of, scope, viewer};

fn median_nanos(rounds: usize, mut once: impl FnMut() -> u128) -> u128 {
    let mut nanos: Vec<_> = (0..rounds).map(|_| once()).collect();
    nanos.sort_unstable();
    nanos[nanos.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes time, and says something in release builds only"]
async fn figures() {
    let world = World::start().await;
    let verifier = world.verifier().await;
    let read = scope("videos:read");
    let mut tokens = Vec::new();
    for _ in 0..500 {
        let request = IssueRequest {
            without_refresh: true,
            ..viewer("user:ann")
        };
        tokens.push(access_of(&world.issue(request).await).to_owned());
    }
    let mut keyring = Keyring::default();
    for key in world.app.list_keys("production").await.unwrap() {
        let realm = tessera_core::RealmName::parse(&key.realm).unwrap();
        keyring.insert(VerifyingKey::parse(&key.paserk, realm, key.issuer, None).unwrap());
    }
    let verify_all = |of: &[String], rounds: u128| {
        let began = Instant::now();
        for _ in 0..rounds {
            for token in of {
                assert!(matches!(
                    black_box(verifier.verify(token, Some(&read))),
                    Decision::Allow(_)
                ));
            }
        }
        began.elapsed().as_nanos() / (of.len() as u128 * rounds)
    };
    let mut cold = Vec::new();
    let mut bare = Vec::new();
    for chunk in tokens.chunks(50) {
        cold.push(verify_all(chunk, 1));
        let began = Instant::now();
        for token in chunk {
            assert!(black_box(access::verify_signature(token, &keyring)).is_ok());
        }
        bare.push(began.elapsed().as_nanos() / chunk.len() as u128);
    }
    cold.sort_unstable();
    bare.sort_unstable();
    let hot = median_nanos(9, || verify_all(&tokens, 20));
    println!(
        "cold {} ns, signature and claims alone {} ns, hot {hot} ns",
        cold[5], bare[5]
    );
}
