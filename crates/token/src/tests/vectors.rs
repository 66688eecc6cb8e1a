//! The official PASETO v4 and PASERK k4 vectors (`tests/vectors/`), every one of them.

use pasetors::{
    Local, Public,
    keys::{AsymmetricPublicKey, AsymmetricSecretKey, SymmetricKey},
    paserk::{FormatAsPaserk, Id},
    token::UntrustedToken,
    version4::{LocalToken, PublicToken, V4},
};
use serde_json::Value;

use crate::public::{Signer, Untrusted};

use crate::{ServerKey, VerifyingKey, local};

fn vectors(text: &str) -> Vec<Value> {
    let file: Value = serde_json::from_str(text).unwrap();
    file["tests"].as_array().unwrap().clone()
}

fn text<'a>(vector: &'a Value, name: &str) -> &'a str {
    vector[name]
        .as_str()
        .unwrap_or_else(|| panic!("{vector}: no {name}"))
}

fn hex(vector: &Value, name: &str) -> Vec<u8> {
    let digits = text(vector, name).as_bytes();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn paserk(key: &impl FormatAsPaserk) -> String {
    let mut text = String::new();
    key.fmt(&mut text).unwrap();
    text
}

/// pasetors treats an empty footer as one that was expected and is missing.
fn expected_footer(footer: &[u8]) -> Option<&[u8]> {
    (!footer.is_empty()).then_some(footer)
}

fn decrypt(vector: &Value) -> Option<String> {
    let key = SymmetricKey::<V4>::from(&hex(vector, "key")).unwrap();
    let token = UntrustedToken::<Local, V4>::try_from(text(vector, "token")).ok()?;
    let (footer, implicit) = (
        text(vector, "footer").as_bytes(),
        text(vector, "implicit-assertion").as_bytes(),
    );
    LocalToken::decrypt(&key, &token, expected_footer(footer), Some(implicit))
        .ok()
        .map(|t| t.payload().to_owned())
}

fn verify(vector: &Value) -> Option<String> {
    let key = AsymmetricPublicKey::<V4>::from(&hex(vector, "public-key")).unwrap();
    let token = UntrustedToken::<Public, V4>::try_from(text(vector, "token")).ok()?;
    let (footer, implicit) = (
        text(vector, "footer").as_bytes(),
        text(vector, "implicit-assertion").as_bytes(),
    );
    PublicToken::verify(&key, &token, expected_footer(footer), Some(implicit))
        .ok()
        .map(|t| t.payload().to_owned())
}

#[test]
fn v4_local_encrypts_and_decrypts_as_the_vectors_do() {
    let all = vectors(include_str!("../../tests/vectors/v4.json"));
    let encrypted: Vec<_> = all
        .iter()
        .filter(|v| text(v, "name").starts_with("4-E"))
        .collect();
    assert_eq!(encrypted.len(), 9);
    for vector in encrypted {
        let made = local::encrypt(
            &hex(vector, "key").try_into().unwrap(),
            &hex(vector, "nonce").try_into().unwrap(),
            text(vector, "payload").as_bytes(),
            text(vector, "footer").as_bytes(),
            text(vector, "implicit-assertion").as_bytes(),
        );
        assert_eq!(made.as_deref(), Some(text(vector, "token")), "{}", vector["name"]);
        let payload = Some(text(vector, "payload"));
        assert_eq!(decrypt(vector).as_deref(), payload, "{}", vector["name"]);
        // Our tokens have a footer.
        if !text(vector, "footer").is_empty() {
            assert_eq!(ours(vector).as_deref(), payload, "{}", vector["name"]);
        }
    }
}

fn ours(vector: &Value) -> Option<String> {
    let untrusted = local::Untrusted::parse(text(vector, "token"))?;
    let implicit = text(vector, "implicit-assertion").as_bytes();
    let message = untrusted.decrypt(&hex(vector, "key").try_into().unwrap(), implicit)?;
    Some(message.to_string())
}

#[test]
fn v4_public_signs_and_verifies_as_the_vectors_do() {
    let all = vectors(include_str!("../../tests/vectors/v4.json"));
    let signed: Vec<_> = all
        .iter()
        .filter(|v| text(v, "name").starts_with("4-S"))
        .collect();
    assert_eq!(signed.len(), 3);
    for vector in signed {
        let key = AsymmetricSecretKey::<V4>::from(&hex(vector, "secret-key")).unwrap();
        let made = PublicToken::sign(
            &key,
            text(vector, "payload").as_bytes(),
            Some(text(vector, "footer").as_bytes()),
            Some(text(vector, "implicit-assertion").as_bytes()),
        );
        assert_eq!(made.unwrap(), text(vector, "token"), "{}", vector["name"]);
        assert_ours(vector, &key);
        assert_eq!(
            verify(vector).as_deref(),
            Some(text(vector, "payload")),
            "{}",
            vector["name"]
        );
    }
}

/// Access tokens have a footer, and no implicit assertion.
fn assert_ours(vector: &Value, key: &AsymmetricSecretKey<V4>) {
    let (payload, footer) = (text(vector, "payload"), text(vector, "footer"));
    if footer.is_empty() || !text(vector, "implicit-assertion").is_empty() {
        return;
    }
    let made = Signer::new(key, footer.to_owned())
        .unwrap()
        .sign(payload.as_bytes());
    assert_eq!(made.unwrap(), text(vector, "token"), "{}", vector["name"]);
    let public = AsymmetricPublicKey::<V4>::try_from(key).unwrap();
    let read = Untrusted::parse(text(vector, "token")).unwrap();
    assert_eq!(read.verify(&public), Some(payload), "{}", vector["name"]);
}

#[test]
fn what_must_fail_fails() {
    let all = vectors(include_str!("../../tests/vectors/v4.json"));
    let failing: Vec<_> = all.iter().filter(|v| v["expect-fail"] == true).collect();
    assert_eq!(failing.len(), 5);
    for vector in failing {
        let opened = if vector.get("public-key").is_some() {
            verify(vector)
        } else {
            assert_eq!(ours(vector), None, "{}", vector["name"]);
            decrypt(vector)
        };
        assert_eq!(opened, None, "{}", vector["name"]);
    }
}

#[test]
fn paserk_k4_public_and_pid() {
    let realm = tessera_core::RealmName::parse("production").unwrap();
    for vector in vectors(include_str!("../../tests/vectors/k4.public.json")) {
        let key = AsymmetricPublicKey::<V4>::from(&hex(&vector, "key"));
        assert_eq!(key.is_err(), vector["expect-fail"] == true, "{vector}");
        let Ok(key) = key else { continue };
        assert_eq!(paserk(&key), text(&vector, "paserk"));
        let parsed =
            VerifyingKey::parse(text(&vector, "paserk"), realm.clone(), String::new(), None).unwrap();
        assert_eq!(parsed.public().as_bytes(), hex(&vector, "key"));
    }
    for vector in vectors(include_str!("../../tests/vectors/k4.pid.json")) {
        let key = AsymmetricPublicKey::<V4>::from(&hex(&vector, "key"));
        assert_eq!(key.is_err(), vector["expect-fail"] == true, "{vector}");
        let Ok(key) = key else { continue };
        let parsed = VerifyingKey::parse(&paserk(&key), realm.clone(), String::new(), None).unwrap();
        assert_eq!(parsed.id().as_str(), text(&vector, "paserk"));
    }
}

#[test]
fn paserk_k4_local_and_lid() {
    for vector in vectors(include_str!("../../tests/vectors/k4.local.json")) {
        let parsed = ServerKey::parse(text(&vector, "paserk"));
        // Thirty-two equal bytes are a valid key for PASERK, and not a secret for us.
        let is_weak = vector["name"] == "k4.local-1";
        assert_eq!(
            parsed.is_err(),
            vector["expect-fail"] == true || is_weak,
            "{vector}"
        );
        if let Ok(key) = parsed {
            assert_eq!(*key.to_paserk(), text(&vector, "paserk"));
        }
    }
    for vector in vectors(include_str!("../../tests/vectors/k4.lid.json")) {
        let key = SymmetricKey::<V4>::from(&hex(&vector, "key"));
        assert_eq!(key.is_err(), vector["expect-fail"] == true, "{vector}");
        let Ok(key) = key else { continue };
        assert_eq!(paserk(&Id::from(&key)), text(&vector, "paserk"));
    }
}

#[test]
fn paserk_k4_secret_and_sid() {
    let files = [
        include_str!("../../tests/vectors/k4.secret.json"),
        include_str!("../../tests/vectors/k4.sid.json"),
    ];
    for vector in files.into_iter().flat_map(vectors) {
        // The Ed25519 library panics on an all-zero seed; all our keys are generated here.
        if hex(&vector, "key").iter().take(32).all(|&byte| byte == 0) {
            continue;
        }
        let key = AsymmetricSecretKey::<V4>::from(&hex(&vector, "key"));
        assert_eq!(key.is_err(), vector["expect-fail"] == true, "{vector}");
        let Ok(key) = key else { continue };
        let expected = text(&vector, "paserk");
        let made = if expected.starts_with("k4.sid.") {
            paserk(&Id::from(&key))
        } else {
            paserk(&key)
        };
        assert_eq!(made, expected);
    }
}
