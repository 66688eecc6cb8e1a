//! Our own credentials: what is accepted, and above all what is refused.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use proptest::prelude::*;
use tessera_core::{
    AccessClaims, ApiKeyId, Audience, ClientName, KeyStatus, Label, NBF_BACKDATE, PolicyRevision, RealmKind,
    RealmName, RequestId, RoleName, Scope, Seconds, Sequence, SessionId, Subject, Timestamp, TokenId,
};

use crate::{
    ApiKeySecret, Expectation, Keyring, RefreshSecret, RefreshToken, ServerKey, ServerKeys, SigningKeyPair,
    VerifyError, access,
};

/// The largest claims that the limits allow, with every list and every name at its maximum.
fn largest() -> AccessClaims {
    use tessera_core::limits::{
        ISSUER_BYTES_MAX, LABEL_BYTES_MAX, LABELS_MAX, NAME_BYTES_MAX, ROLES_MAX, SCOPE_BYTES_MAX,
        SCOPES_MAX, SUBJECT_BYTES_MAX,
    };
    let numbered = |number: usize, bytes: usize| format!("{number:03}{}", "x".repeat(bytes - 3));
    AccessClaims {
        issuer: "i".repeat(ISSUER_BYTES_MAX),
        subject: Subject::parse(&"s".repeat(SUBJECT_BYTES_MAX)).unwrap(),
        audience: Audience::parse(&"a".repeat(NAME_BYTES_MAX)).unwrap(),
        scopes: (0..SCOPES_MAX)
            .map(|number| Scope::parse(&(numbered(number, SCOPE_BYTES_MAX - 2) + ":r")).unwrap())
            .collect(),
        roles: (0..ROLES_MAX)
            .map(|number| RoleName::parse(&format!("role:{}", numbered(number, NAME_BYTES_MAX))).unwrap())
            .collect(),
        realm: RealmName::parse(&"r".repeat(NAME_BYTES_MAX)).unwrap(),
        client: ClientName::from_short(&"c".repeat(NAME_BYTES_MAX)).unwrap(),
        generation: u64::MAX,
        rev: Sequence(u64::MAX),
        policy: PolicyRevision::parse(&"0".repeat(64)).unwrap(),
        labels: (0..LABELS_MAX)
            .map(|number| Label::parse(&numbered(number, LABEL_BYTES_MAX)).unwrap())
            .collect(),
        ..claims()
    }
}

#[test]
fn the_largest_token_that_the_limits_allow_is_read() {
    let world = world();
    let claims = largest();
    let record = world
        .signer
        .to_record(&claims.realm, Seconds::DAY, &world.server_keys, now())
        .unwrap();
    let keyring = Keyring::from_records([&record], |_| Some(claims.issuer.clone())).unwrap();
    let token = access::sign(&claims, &world.signer).unwrap();
    assert!(
        token.len() <= tessera_core::limits::TOKEN_BYTES_MAX,
        "{}",
        token.len()
    );
    let expected = Expectation {
        audience: None,
        realm: None,
        leeway: Seconds(0),
    };
    assert_eq!(access::verify(&token, &keyring, &expected, now()), Ok(claims));
    assert!(access::unverified_claims(&token).is_some());
}

#[test]
fn what_was_signed_is_known_as_it_would_be_verified() {
    let world = world();
    let token = access::sign(&claims(), &world.signer).unwrap();
    let (known, verified) = (
        access::signed(claims(), &world.keyring, &world.signer).unwrap(),
        access::verify_signature(&token, &world.keyring).unwrap(),
    );
    assert_eq!(known.claims(), verified.claims());
    assert_eq!(known.key_id(), verified.key_id());
    let other = SigningKeyPair::generate().unwrap();
    assert!(access::signed(claims(), &world.keyring, &other).is_none());
    // A key of another realm or issuer verifies none of these.
    let foreign = [
        AccessClaims {
            realm: RealmName::parse("sandbox").unwrap(),
            ..claims()
        },
        AccessClaims {
            issuer: "https://other.example.org".to_owned(),
            ..claims()
        },
    ];
    for claims in foreign {
        assert!(access::signed(claims, &world.keyring, &world.signer).is_none());
    }
}

