//! The writes of each step of a rotation, as a table.

use tessera_core::{EventBody, KeyId};

use super::*;
use crate::testing::{at, signing_key};

/// A key whose tokens live for 1,000 s at most.
fn key(letter: &str, realm: &str, status: KeyStatus) -> SigningKey {
    SigningKey {
        id: KeyId::parse(&format!("k4.pid.{}", letter.repeat(44))).unwrap(),
        realm: RealmName::parse(realm).unwrap(),
        status,
        not_before: at(-600),
        not_after: None,
        token_ttl_max: Seconds(1000),
        ..signing_key(1)
    }
}

/// The letter by which a test names a key.
fn letter(id: &KeyId) -> char {
    id.as_str().chars().last().unwrap()
}

/// The keys, the events and the audit records of a change, in short.
fn told(changes: &Changes) -> String {
    let seconds = |time: Timestamp| time.as_seconds() - at(0).as_seconds();
    let keys = changes.signing_keys.iter().map(|key| {
        let until = key
            .not_after
            .map_or(String::new(), |until| format!("-{}", seconds(until)));
        format!(
            "{} {:?} {}{until}",
            letter(&key.id),
            key.status,
            seconds(key.not_before)
        )
    });
    let events = changes.events.iter().map(|event| {
        let body = match &event.body {
            EventBody::KeyPublished { key } => format!("published {}", letter(key)),
            EventBody::KeyActivated { key } => format!("activated {}", letter(key)),
            other => format!("{other:?}"),
        };
        format!("{body} -{}", seconds(event.tokens_until))
    });
    let audit = changes.audit.iter().map(|record| match &record.action {
        AuditAction::SigningKeyCreated { key } => format!("created {}", letter(key)),
        AuditAction::SigningKeyActivated { key, retired } => {
            format!("{} for {:?}", letter(key), retired.as_ref().map(letter))
        }
        other => format!("{other:?}"),
    });
    let parts: [Vec<String>; 3] = [keys.collect(), events.collect(), audit.collect()];
    parts.map(|part| part.join(", ")).join("; ")
}

#[test]
fn the_table() {
    use KeyStatus::{Active, Published, Retired, Revoked};
    let realm = RealmName::parse("production").unwrap();
    let change = KeyChange {
        realm: &realm,
        actor: &Actor::Operator,
        now: at(0),
    };
    let new = || key("n", "production", Active);
    let none: [SigningKey; 0] = [];
    let one = [
        key("a", "production", Active),
        key("o", "production", Retired),
        key("r", "production", Revoked),
        key("s", "sandbox", Active),
    ];
    let cases = [
        (
            "a new key is published, and the active one goes on",
            change.publish(new(), Seconds(600)),
            "n Published 600; published n -1000; created n",
        ),
        (
            "the first key of a realm",
            change.begin(new(), none.iter()),
            "n Active -600; published n -1000, activated n -1000; created n, n for None",
        ),
        (
            "a new key signs at once: only the active one of its realm retires",
            change.begin(new(), one.iter()),
            "a Retired -600-1000, n Active -600; published n -1000, activated n -1000; created n, n for Some('a')",
        ),
        (
            "a published key signs: only the active one of its realm retires",
            change.activate(key("p", "production", Published), one.iter()),
            "a Retired -600-1000, p Active 0; activated p -1000; p for Some('a')",
        ),
        (
            "a published key signs where no other does",
            change.activate(key("p", "production", Published), none.iter()),
            "p Active 0; activated p -1000; p for None",
        ),
    ];
    for (name, changes, expected) in cases {
        assert_eq!(told(&changes), expected, "{name}");
        let who = changes
            .audit
            .iter()
            .map(|record| (&record.realm, &record.actor, record.at));
        assert!(
            who.into_iter()
                .all(|who| who == (&realm, &Actor::Operator, at(0))),
            "{name}"
        );
    }
}
