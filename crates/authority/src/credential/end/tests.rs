//! Which keys end with a key, as a table.

use super::*;
use crate::testing::{api_key, at, cause, client, committed, key_id, line, realm, state};

fn end(with_made_keys: bool) -> EndApiKeys {
    EndApiKeys {
        id: key_id(1),
        with_made_keys,
        validate_only: false,
        check_may_end: Box::new(|of| {
            let refused = CallNotAllowed {
                required: format!("keys of {of}"),
                client: client("client:app"),
                realm: realm().name,
            };
            (*of != client("client:other")).then_some(()).ok_or(refused)
        }),
        until: at(3600),
        cause: cause(),
    }
}

fn made_by(number: u64, maker: u64) -> ApiKey {
    ApiKey {
        made_with: Some(key_id(maker)),
        ..api_key(number)
    }
}

fn rolled_to(key: ApiKey, successor: u64) -> ApiKey {
    ApiKey {
        successor: Some(key_id(successor)),
        ..key
    }
}

/// A state in which all of these are read, with the keys that each made.
fn with(keys: &[ApiKey]) -> Snapshot {
    let made_with = |maker: &ApiKey| {
        let made = keys
            .iter()
            .filter(|key| key.made_with.as_ref() == Some(&maker.id));
        (maker.id, made.cloned().collect())
    };
    Snapshot {
        api_keys: keys.to_vec(),
        made: keys.iter().map(made_with).collect(),
        ..state()
    }
}

/// The numbers of the keys that end, and of those that keep working.
fn descent(end: &EndApiKeys, keys: &[ApiKey]) -> (Vec<u64>, Vec<u64>) {
    let (changes, descent) = committed(end.decide(&with(keys)));
    let descent = descent.unwrap();
    assert_eq!(changes.api_keys.len(), changes.events.len());
    assert_eq!(changes.api_keys.len(), changes.audit.len());
    assert!(changes.api_keys.iter().all(|key| key.revoked_at == Some(at(0))));
    let number = |id: &ApiKeyId| id.as_str().parse().unwrap();
    let mut ends: Vec<_> = descent.ends.iter().map(number).collect();
    ends.sort_unstable();
    (ends, descent.goes_on.iter().map(number).collect())
}

/// A name, whether made keys end too, the keys, and the numbers of those that end and of those that keep working.
type Case<'a> = (&'a str, bool, &'a [ApiKey], &'a [u64], &'a [u64]);

#[test]
fn the_table() {
    let revoked = |key: ApiKey| ApiKey {
        revoked_at: Some(at(-1)),
        ..key
    };
    let chain = [rolled_to(api_key(1), 2), rolled_to(api_key(2), 3), api_key(3)];
    let tree = [api_key(1), made_by(2, 1), made_by(3, 2), made_by(4, 1)];
    let dead_child = [api_key(1), revoked(made_by(2, 1)), made_by(3, 2)];
    let both = [rolled_to(api_key(1), 2), made_by(2, 1), made_by(3, 2)];
    let circle = [rolled_to(api_key(1), 2), rolled_to(api_key(2), 1)];
    let cases: [Case<'_>; 9] = [
        ("one key", false, &[api_key(1)], &[1], &[]),
        ("its successors end with it", false, &chain, &[1, 2, 3], &[]),
        ("what it made goes on and is named", false, &tree, &[1], &[2, 4]),
        (
            "what it made ends, all the way down",
            true,
            &tree,
            &[1, 2, 3, 4],
            &[],
        ),
        ("what has ended is not named", false, &dead_child, &[1], &[]),
        (
            "what a dead key made ends, too",
            true,
            &dead_child,
            &[1, 2, 3],
            &[],
        ),
        ("a successor that it made itself", false, &both, &[1, 2], &[3]),
        ("a circle, which no roll can make", false, &circle, &[1, 2], &[]),
        (
            "one that has ended is named again",
            false,
            &[revoked(api_key(1))],
            &[1],
            &[],
        ),
    ];
    for (name, with_made_keys, keys, ends, goes_on) in cases {
        let found = descent(&end(with_made_keys), keys);
        assert_eq!(found, (ends.to_vec(), goes_on.to_vec()), "{name}");
    }
}

#[test]
fn what_is_not_read_yet_is_read_before_anything_ends() {
    let all = [rolled_to(api_key(1), 2), api_key(2)];
    let mut state = with(&all);
    state.api_keys.pop();
    state.made.pop();
    assert_eq!(line(&end(false).decide(&state)), "read more");
    // A key that was looked up and is gone is not looked up again.
    state.made.push((key_id(2), Vec::new()));
    assert_eq!(
        line(&end(false).decide(&state)),
        "commit Ok: 1 key, 1 event, 1 audit"
    );
}

#[test]
fn a_key_that_the_caller_may_not_end_keeps_all_of_them() {
    let of_other = ApiKey {
        client: client("client:other"),
        ..made_by(2, 1)
    };
    let state = with(&[api_key(1), of_other]);
    let Decision::Abort(Err(refused)) = end(true).decide(&state) else {
        panic!("it ends a key of another client")
    };
    assert_eq!(refused.required, "keys of client:other");
    assert_eq!(
        line(&end(false).decide(&state)),
        "commit Ok: 1 key, 1 event, 1 audit"
    );
}

#[test]
fn a_call_that_only_counts_writes_nothing() {
    let counts = EndApiKeys {
        validate_only: true,
        ..end(true)
    };
    assert_eq!(
        line(&counts.decide(&with(&[api_key(1), made_by(2, 1)]))),
        "abort Ok"
    );
}

#[test]
fn a_key_that_has_ended_is_written_no_more() {
    let ended = ApiKey {
        revoked_at: Some(at(-9)),
        ..rolled_to(api_key(1), 2)
    };
    let state = with(&[ended, api_key(2)]);
    assert_eq!(
        line(&end(false).decide(&state)),
        "commit Ok: 1 key, 1 event, 1 audit"
    );
}
