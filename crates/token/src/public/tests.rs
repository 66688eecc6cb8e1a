use pasetors::{
    Public,
    keys::{AsymmetricKeyPair, Generate},
    token::UntrustedToken,
};
use proptest::prelude::*;

use super::*;

fn pair() -> AsymmetricKeyPair<V4> {
    AsymmetricKeyPair::generate().unwrap()
}

/// The result of pasetors for a token.
fn reference(token: &str, key: &AsymmetricPublicKey<V4>) -> Option<String> {
    let untrusted = UntrustedToken::<Public, V4>::try_from(token).ok()?;
    let trusted = PublicToken::verify(key, &untrusted, None, None).ok()?;
    Some(trusted.payload().to_owned())
}

fn ours(token: &str, key: &AsymmetricPublicKey<V4>) -> Option<String> {
    Untrusted::parse(token)?.verify(key).map(str::to_owned)
}

/// Signs, verifies and damages `count` random tokens with both libraries.
fn compare(count: u32) {
    let config = ProptestConfig {
        cases: count,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let keys = [pair(), pair()];
    let input = (
        "\\PC{1,300}",
        "\\PC{1,80}",
        0..2_usize,
        any::<prop::sample::Index>(),
        any::<u8>(),
    );
    proptest!(config, |((message, footer, key, at, byte) in input)| {
        let (key, other) = (&keys[key], &keys[1 - key]);
        let signer = Signer::new(&key.secret, footer.clone()).unwrap();
        let token = signer.sign(message.as_bytes()).unwrap();
        prop_assert_eq!(token.len(), signer.size(message.len()));
        let by_reference =
            PublicToken::sign(&key.secret, message.as_bytes(), Some(footer.as_bytes()), None).unwrap();
        prop_assert_eq!(&token, &by_reference);
        prop_assert_eq!(ours(&token, &key.public), Some(message.clone()));
        prop_assert_eq!(ours(&token, &other.public), None);
        let mut damaged = token.into_bytes();
        let at = at.index(damaged.len());
        damaged[at] = byte % 128;
        let damaged = String::from_utf8(damaged).unwrap();
        prop_assert_eq!(ours(&damaged, &key.public), reference(&damaged, &key.public), "{}", damaged);
    });
}

#[test]
fn tokens_and_verdicts_are_those_of_pasetors() {
    compare(500);
}

/// `cargo test --release -p tessera-token -- --ignored million`: minutes.
#[test]
#[ignore = "takes minutes"]
fn tokens_and_verdicts_are_those_of_pasetors_a_million_times() {
    compare(1_000_000);
}

/// `cargo test --release -p tessera-token --lib -- --ignored --nocapture beside_pasetors`.
#[test]
#[ignore = "says something in release builds only"]
fn signing_and_verifying_beside_pasetors() {
    let (key, message) = (pair(), "m".repeat(400));
    let signer = Signer::new(&key.secret, "{}".to_owned()).unwrap();
    let token = signer.sign(message.as_bytes()).unwrap();
    let micros = |mut call: Box<dyn FnMut() -> bool + '_>| {
        let mut rounds = [0.0; 9];
        for round in &mut rounds {
            let began = std::time::Instant::now();
            assert!((0..1000).all(|_| call()));
            *round = began.elapsed().as_secs_f64() * 1e3;
        }
        rounds.sort_by(f64::total_cmp);
        rounds[4]
    };
    let (of_key, of_token) = (&key, &token);
    println!(
        "figure | signing a token of 400 bytes, beside pasetors | µs | {} | {} | -",
        micros(Box::new(|| signer.sign(message.as_bytes()).is_some())),
        micros(Box::new(|| {
            PublicToken::sign(&of_key.secret, message.as_bytes(), Some(b"{}"), None).is_ok()
        })),
    );
    println!(
        "figure | verifying its signature, beside pasetors | µs | {} | {} | -",
        micros(Box::new(|| ours(of_token, &of_key.public).is_some())),
        micros(Box::new(|| reference(of_token, &of_key.public).is_some())),
    );
}

#[test]
fn halves_that_do_not_belong_together_are_no_key() {
    let (one, other) = (pair(), pair());
    let mixed = [&one.secret.as_bytes()[..SEED_BYTES], other.public.as_bytes()].concat();
    // pasetors may refuse it by itself.
    if let Ok(mixed) = AsymmetricSecretKey::<V4>::from(&mixed) {
        assert!(Signer::new(&mixed, String::new()).is_none());
    }
}
