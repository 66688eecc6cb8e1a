//! Revoke as tables: what is revoked by whom, what policy must permit, and what is written.

use tessera_core::{Audience, EventBody, KeyId, Label, Scope, Sequence, Session, Subject};

use super::*;
use crate::{
    issuance::tokens::PresentedToken,
    testing::{
        at, cause, client, committed, counted, key_id, line, realm, revision, session, session_id, state,
        stored, token_id,
    },
};

fn request(target: RevokeTarget) -> RevokeRequest {
    RevokeRequest {
        request_id: None,
        reason: "leaked".to_owned(),
        validate_only: false,
        target,
        disables_client: false,
        with_made_keys: false,
    }
}

fn label() -> Label {
    Label::parse("device:7").unwrap()
}

fn subject(text: &str) -> Subject {
    Subject::parse(text).unwrap()
}

fn matched() -> Matched {
    Matched {
        live: 3,
        tokens_until: at(3600),
        sessions_until: at(86_400),
    }
}

#[test]
fn who_may_end_many_and_which_end() {
    let realm = realm().name;
    let index_of = |text: &str| SessionIndex::Subject(realm.clone(), subject(text));
    let of_client = |name: &str| SessionIndex::Client(realm.clone(), client(name));
    let cases = [
        (
            "another subject",
            RevokeTarget::Subject(subject("user:ann")),
            index_of("user:ann"),
            vec!["tessera/sessions:revoke"],
        ),
        (
            "the client as a subject",
            RevokeTarget::Subject(subject("client:app")),
            index_of("client:app"),
            vec![],
        ),
        (
            "the own sessions",
            RevokeTarget::Client(client("client:app")),
            of_client("client:app"),
            vec![],
        ),
        (
            "those of another client",
            RevokeTarget::Client(client("client:shop")),
            of_client("client:shop"),
            vec!["tessera/sessions:revoke"],
        ),
        (
            "a label, which other clients may have set",
            RevokeTarget::Label(label()),
            SessionIndex::Label(realm.clone(), label()),
            vec!["tessera/sessions:revoke"],
        ),
        (
            "everything",
            RevokeTarget::Realm,
            SessionIndex::Realm(realm.clone()),
            vec!["tessera/realm:revoke"],
        ),
    ];
    for (name, target, index, needs) in cases {
        let request = request(target);
        let end = EndMany::of(&realm, &client("client:app"), &request).unwrap();
        let given: Vec<_> = end.needs.iter().map(Permission::scope).collect();
        assert_eq!(given, needs, "{name}");
        assert!(end.index == index && end.disabled.is_none(), "{name}");
    }
}

#[test]
fn to_disable_a_client_is_to_revoke_its_api_keys() {
    let needs = |name: &str| {
        let request = RevokeRequest {
            disables_client: true,
            ..request(RevokeTarget::Client(client(name)))
        };
        let end = EndMany::of(&realm().name, &client("client:app"), &request).unwrap();
        assert_eq!(end.disabled, Some(&client(name)));
        end.needs.iter().map(Permission::scope).collect::<Vec<_>>()
    };
    assert_eq!(needs("client:app"), Vec::<String>::new());
    assert_eq!(
        needs("client:shop"),
        ["tessera/sessions:revoke", "tessera/api-keys/client:shop:revoke"]
    );
    // With another target it means nothing.
    let request = RevokeRequest {
        disables_client: true,
        ..request(RevokeTarget::Realm)
    };
    let end = EndMany::of(&realm().name, &client("client:app"), &request).unwrap();
    assert_eq!(end.disabled, None);
}

#[test]
fn one_token_session_or_key_is_not_many() {
    let key = KeyId::parse(&format!("k4.pid.{}", "a".repeat(44))).unwrap();
    for target in [
        RevokeTarget::Token(PresentedToken::new("v4.public.x".to_owned())),
        RevokeTarget::Session(session_id(1)),
        RevokeTarget::ApiKey(key_id(1)),
        RevokeTarget::SigningKey(key),
    ] {
        assert!(EndMany::of(&realm().name, &client("client:app"), &request(target)).is_none());
    }
}

