//! From the wire's events and keys to the domain. An unknown one is never ignored.

use tessera_core::{
    Audience, ClientName, Event, EventBody, KeyId, Label, PolicyRevision, RealmName, RevokeReason, Scope,
    Seconds, Sequence, SessionId, Subject, Timestamp, TokenId,
};
use tessera_proto::v1::{self, EventKind, KeyStatus, revocation_event::Target};
use tessera_token::{Keyring, VerifyingKey};

/// The part of an event that concerns a verifier.
pub(super) struct Understood {
    /// What it revokes, if anything.
    pub(super) revocation: Option<Event>,
    /// Whether the verifying keys changed.
    pub(super) changes_keys: bool,
}

/// The meaning of an event; `None` if this verifier does not know it.
pub(super) fn understand(
    wire: &v1::RevocationEvent,
    realm: &RealmName,
    audience: &Audience,
) -> Option<Understood> {
    if wire.realm != realm.as_str() {
        return None;
    }
    let kind = EventKind::try_from(wire.kind).ok()?;
    let changes_keys = match kind {
        EventKind::KeyPublished | EventKind::KeyActivated | EventKind::KeyRevoked => true,
        EventKind::Unspecified => return None,
        EventKind::TokenRevoked
        | EventKind::SessionRevoked
        | EventKind::ScopesNarrowed
        | EventKind::SubjectRevoked
        | EventKind::ClientRevoked
        | EventKind::LabelRevoked
        | EventKind::RealmRevoked
        | EventKind::PolicyApplied
        | EventKind::ApiKeyRevoked => false,
    };
    let is_revocation = !matches!(
        kind,
        EventKind::KeyPublished
            | EventKind::KeyActivated
            | EventKind::PolicyApplied
            | EventKind::ApiKeyRevoked
    );
    let revocation = match is_revocation {
        true => Some(event(wire, body(wire, kind, audience)?, realm)?),
        false => None,
    };
    Some(Understood {
        revocation,
        changes_keys,
    })
}

fn event(wire: &v1::RevocationEvent, body: EventBody, realm: &RealmName) -> Option<Event> {
    Some(Event {
        sequence: Sequence(wire.sequence),
        occurred_at: timestamp(wire.occurred_at.as_ref()?),
        relevant_until: timestamp(wire.relevant_until.as_ref()?),
        realm: realm.clone(),
        note: String::new(),
        body,
    })
}

/// The wire does not say whose a token or a session was: the filter has checked the audience, and a verifier uses
/// neither.
fn body(wire: &v1::RevocationEvent, kind: EventKind, audience: &Audience) -> Option<EventBody> {
    let unnamed = || ClientName::from_short("unnamed").ok();
    let audience = || audience.clone();
    Some(match (kind, wire.target.as_ref()?) {
        (EventKind::TokenRevoked, Target::Jti(id)) => EventBody::TokenRevoked {
            token: TokenId::parse(id).ok()?,
            client: unnamed()?,
            audience: audience(),
        },
        (EventKind::SessionRevoked, Target::SessionId(id)) => EventBody::SessionRevoked {
            session: SessionId::parse(id).ok()?,
            client: unnamed()?,
            audience: audience(),
            reason: RevokeReason::Requested,
        },
        (EventKind::ScopesNarrowed, Target::SessionId(id)) => EventBody::ScopesNarrowed {
            session: SessionId::parse(id).ok()?,
            client: unnamed()?,
            audience: audience(),
            lost: wire
                .lost_scopes
                .iter()
                .map(|scope| Scope::parse(scope))
                .collect::<Result<_, _>>()
                .ok()?,
            policy: PolicyRevision::parse(&wire.policy_revision).ok()?,
        },
        (EventKind::SubjectRevoked, Target::Subject(subject)) => EventBody::SubjectRevoked {
            subject: Subject::parse(subject).ok()?,
        },
        (EventKind::ClientRevoked, Target::Client(client)) => EventBody::ClientRevoked {
            client: ClientName::parse(client).ok()?,
        },
        (EventKind::LabelRevoked, Target::Label(label)) => EventBody::LabelRevoked {
            label: Label::parse(label).ok()?,
        },
        (EventKind::RealmRevoked, Target::WholeRealm(true)) => EventBody::RealmRevoked,
        (EventKind::KeyRevoked, Target::KeyId(key)) => EventBody::KeyRevoked {
            key: KeyId::parse(key).ok()?,
        },
        // A target that does not belong to its kind, or a kind that revokes nothing here.
        (
            EventKind::Unspecified
            | EventKind::TokenRevoked
            | EventKind::SessionRevoked
            | EventKind::SubjectRevoked
            | EventKind::ClientRevoked
            | EventKind::LabelRevoked
            | EventKind::RealmRevoked
            | EventKind::KeyPublished
            | EventKind::KeyActivated
            | EventKind::KeyRevoked
            | EventKind::ApiKeyRevoked
            | EventKind::PolicyApplied
            | EventKind::ScopesNarrowed,
            _,
        ) => return None,
    })
}

