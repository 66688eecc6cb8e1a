//! Figures, measured one after the other, as each needs the machine alone:
//! `cargo test --release -p tessera-client --test it -- --ignored --nocapture --test-threads 1 figures`.

use std::{fs, hint::black_box, time::Instant};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use tessera_client::{Decision, v1::IssueRequest};
use tessera_core::{
    Audience, ClientName, Event, EventBody, PolicyRevision, RealmName, Revocations, RevokeReason, ScopeSet,
    Seconds, Sequence, SessionId, Timestamp,
};
use tessera_token::{Keyring, VerifyingKey, access};

use crate::world::{World, access as access_of, scope, viewer};

fn now() -> Timestamp {
    Timestamp::from_seconds(1_795_000_000)
}

fn median_nanos(rounds: usize, mut once: impl FnMut() -> u128) -> u128 {
    let mut nanos: Vec<_> = (0..rounds).map(|_| once()).collect();
    nanos.sort_unstable();
    nanos[nanos.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes time, and says something in release builds only"]
async fn verifying_beside_the_signature_check() {
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
    // Ratios from the same minute, as the machine is shared.
    let ratio =
        |nanos: u128| f64::from(u32::try_from(nanos).unwrap()) / f64::from(u32::try_from(bare[5]).unwrap());
    println!(
        "cold {} ns, {:.2} of signature and claims alone ({} ns); hot {hot} ns, {:.3} of it",
        cold[5],
        ratio(cold[5]),
        bare[5],
        ratio(hot),
    );
    let fastest = median_nanos(9, || bare_ed25519(&tokens));
    println!(
        "bare Ed25519 of as many bytes by aws-lc: {fastest} ns; cold is {:.2} of it",
        f64::from(u32::try_from(cold[5]).unwrap()) / f64::from(u32::try_from(fastest).unwrap()),
    );
    println!(
        "figure | verifying a token, not seen before | ns | {} | {fastest} | <= 1.1",
        cold[5]
    );
    println!("figure | verifying a token, seen before | ns | {hot} | {fastest} | <= 0.03");
}

/// Nanoseconds for each check of a signature over as many bytes as a token has.
fn bare_ed25519(tokens: &[String]) -> u128 {
    let pair = Ed25519KeyPair::generate().unwrap();
    let key = UnparsedPublicKey::new(&ED25519, pair.public_key().as_ref());
    let signed: Vec<_> = tokens
        .iter()
        .map(|token| (token, pair.sign(token.as_bytes())))
        .collect();
    let began = Instant::now();
    for (token, signature) in &signed {
        assert!(black_box(key.verify(token.as_bytes(), signature.as_ref())).is_ok());
    }
    began.elapsed().as_nanos() / signed.len() as u128
}

fn session_revoked() -> EventBody {
    EventBody::SessionRevoked {
        session: SessionId::generate(now(), tessera_token::random().unwrap()),
        client: ClientName::parse("client:app").unwrap(),
        audience: Audience::parse("api").unwrap(),
        reason: RevokeReason::Requested,
    }
}

fn scopes_narrowed() -> EventBody {
    EventBody::ScopesNarrowed {
        session: SessionId::generate(now(), tessera_token::random().unwrap()),
        client: ClientName::parse("client:app").unwrap(),
        audience: Audience::parse("api").unwrap(),
        lost: ScopeSet::from_iter([scope("videos/v1:play"), scope("videos:write")]),
        policy: PolicyRevision::parse("8f31c2a08f31c2a0").unwrap(),
    }
}

/// The cost of a live revocation for a verifier, by the pages of this process that are in memory. Each kind runs in a
/// separate process, which would otherwise reuse the memory of the previous kind.
#[test]
#[ignore = "takes time, and a process for itself"]
fn memory_of_a_session_that_was_revoked() {
    measure_memory("sessions that were revoked", session_revoked);
}

/// See [`memory_of_a_session_that_was_revoked`].
#[test]
#[ignore = "takes time, and a process for itself"]
fn memory_of_a_session_that_was_narrowed() {
    measure_memory("sessions that lost scopes", scopes_narrowed);
}

fn measure_memory(what: &str, body: impl Fn() -> EventBody) {
    const COUNT: u32 = 1_000_000;
    let realm = RealmName::parse("production").unwrap();
    let now = now();
    let event = |number: u32| Event {
        sequence: Sequence(u64::from(number)),
        occurred_at: now,
        relevant_until: now.plus(Seconds::HOUR),
        realm: realm.clone(),
        note: String::new(),
        body: body(),
    };
    let mut revocations = Revocations::default();
    let before = resident_bytes();
    for number in 1..=COUNT {
        revocations.apply(&event(number));
    }
    let bytes = f64::from(u32::try_from(resident_bytes() - before).unwrap());
    assert_eq!(revocations.len(), COUNT as usize);
    let each = bytes / f64::from(COUNT);
    println!("{each:.1} bytes for each of {COUNT} {what}");
    println!("figure | memory of {COUNT} {what}, each | bytes | {each} | - | <= 64");
}

/// `/proc/self/statm` counts pages: proc(5).
fn resident_bytes() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}
