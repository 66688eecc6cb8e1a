//! The session against the table of [`family`](crate::family), written a second time as a model that remembers
//! the whole history instead of two hashes.

use proptest::prelude::*;

use super::*;
use crate::id::ApiKeyId;

const START: i64 = 1_795_000_000;

fn limits() -> RealmLimits {
    RealmLimits {
        idle_ttl: Seconds::days(2),
        session_ttl_max: Seconds::days(5),
        ..RealmLimits::default()
    }
}

fn owner() -> ClientName {
    ClientName::parse("client:owner").unwrap()
}

fn thief() -> ClientName {
    ClientName::parse("client:thief").unwrap()
}

/// The hash of the secret of a generation.
fn secret(generation: u64) -> SecretHash {
    SecretHash::from_bytes([u8::try_from(generation % 251).unwrap(); 32])
}

fn wrong_secret() -> SecretHash {
    SecretHash::from_bytes([255; 32])
}

fn session() -> Session {
    let now = Timestamp::from_seconds(START);
    let limits = limits();
    Session {
        id: SessionId::generate(now, [1; 10]),
        realm: RealmName::parse("production").unwrap(),
        client: owner(),
        credential: ApiKeyId::parse("0123456789abcdef").unwrap().into(),
        subject: Subject::parse("user:ann").unwrap(),
        roles: Vec::new(),
        scopes: ScopeSet::default(),
        audience: Audience::parse("api").unwrap(),
        labels: Vec::new(),
        access_ttl: Seconds::HOUR,
        tombstone_ttl: limits.access_ttl_max,
        created_at: now,
        idle_until: now.plus(limits.idle_ttl),
        absolute_until: now.plus(limits.session_ttl_max),
        rev: Sequence(0),
        policy: PolicyRevision::parse("0123456789abcdef").unwrap(),
        state: SessionState::Active,
        family: Some(RefreshFamily {
            generation: 1,
            current: secret(1),
            previous: None,
        }),
        lost: ScopeSet::default(),
        refreshable: Refreshable::ByClient,
    }
}

/// The next action of a caller.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Present the token `back` generations before the current one (negative: after it).
    Present {
        back: i64,
        right_secret: bool,
        as_owner: bool,
    },
    /// Let time pass, or go backwards.
    Wait { millis: i64 },
    /// Revoke.
    Revoke,
}

/// The table, with the whole history instead of two hashes.
#[derive(Debug)]
struct Model {
    now: i64,
    generation: u64,
    spent_at: Option<i64>,
    replays: u8,
    /// When the last replay was counted.
    counted_at: i64,
    last_rotation: i64,
    revoked: Option<RevokeReason>,
}

impl Model {
    fn new() -> Self {
        let now = START * 1000;
        Self {
            now,
            generation: 1,
            spent_at: None,
            replays: 0,
            counted_at: now,
            last_rotation: now,
            revoked: None,
        }
    }

    fn expect(&self, generation: u64, right_secret: bool, as_owner: bool) -> Verdict {
        let limits = limits();
        let age = self.now - START * 1000;
        if !as_owner {
            return Verdict::Refuse(Refusal::WrongClient);
        }
        if let Some(reason) = self.revoked {
            return Verdict::Refuse(Refusal::Revoked(reason));
        }
        if age >= i64::from(limits.session_ttl_max.0) * 1000 {
            return Verdict::Refuse(Refusal::ExpiredAbsolute);
        }
        if self.now - self.last_rotation >= i64::from(limits.idle_ttl.0) * 1000 {
            return Verdict::Refuse(Refusal::ExpiredIdle);
        }
        match self.generation.cmp(&generation) {
            std::cmp::Ordering::Less => Verdict::Refuse(Refusal::Ahead),
            std::cmp::Ordering::Equal if right_secret => Verdict::Rotate,
            std::cmp::Ordering::Equal => Verdict::Refuse(Refusal::WrongSecret),
            std::cmp::Ordering::Greater if generation + 1 < self.generation => Verdict::Reuse,
            std::cmp::Ordering::Greater if !right_secret => Verdict::Refuse(Refusal::WrongSecret),
            std::cmp::Ordering::Greater => {
                let in_time = self.spent_at.is_some_and(|spent| self.now - spent <= 10_000);
                if !in_time {
                    Verdict::Reuse
                } else if self.is_together() || self.replays < limits.grace_replays_max {
                    Verdict::Replay
                } else {
                    Verdict::Refuse(Refusal::ReplaysUsed)
                }
            }
        }
    }

    /// Whether a replay now counts with the one before.
    fn is_together(&self) -> bool {
        (self.now - self.counted_at).abs() <= 50
    }

    fn follow(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Rotate => {
                self.generation += 1;
                self.spent_at = Some(self.now);
                self.replays = 0;
                self.counted_at = self.now;
                self.last_rotation = self.last_rotation.max(self.now);
            }
            Verdict::Replay if self.is_together() => {}
            Verdict::Replay => {
                self.replays += 1;
                self.counted_at = self.now;
            }
            Verdict::Reuse => self.revoked = Some(RevokeReason::Reuse),
            Verdict::Refuse(_) => {}
        }
    }
}

