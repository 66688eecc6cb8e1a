use pasetors::{
    Local,
    keys::{Generate, SymmetricKey},
    token::UntrustedToken,
    version4::{LocalToken, V4},
};
use proptest::prelude::*;

use super::*;

/// The result of pasetors for a token with a footer.
fn reference(token: &str, key: &SymmetricKey<V4>, implicit: &[u8]) -> Option<String> {
    let untrusted = UntrustedToken::<Local, V4>::try_from(token).ok()?;
    if untrusted.untrusted_footer().is_empty() {
        return None;
    }
    let trusted = LocalToken::decrypt(key, &untrusted, None, Some(implicit)).ok()?;
    Some(trusted.payload().to_owned())
}

fn ours(token: &str, key: &SymmetricKey<V4>, implicit: &[u8]) -> Option<String> {
    let message = Untrusted::parse(token)?.decrypt(key.as_bytes().try_into().unwrap(), implicit)?;
    Some(message.to_string())
}

/// Encrypts, decrypts and damages `count` random tokens with both libraries.
fn compare(count: u32) {
    let config = ProptestConfig {
        cases: count,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let key = SymmetricKey::<V4>::generate().unwrap();
    let other = SymmetricKey::<V4>::generate().unwrap();
    let input = (
        "\\PC{1,200}",
        "\\PC{1,80}",
        "[a-z]{0,8}",
        any::<[u8; 32]>(),
        any::<prop::sample::Index>(),
        any::<u8>(),
    );
    proptest!(config, |((message, footer, implicit, nonce, at, byte) in input)| {
        let implicit = implicit.as_bytes();
        let bytes = key.as_bytes().try_into().unwrap();
        let token = encrypt(bytes, &nonce, message.as_bytes(), footer.as_bytes(), implicit).unwrap();
        let of_reference =
            LocalToken::encrypt(&key, message.as_bytes(), Some(footer.as_bytes()), Some(implicit)).unwrap();
        for token in [&token, &of_reference] {
            prop_assert_eq!(ours(token, &key, implicit), Some(message.clone()));
            prop_assert_eq!(reference(token, &key, implicit), Some(message.clone()));
            prop_assert_eq!(ours(token, &other, implicit), None);
            prop_assert_eq!(ours(token, &key, b"another purpose"), None);
        }
        let mut damaged = token.into_bytes();
        let at = at.index(damaged.len());
        damaged[at] = byte % 128;
        let damaged = String::from_utf8(damaged).unwrap();
        prop_assert_eq!(
            ours(&damaged, &key, implicit),
            reference(&damaged, &key, implicit),
            "{}",
            damaged
        );
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

#[test]
fn every_end_and_every_bit_counts() {
    let key = SymmetricKey::<V4>::generate().unwrap();
    let bytes: &[u8; 32] = key.as_bytes().try_into().unwrap();
    let token = encrypt(bytes, &[7; 32], b"message", b"footer", b"").unwrap();
    assert!(ours(&token, &key, b"").is_some());
    for end in 0..token.len() {
        assert_eq!(ours(&token[..end], &key, b""), None, "cut off at {end}");
        assert_eq!(ours(&format!("{token}."), &key, b""), None);
        for bit in 0..7 {
            let mut damaged = token.clone().into_bytes();
            damaged[end] ^= 1 << bit;
            let damaged = String::from_utf8(damaged).unwrap();
            assert_eq!(ours(&damaged, &key, b""), None, "bit {bit} of byte {end}");
        }
    }
    let without_footer = encrypt(bytes, &[7; 32], b"message", b"", b"").unwrap();
    assert_eq!(ours(&without_footer, &key, b""), None);
}