#[test]
fn the_size_of_a_token_is_known_before_it_is_signed() {
    let signer = SigningKeyPair::generate().unwrap();
    let subjects = (1..8).map(|bytes| AccessClaims {
        subject: Subject::parse(&"s".repeat(bytes)).unwrap(),
        ..claims()
    });
    for claims in subjects.chain([largest()]) {
        let token = access::sign(&claims, &signer).unwrap();
        assert_eq!(access::size(&claims, &signer), Some(token.len()));
        let least = tessera_core::limits::token_bytes_least(claims.scopes.to_string().len());
        assert!(least <= token.len(), "{least} > {}", token.len());
    }
}

const ISSUER: &str = "https://auth.example.org/production";

struct World {
    server_keys: ServerKeys,
    signer: SigningKeyPair,
    keyring: Keyring,
}

fn realm() -> RealmName {
    RealmName::parse("production").unwrap()
}

fn now() -> Timestamp {
    Timestamp::from_seconds(1_795_000_000)
}

fn world() -> World {
    let server_keys = ServerKeys::new(ServerKey::generate().unwrap(), Vec::new());
    let signer = SigningKeyPair::generate().unwrap();
    let record = signer
        .to_record(&realm(), Seconds::DAY, &server_keys, now())
        .unwrap();
    let keyring = Keyring::from_records([&record], |_| Some(ISSUER.to_owned())).unwrap();
    World {
        server_keys,
        signer,
        keyring,
    }
}

fn claims() -> AccessClaims {
    AccessClaims {
        issuer: ISSUER.to_owned(),
        subject: Subject::parse("user:ann").unwrap(),
        audience: Audience::parse("api").unwrap(),
        token_id: TokenId::generate(now(), [3; 10]),
        issued_at: now(),
        not_before: now(),
        expires_at: now().plus(Seconds::HOUR),
        scopes: ["videos:read", "analytics:read"]
            .iter()
            .map(|s| Scope::parse(s).unwrap())
            .collect(),
        roles: vec![RoleName::parse("role:viewer").unwrap()],
        realm: realm(),
        client: ClientName::parse("client:cms").unwrap(),
        session: SessionId::generate(now(), [4; 10]),
        generation: 1,
        rev: Sequence(17),
        policy: PolicyRevision::parse("0123456789abcdef").unwrap(),
        labels: vec![Label::parse("stream:ls_42").unwrap()],
    }
}

const ANY: Expectation<'static> = Expectation {
    audience: None,
    realm: None,
    leeway: Expectation::LEEWAY_DEFAULT,
};

#[test]
fn an_access_token_says_what_was_signed() {
    let world = world();
    let token = access::sign(&claims(), &world.signer).unwrap();
    assert_eq!(access::verify(&token, &world.keyring, &ANY, now()), Ok(claims()));
    assert_eq!(
        access::unverified_claims(&token),
        Some((*world.signer.id(), claims()))
    );
    let footer = URL_SAFE_NO_PAD.decode(token.rsplit('.').next().unwrap()).unwrap();
    assert_eq!(
        String::from_utf8(footer).unwrap(),
        format!("{{\"kid\":\"{}\"}}", world.signer.id())
    );
}

#[test]
fn checklist_17_time_is_checked_with_a_bounded_leeway() {
    let world = world();
    let token = access::sign(&claims(), &world.signer).unwrap();
    let at = |time: Timestamp| access::verify(&token, &world.keyring, &ANY, time).map(|_| ());
    let (end, leeway) = (claims().expires_at, Expectation::LEEWAY_DEFAULT);
    assert_eq!(at(end.plus(leeway).plus_millis(-1)), Ok(()));
    assert_eq!(at(end.plus(leeway)), Err(VerifyError::Expired));
    assert_eq!(at(now().minus(leeway)), Ok(()));
    assert_eq!(
        at(now().minus(leeway).plus_millis(-1)),
        Err(VerifyError::NotYetValid)
    );
}