#[test]
fn many_end_with_one_event() {
    let cases = [
        (
            RevokeTarget::Subject(subject("user:ann")),
            EventTarget::Subject(subject("user:ann")),
        ),
        (
            RevokeTarget::Client(client("client:shop")),
            EventTarget::Client(client("client:shop")),
        ),
        (RevokeTarget::Label(label()), EventTarget::Label(label())),
        (RevokeTarget::Realm, EventTarget::Realm),
    ];
    for (target, expected) in cases {
        let request = request(target);
        let end = EndMany::of(&realm().name, &client("client:app"), &request).unwrap();
        let changes = end.changes(&matched(), &cause());
        assert_eq!(counted(&changes), "1 event, 1 audit", "{expected:?}");
        let event = &changes.events[0];
        assert_eq!(event.body.target().unwrap_or(EventTarget::Realm), expected);
        assert_eq!((event.note.as_str(), event.occurred_at), ("leaked", at(0)));
        assert_eq!((event.tokens_until, event.sessions_until), (at(3600), at(86_400)));
        assert_eq!(changes.audit[0], cause().record(expected, 3));
    }
}

#[test]
fn a_disabled_client_is_in_the_commit_of_its_sessions() {
    let request = RevokeRequest {
        disables_client: true,
        ..request(RevokeTarget::Client(client("client:shop")))
    };
    let end = EndMany::of(&realm().name, &client("client:app"), &request).unwrap();
    let changes = end.changes(&matched(), &cause());
    assert_eq!(counted(&changes), "1 client, 1 event, 2 audit");
    assert!(changes.clients[0].is_disabled && changes.clients[0].client == client("client:shop"));
    assert_eq!(
        changes.audit[1].action,
        AuditAction::ClientDisabled {
            client: client("client:shop"),
            is_enabled: false
        }
    );
}

#[test]
fn a_session_ends_once() {
    let idle = Session {
        idle_until: at(-1),
        ..session(1)
    };
    let cases = [
        (
            "it is active",
            Some(session(1)),
            "commit : 1 session, 1 event, 1 audit",
        ),
        // Its last access token may be valid.
        ("it is idle", Some(idle), "commit : 1 session, 1 event, 1 audit"),
        (
            "another call ended it in the meantime",
            Some(session(1).revoked(RevokeReason::Requested, at(-1))),
            "abort ",
        ),
        ("it is gone", None, "abort "),
    ];
    for (name, found, expected) in cases {
        let state = Snapshot {
            sessions: found.into_iter().map(|session| stored(session, None)).collect(),
            ..state()
        };
        assert_eq!(
            line(&end_session(session_id(1), &cause(), &state)),
            expected,
            "{name}"
        );
    }
    let state = Snapshot {
        sessions: vec![stored(session(1), None), stored(session(2), None)],
        ..state()
    };
    let (changes, ()) = committed(end_session(session_id(1), &cause(), &state));
    assert_eq!(changes.sessions[0].id, session_id(1));
    assert_eq!(
        changes.audit[0],
        cause().record(EventTarget::Session(session_id(1)), 1)
    );
    assert!(matches!(
        &changes.events[0].body,
        EventBody::SessionRevoked {
            reason: RevokeReason::Requested,
            ..
        }
    ));
}

#[test]
fn a_token_ends_without_its_session() {
    let claims = AccessClaims {
        issuer: realm().issuer,
        subject: subject("user:ann"),
        audience: Audience::parse("api").unwrap(),
        token_id: token_id(),
        issued_at: at(-60),
        not_before: at(-70),
        expires_at: at(3540),
        scopes: [Scope::parse("videos:read").unwrap()].into_iter().collect(),
        roles: Vec::new(),
        labels: vec![label()],
        realm: realm().name,
        client: client("client:shop"),
        session: session_id(1),
        generation: 1,
        rev: Sequence(3),
        policy: revision(1),
    };
    let changes = end_token(&claims, &cause());
    assert_eq!(counted(&changes), "1 event, 1 audit");
    assert_eq!(changes.events[0].tokens_until, claims.expires_at);
    assert_eq!(changes.events[0].note, "leaked");
    assert_eq!(
        changes.audit[0],
        cause().record(EventTarget::Token(token_id()), 1)
    );
}