/// Applies a verdict to the session, as the authority does.
fn follow(session: &Session, verdict: Verdict, now: Timestamp) -> Session {
    match verdict {
        Verdict::Rotate => session.rotated(secret(session.generation() + 1), &limits(), now),
        Verdict::Replay => session.replayed(now),
        Verdict::Reuse => session.revoked(RevokeReason::Reuse, now),
        Verdict::Refuse(_) => session.clone(),
    }
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (prop_oneof![4 => Just(0), 4 => Just(1), 1 => -2..4i64], prop::bool::weighted(0.9), prop::bool::weighted(0.9))
            .prop_map(|(back, right_secret, as_owner)| Act::Present { back, right_secret, as_owner }),
        3 => prop_oneof![
            4 => 0..12_000i64,
            2 => 0..120i64,
            1 => -5_000..0i64,
            1 => Just(36 * 3_600_000i64),
        ].prop_map(|millis| Act::Wait { millis }),
        1 => Just(Act::Revoke),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_session_follows_the_table(acts in prop::collection::vec(act(), 1..60)) {
        let (mut session, mut model) = (session(), Model::new());
        for act in acts {
            let now = Timestamp::from_millis(model.now);
            match act {
                Act::Wait { millis } => model.now += millis,
                Act::Revoke => {
                    session = session.revoked(RevokeReason::Requested, now);
                    model.revoked = model.revoked.or(Some(RevokeReason::Requested));
                }
                Act::Present { back, right_secret, as_owner } => {
                    let Some(generation) = model.generation.checked_add_signed(-back).filter(|&g| g > 0) else { continue };
                    let client = if as_owner { owner() } else { thief() };
                    let secret = if right_secret { secret(generation) } else { wrong_secret() };
                    let verdict = session.present(&Presented { generation, secret, client: &client }, &limits(), now);
                    prop_assert_eq!(verdict, model.expect(generation, right_secret, as_owner));
                    session = follow(&session, verdict, now);
                    model.follow(verdict);
                }
            }
            prop_assert_eq!(session.generation(), model.generation);
            prop_assert_eq!(session.absolute_until, super::tests::session().absolute_until);
            prop_assert!(session.access_until(now) <= session.absolute_until);
            prop_assert!(session.idle_until <= session.absolute_until);
        }
    }

    #[test]
    fn a_final_state_stays(acts in prop::collection::vec(act(), 1..20)) {
        let mut session = session().revoked(RevokeReason::Reuse, Timestamp::from_seconds(START));
        let dead = session.clone();
        for act in acts {
            if let Act::Present { right_secret, .. } = act {
                let secret = if right_secret { secret(1) } else { wrong_secret() };
                let presented = Presented { generation: 1, secret, client: &owner() };
                let now = Timestamp::from_seconds(START);
                let verdict = session.present(&presented, &limits(), now);
                session = follow(&session, verdict, now);
            } else {
                session = session.revoked(RevokeReason::Requested, Timestamp::from_seconds(START + 9));
            }
            prop_assert_eq!(&session, &dead);
        }
    }
}

#[test]
fn grace_zero_turns_replays_off() {
    let limits = RealmLimits {
        grace: Seconds(0),
        ..limits()
    };
    let now = Timestamp::from_seconds(START);
    let session = session().rotated(secret(2), &limits, now);
    let presented = Presented {
        generation: 1,
        secret: secret(1),
        client: &owner(),
    };
    assert_eq!(session.present(&presented, &limits, now), Verdict::Reuse);
}

/// Fifty threads that refresh at once are one retry; retries that follow each other's answers are not.
#[test]
fn replays_that_come_together_count_once() {
    let start = Timestamp::from_seconds(START);
    let replays = |session: &Session| session.family.and_then(|family| family.previous).unwrap().replays;
    let mut session = session().rotated(secret(2), &limits(), start);
    for (millis, counted) in [(0, 0), (50, 0), (51, 1), (60, 1), (101, 1), (102, 2)] {
        session = session.replayed(start.plus_millis(millis));
        assert_eq!(replays(&session), counted, "after {millis} ms");
    }
}

#[test]
fn a_session_without_a_refresh_token_is_not_refreshed() {
    let session = Session {
        family: None,
        ..session()
    };
    let presented = Presented {
        generation: 0,
        secret: secret(0),
        client: &owner(),
    };
    let verdict = session.present(&presented, &limits(), Timestamp::from_seconds(START));
    assert_eq!(verdict, Verdict::Refuse(Refusal::NotRefreshable));
}

#[test]
fn a_tombstone_stays_as_long_as_an_access_token_can_live() {
    let now = Timestamp::from_seconds(START);
    let session = session();
    assert_eq!(
        session.removable_at(),
        session.idle_until.plus(session.tombstone_ttl).plus(LEEWAY_MAX)
    );
    assert_eq!(
        session.revoked(RevokeReason::Requested, now).removable_at(),
        now.plus(session.tombstone_ttl).plus(LEEWAY_MAX)
    );
    let late = session.absolute_until.minus(Seconds(5));
    assert_eq!(
        session.revoked(RevokeReason::Requested, late).removable_at(),
        session.absolute_until.plus(LEEWAY_MAX)
    );
}

#[test]
fn a_session_is_live_while_any_access_token_of_it_may_be_accepted() {
    let session = session();
    let just_before = session.idle_until.plus_millis(-1);
    assert_eq!(session.condition(just_before), Condition::Active);
    let accepted_until = session.access_until(just_before).plus(LEEWAY_MAX);
    assert!(session.is_live(accepted_until.plus_millis(-1)));
    // The last token may have been issued in the last second before the idle end.
    let over = session
        .idle_until
        .floor_to_second()
        .plus(session.access_ttl)
        .plus(LEEWAY_MAX);
    assert!(over.millis_since(accepted_until) <= 1000 && !session.is_live(over));
    let revoked = session.revoked(RevokeReason::Requested, just_before);
    assert!(!revoked.is_live(just_before));
    // No token outlives the absolute end.
    let late = Session {
        idle_until: session.absolute_until,
        ..session
    };
    let over = late.absolute_until.plus(LEEWAY_MAX);
    assert!(late.is_live(over.plus_millis(-1)) && !late.is_live(over));
}

#[test]
fn a_hash_never_shows_itself() {
    assert_eq!(format!("{:?}", secret(7)), "SecretHash(..)");
}
