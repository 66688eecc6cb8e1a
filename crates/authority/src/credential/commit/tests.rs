//! Making and rolling keys as tables.

use tessera_core::Seconds;
use tessera_store::ClientState;

use super::*;
use crate::testing::{api_key, at, client, committed, key_id, line, realm, state};

/// Key 2, made by key 1 just now.
fn made() -> ApiKey {
    ApiKey {
        made_with: Some(key_id(1)),
        created_at: at(0),
        ..api_key(2)
    }
}

fn create(record: ApiKey) -> CreateCommit {
    CreateCommit {
        record,
        actor: Actor::Operator,
    }
}

fn roll() -> RollCommit {
    RollCommit {
        id: key_id(3),
        successor: made(),
        overlap: Seconds(60),
        actor: Actor::Operator,
        now: at(0),
    }
}

fn with_keys(keys: impl IntoIterator<Item = ApiKey>) -> Snapshot {
    Snapshot {
        api_keys: keys.into_iter().collect(),
        ..state()
    }
}

fn revoked(key: ApiKey) -> ApiKey {
    ApiKey {
        revoked_at: Some(at(-1)),
        ..key
    }
}

fn expired(key: ApiKey) -> ApiKey {
    ApiKey {
        expires_at: Some(at(0)),
        ..key
    }
}

fn disabled(state: Snapshot) -> Snapshot {
    let of_client = ClientState {
        is_disabled: true,
        sessions: 0,
    };
    Snapshot {
        clients: vec![(realm().name, client("client:app"), of_client)],
        ..state
    }
}

#[test]
fn creating_as_a_table() {
    let by_operator = ApiKey {
        made_with: None,
        ..made()
    };
    let cases = [
        (
            "by a key that works",
            create(made()),
            state(),
            "commit Ok: 1 key, 1 audit",
        ),
        (
            "by the operator",
            create(by_operator),
            with_keys([]),
            "commit Ok: 1 key, 1 audit",
        ),
        (
            "by a key that is revoked",
            create(made()),
            with_keys([revoked(api_key(1))]),
            "abort CredentialEnded",
        ),
        (
            "by a key that has expired",
            create(made()),
            with_keys([expired(api_key(1))]),
            "abort CredentialEnded",
        ),
        (
            "by a key that is gone",
            create(made()),
            with_keys([]),
            "abort CredentialEnded",
        ),
        (
            "by a disabled client",
            create(made()),
            disabled(state()),
            "abort CredentialEnded",
        ),
        (
            "with the id of another",
            create(made()),
            with_keys([api_key(1), api_key(2)]),
            "abort Unavailable",
        ),
    ];
    for (name, commit, state, expected) in cases {
        assert_eq!(line(&commit.decide(&state)), expected, "{name}");
    }
}

#[test]
fn rolling_as_a_table() {
    let rolled_before = ApiKey {
        successor: Some(key_id(4)),
        ..api_key(3)
    };
    let old = |key: ApiKey| with_keys([api_key(1), key]);
    let cases = [
        ("a key that works", old(api_key(3)), "commit Ok: 2 key, 1 audit"),
        ("one that is revoked", old(revoked(api_key(3))), "abort Field"),
        ("one that has expired", old(expired(api_key(3))), "abort Field"),
        ("one that was rolled", old(rolled_before), "abort Field"),
        ("one that is gone", with_keys([api_key(1)]), "abort Field"),
        (
            "by a key that is revoked",
            with_keys([revoked(api_key(1)), api_key(3)]),
            "abort CredentialEnded",
        ),
        (
            "by a disabled client",
            disabled(old(api_key(3))),
            "abort CredentialEnded",
        ),
    ];
    for (name, state, expected) in cases {
        assert_eq!(line(&roll().decide(&state)), expected, "{name}");
    }
}

#[test]
fn the_old_key_works_on_for_the_overlap_but_not_longer_than_it_would_have() {
    for (end, expected) in [(None, at(60)), (Some(at(600)), at(60)), (Some(at(5)), at(5))] {
        let old = ApiKey {
            expires_at: end,
            ..api_key(3)
        };
        let (changes, rolled) = committed(roll().decide(&with_keys([api_key(1), old])));
        let rolled = rolled.unwrap();
        assert_eq!(rolled.expires_at, Some(expected), "{end:?}");
        assert_eq!(rolled.successor, Some(key_id(2)));
        assert_eq!(changes.api_keys, [rolled, made()]);
    }
}