#[test]
fn a_clock_that_is_late_accepts_a_new_token_without_leeway() {
    let world = world();
    let expected = Expectation {
        leeway: Seconds(0),
        ..ANY
    };
    let backdated = AccessClaims {
        not_before: now().minus(NBF_BACKDATE),
        ..claims()
    };
    let issued_later = AccessClaims {
        issued_at: now().plus(Seconds(1)),
        ..backdated.clone()
    };
    for (claims, late, is_usable) in [
        (&backdated, NBF_BACKDATE, true),
        (&backdated, Seconds(NBF_BACKDATE.0 + 1), false),
        (&claims(), Seconds(0), true),
        (&claims(), Seconds(1), false),
        (&issued_later, NBF_BACKDATE, false),
    ] {
        let token = access::sign(claims, &world.signer).unwrap();
        let verified = access::verify(&token, &world.keyring, &expected, now().minus(late));
        let usable = verified.map(|_| ());
        let wanted = is_usable.then_some(()).ok_or(VerifyError::NotYetValid);
        assert_eq!(usable, wanted, "{late}");
    }
}

#[test]
fn checklist_19_and_39_another_audience_or_realm_refuses() {
    let world = world();
    let token = access::sign(&claims(), &world.signer).unwrap();
    let other_audience = Audience::parse("billing").unwrap();
    let other_realm = RealmName::parse("sandbox").unwrap();
    let refused = |expected| access::verify(&token, &world.keyring, &expected, now()).unwrap_err();
    assert_eq!(
        refused(Expectation {
            audience: Some(&other_audience),
            ..ANY
        }),
        VerifyError::WrongAudience
    );
    assert_eq!(
        refused(Expectation {
            realm: Some(&other_realm),
            ..ANY
        }),
        VerifyError::WrongRealm
    );
}

#[test]
fn a_token_that_names_a_realm_its_key_is_not_of_is_invalid() {
    let world = world();
    for forged in [
        AccessClaims {
            realm: RealmName::parse("sandbox").unwrap(),
            ..claims()
        },
        AccessClaims {
            issuer: "https://elsewhere.example.org".to_owned(),
            ..claims()
        },
    ] {
        let token = access::sign(&forged, &world.signer).unwrap();
        assert_eq!(
            access::verify(&token, &world.keyring, &ANY, now()),
            Err(VerifyError::Invalid)
        );
    }
}

#[test]
fn checklist_21_unknown_missing_and_malformed_key_ids_are_one_error() {
    let world = world();
    let stranger = SigningKeyPair::generate().unwrap();
    let unknown = access::sign(&claims(), &stranger).unwrap();
    let good = access::sign(&claims(), &world.signer).unwrap();
    let body = good.rsplit_once('.').unwrap().0;
    let with_footer = |footer: &str| format!("{body}.{}", URL_SAFE_NO_PAD.encode(footer));
    let id = world.signer.id();
    for token in [
        unknown,
        body.to_owned(),
        with_footer("{}"),
        with_footer("{\"kid\":\"\"}"),
        with_footer("{\"kid\":\"../../etc/passwd\"}"),
        with_footer(&format!("{{\"kid\": \"{id}\"}}")),
        with_footer(&format!("{{\"kid\":\"{id}\",\"x\":1}}")),
        format!("{good}.x"),
        format!("v2.public.{}", good.strip_prefix("v4.public.").unwrap()),
        format!("v4.local.{}", good.strip_prefix("v4.public.").unwrap()),
        format!("{good}{}", "A".repeat(tessera_core::limits::TOKEN_BYTES_MAX)),
        String::new(),
    ] {
        assert_eq!(
            access::verify(&token, &world.keyring, &ANY, now()),
            Err(VerifyError::Invalid),
            "{token}"
        );
    }
}