pub(super) fn timestamp(wire: &prost_types::Timestamp) -> Timestamp {
    Timestamp::from_seconds(wire.seconds).plus_millis(i64::from(wire.nanos) / 1_000_000)
}

/// The verifying keys of the realm. A key that can't be read, or whose use is not known here, verifies nothing. A
/// retired key keeps verifying for the leeway of its last token.
pub(super) fn keyring(keys: &[v1::VerifyingKey], realm: &RealmName, leeway: Seconds) -> Keyring {
    let mut keyring = Keyring::default();
    for key in keys.iter().filter(|key| key.realm == realm.as_str()) {
        let verifies = match key.status() {
            KeyStatus::Published | KeyStatus::Active | KeyStatus::Retired => true,
            KeyStatus::Unspecified | KeyStatus::Revoked => false,
        };
        let not_after = key.not_after.as_ref().map(|end| timestamp(end).plus(leeway));
        match VerifyingKey::parse(&key.paserk, realm.clone(), key.issuer.clone(), not_after) {
            Ok(parsed) if verifies && parsed.id().as_str() == key.kid => keyring.insert(parsed),
            Ok(_) if !verifies => {}
            Ok(_) | Err(_) => tracing::warn!(kid = key.kid, "a verifying key can't be read"),
        }
    }
    keyring
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> (RealmName, Audience) {
        (
            RealmName::parse("production").unwrap(),
            Audience::parse("api").unwrap(),
        )
    }

    fn session_revoked() -> v1::RevocationEvent {
        v1::RevocationEvent {
            sequence: 7,
            cursor: "c".to_owned(),
            kind: EventKind::SessionRevoked.into(),
            occurred_at: Some(prost_types::Timestamp::default()),
            relevant_until: Some(prost_types::Timestamp::default()),
            realm: "production".to_owned(),
            reason: "a reason of a newer server".to_owned(),
            target: Some(Target::SessionId(
                "0190a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2b".to_owned(),
            )),
            ..v1::RevocationEvent::default()
        }
    }

    #[test]
    fn what_is_not_understood_is_not_passed_over() {
        let (realm, audience) = names();
        let good = session_revoked();
        let understood = understand(&good, &realm, &audience).unwrap();
        assert!(understood.revocation.is_some() && !understood.changes_keys);
        let spoil = |spoil: fn(&mut v1::RevocationEvent)| {
            let mut event = session_revoked();
            spoil(&mut event);
            understand(&event, &realm, &audience).is_none()
        };
        assert!(spoil(|event| event.kind = 99));
        assert!(spoil(|event| event.kind = 0));
        assert!(spoil(|event| event.target = None));
        assert!(spoil(|event| event.target = Some(Target::WholeRealm(true))));
        assert!(spoil(
            |event| event.target = Some(Target::SessionId("x".to_owned()))
        ));
        assert!(spoil(|event| event.relevant_until = None));
        assert!(spoil(|event| event.realm = "sandbox".to_owned()));
    }

    #[test]
    fn every_kind_of_the_contract_is_known() {
        let (realm, audience) = names();
        let mut changing_keys = 0;
        for kind in 1..=12 {
            let event = v1::RevocationEvent {
                kind,
                policy_revision: "0123456789abcdef".to_owned(),
                target: Some(match EventKind::try_from(kind).unwrap() {
                    EventKind::TokenRevoked => Target::Jti("0190a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2b".to_owned()),
                    EventKind::SubjectRevoked => Target::Subject("user:ann".to_owned()),
                    EventKind::ClientRevoked => Target::Client("client:app".to_owned()),
                    EventKind::LabelRevoked => Target::Label("stream:1".to_owned()),
                    EventKind::RealmRevoked => Target::WholeRealm(true),
                    EventKind::KeyRevoked => Target::KeyId(format!("k4.pid.{}", "a".repeat(44))),
                    _ => Target::SessionId("0190a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2b".to_owned()),
                }),
                ..session_revoked()
            };
            let understood = understand(&event, &realm, &audience);
            changing_keys += usize::from(understood.expect("known").changes_keys);
        }
        assert_eq!(changing_keys, 3);
        assert!(EventKind::try_from(14).is_err(), "a new kind wants a place here");
    }
}