#[test]
fn checklist_22_a_retired_key_stops_verifying_and_a_revoked_one_at_once() {
    let world = world();
    let record = world
        .signer
        .to_record(&realm(), Seconds::DAY, &world.server_keys, now())
        .unwrap();
    let token = access::sign(&claims(), &world.signer).unwrap();
    let retired = tessera_core::SigningKey {
        status: KeyStatus::Retired,
        not_after: Some(now().plus(Seconds(60))),
        ..record.clone()
    };
    let keyring = Keyring::from_records([&retired], |_| Some(ISSUER.to_owned())).unwrap();
    assert!(access::verify(&token, &keyring, &ANY, now().plus(Seconds(60))).is_ok());
    assert!(access::verify(&token, &keyring, &ANY, now().plus(Seconds(61))).is_err());
    let revoked = tessera_core::SigningKey {
        status: KeyStatus::Revoked,
        ..record
    };
    let keyring = Keyring::from_records([&revoked], |_| Some(ISSUER.to_owned())).unwrap();
    assert!(keyring.is_empty());
}

#[test]
fn a_signing_key_opens_with_the_server_key_and_the_realm_that_sealed_it_only() {
    let world = world();
    let record = world
        .signer
        .to_record(&realm(), Seconds::DAY, &world.server_keys, now())
        .unwrap();
    assert_eq!(
        SigningKeyPair::unseal(&record, &world.server_keys).unwrap().id(),
        world.signer.id()
    );
    let other_keys = ServerKeys::new(ServerKey::generate().unwrap(), Vec::new());
    assert!(SigningKeyPair::unseal(&record, &other_keys).is_err());
    let moved = tessera_core::SigningKey {
        realm: RealmName::parse("sandbox").unwrap(),
        ..record
    };
    assert!(SigningKeyPair::unseal(&moved, &world.server_keys).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn checklist_14_no_changed_token_verifies(at in any::<prop::sample::Index>(), flip in 1u8..64) {
        let world = world();
        let token = access::sign(&claims(), &world.signer).unwrap();
        let mut bytes = token.clone().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(changed) = String::from_utf8(bytes) {
            prop_assume!(changed != token);
            prop_assert!(access::verify(&changed, &world.keyring, &ANY, now()).is_err());
        }
    }

    #[test]
    fn no_text_makes_anything_panic(text in ".{0,200}") {
        let world = world();
        prop_assert!(access::verify(&text, &world.keyring, &ANY, now()).is_err());
        prop_assert!(RefreshToken::open(&text, &world.server_keys).is_none());
        prop_assert!(ApiKeySecret::parse(&text).is_err());
        prop_assert!(ServerKey::parse(&text).is_err());
        let _ = access::unverified_claims(&text);
    }

    #[test]
    fn no_changed_refresh_token_opens(at in any::<prop::sample::Index>(), flip in 1u8..64) {
        let world = world();
        let token = first(&world).seal(&world.server_keys).unwrap();
        let mut bytes = token.as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(changed) = String::from_utf8(bytes) {
            prop_assert!(RefreshToken::open(&changed, &world.server_keys).is_none());
        }
    }
}

fn first(world: &World) -> RefreshToken {
    let session = SessionId::generate(now(), [9; 10]);
    RefreshToken::first(
        session,
        RefreshSecret::generate().unwrap(),
        world.server_keys.current(),
    )
}

#[test]
fn checklist_3_a_replay_derives_the_same_successor_to_the_byte() {
    let world = world();
    let text = first(&world).seal(&world.server_keys).unwrap();
    let successor = || {
        let opened = RefreshToken::open(&text, &world.server_keys).unwrap();
        opened
            .successor(&world.server_keys)
            .unwrap()
            .seal(&world.server_keys)
            .unwrap()
    };
    assert_eq!(successor(), successor());
    let opened = RefreshToken::open(&successor(), &world.server_keys).unwrap();
    assert_eq!(opened.generation, 2);
    assert_ne!(
        opened.secret.hash(),
        RefreshToken::open(&text, &world.server_keys)
            .unwrap()
            .secret
            .hash()
    );
}

#[test]
fn the_ratchet_needs_the_server_key_and_survives_its_rotation() {
    let old = ServerKey::generate().unwrap();
    let old_text = old.to_paserk();
    let before = ServerKeys::new(old, Vec::new());
    let token = RefreshToken::first(
        SessionId::generate(now(), [9; 10]),
        RefreshSecret::generate().unwrap(),
        before.current(),
    );
    let text = token.seal(&before).unwrap();
    let expected = token.successor(&before).unwrap().secret.hash();
    let after = ServerKeys::new(
        ServerKey::generate().unwrap(),
        vec![ServerKey::parse(&old_text).unwrap()],
    );
    let opened = RefreshToken::open(&text, &after).unwrap();
    let successor = opened.successor(&after).unwrap();
    assert_eq!(successor.secret.hash(), expected);
    let reopened = RefreshToken::open(&successor.seal(&after).unwrap(), &after).unwrap();
    assert_eq!(reopened.generation, 2);
    let without = ServerKeys::new(ServerKey::generate().unwrap(), Vec::new());
    assert!(RefreshToken::open(&text, &without).is_none());
}

#[test]
fn checklist_18_access_and_refresh_are_not_each_other() {
    let world = world();
    let access_token = access::sign(&claims(), &world.signer).unwrap();
    let refresh_token = first(&world).seal(&world.server_keys).unwrap();
    assert!(access::verify(&refresh_token, &world.keyring, &ANY, now()).is_err());
    assert!(access::verify(&refresh_token[4..], &world.keyring, &ANY, now()).is_err());
    assert!(RefreshToken::open(&access_token, &world.server_keys).is_none());
    assert!(RefreshToken::open(&format!("tsr_{access_token}"), &world.server_keys).is_none());
}

#[test]
fn a_first_secret_needs_the_api_key_the_session_and_the_request() {
    let world = world();
    let key = world.server_keys.current();
    let (one, two) = (
        ApiKeySecret::generate(RealmKind::Production).unwrap(),
        ApiKeySecret::generate(RealmKind::Production).unwrap(),
    );
    let (session, request) = (SessionId::from_bytes([1; 16]), RequestId::from_bytes([2; 16]));
    let hash = |api_key: &ApiKeySecret, session, request| {
        RefreshSecret::for_request(api_key, key, session, request)
            .unwrap()
            .hash()
    };
    assert_eq!(hash(&one, session, request), hash(&one, session, request));
    assert_ne!(hash(&one, session, request), hash(&two, session, request));
    assert_ne!(
        hash(&one, session, request),
        hash(&one, SessionId::from_bytes([3; 16]), request)
    );
    assert_ne!(
        hash(&one, session, request),
        hash(&one, session, RequestId::from_bytes([3; 16]))
    );
}

#[test]
fn an_api_key_parses_as_itself_and_notices_typos() {
    let key = ApiKeySecret::generate(RealmKind::Sandbox).unwrap();
    let text = key.expose();
    assert!(text.starts_with("tsk_sandbox_"), "{text}");
    let parsed = ApiKeySecret::parse(text).unwrap();
    assert_eq!(
        (parsed.id(), parsed.kind(), parsed.hash()),
        (key.id(), RealmKind::Sandbox, key.hash())
    );
    assert!(ApiKeyId::parse(key.id().as_str()).is_ok());
    for at in "tsk_sandbox_".len()..text.len() {
        let mut typo = text.as_bytes().to_vec();
        typo[at] = if typo[at] == b'x' { b'y' } else { b'x' };
        assert!(
            ApiKeySecret::parse(std::str::from_utf8(&typo).unwrap()).is_err(),
            "{at}"
        );
    }
    assert!(ApiKeySecret::parse(&text.replace("sandbox", "production")).is_err());
    assert!(ApiKeySecret::parse(&text[..text.len() - 1]).is_err());
}

#[test]
fn checklist_37_no_debug_form_shows_a_secret() {
    let world = world();
    let api_key = ApiKeySecret::generate(RealmKind::Production).unwrap();
    let token = first(&world);
    let shown = format!(
        "{:?} {:?} {:?} {:?}",
        api_key, token, world.server_keys, world.signer
    );
    let master = world.server_keys.current().to_paserk();
    let secret_part = &api_key.expose()["tsk_production_".len() + 16..];
    for secret in [master.strip_prefix("k4.local.").unwrap(), secret_part] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
