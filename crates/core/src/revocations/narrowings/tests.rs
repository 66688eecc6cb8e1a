//! Compares with a map that does the same without saving memory, and measures the cost of a session.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn session(number: u32) -> SessionId {
    let mut random = [0; 10];
    random[6..].copy_from_slice(&number.to_be_bytes());
    SessionId::generate(Timestamp::from_seconds(1_795_000_000), random)
}

fn at(seconds: u32) -> Timestamp {
    Timestamp::from_seconds(seconds.into())
}

fn scope(number: u8) -> Scope {
    Scope::parse(&format!("videos/v{number}:play")).unwrap()
}

/// The losses of each session, with the last event that took each scope; and how long they are kept.
type Plain = HashMap<u32, (HashMap<u8, u64>, u32)>;

proptest! {
    #[test]
    fn it_has_what_a_map_has(
        steps in prop::collection::vec(
            (0u32..6, prop::collection::btree_set(0u8..4, 1..4), 0u32..100, prop::bool::weighted(0.1)),
            0..60,
        ),
    ) {
        let (mut thrifty, mut plain) = (Narrowings::default(), Plain::new());
        for (place, (number, lost, time, forgets)) in (1..).zip(steps) {
            if forgets {
                thrifty.forget_expired(at(time));
                plain.retain(|_, (_, until)| *until >= time);
            } else {
                let scopes = lost.iter().map(|number| scope(*number)).collect();
                thrifty.add(&session(number), &scopes, Sequence(place), at(time));
                let (taken, until) = plain.entry(number).or_default();
                taken.extend(lost.into_iter().map(|lost| (lost, place)));
                *until = time.max(*until);
            }
            prop_assert_eq!(thrifty.len(), plain.len());
        }
        for (number, lost, rev) in questions(60) {
            let taken = plain.get(&number).and_then(|(taken, _)| taken.get(&lost));
            let expected = taken.is_some_and(|taken| rev < *taken);
            prop_assert_eq!(thrifty.took(&session(number), &scope(lost), Sequence(rev)), expected);
        }
        thrifty.forget_expired(at(1000));
        prop_assert_eq!(thrifty.losses.places.len(), 0);
        prop_assert_eq!(thrifty.losses.free.len(), thrifty.losses.kept.len());
    }
}

fn questions(last: u64) -> impl Iterator<Item = (u32, u8, u64)> {
    (0..6).flat_map(move |number| (0..4).flat_map(move |lost| (0..=last).map(move |rev| (number, lost, rev))))
}

#[test]
fn an_event_that_came_before_is_passed_over() {
    let mut narrowings = Narrowings::default();
    let lost = |number| ScopeSet::from_iter([scope(number)]);
    narrowings.add(&session(1), &lost(1), Sequence(7), at(10));
    narrowings.add(&session(1), &lost(2), Sequence(5), at(10));
    assert!(narrowings.took(&session(1), &scope(1), Sequence(6)));
    assert!(!narrowings.took(&session(1), &scope(2), Sequence(4)));
    // The same again changes nothing.
    narrowings.add(&session(1), &lost(1), Sequence(7), at(10));
    assert!(narrowings.took(&session(1), &scope(1), Sequence(6)));
    assert!(!narrowings.took(&session(1), &scope(1), Sequence(7)));
}

#[test]
fn what_many_lost_is_kept_once() {
    let mut narrowings = Narrowings::default();
    let lost = ScopeSet::from_iter([scope(1), scope(2)]);
    for number in 0..10_000 {
        narrowings.add(&session(number), &lost, Sequence(u64::from(number) + 1), at(10));
    }
    assert_eq!(narrowings.losses.kept.len(), 1);
    // All of them lose more, at other positions of the log.
    let more = ScopeSet::from_iter([scope(3)]);
    for number in 0..10_000 {
        narrowings.add(
            &session(number),
            &more,
            Sequence(u64::from(number) + 20_000),
            at(10),
        );
    }
    assert_eq!(narrowings.losses.places.len(), 1);
    assert!(narrowings.took(&session(7), &scope(1), Sequence(7)));
    assert!(!narrowings.took(&session(7), &scope(1), Sequence(8)));
    // A scope that is lost a second time is not kept twice.
    narrowings.add(&session(7), &lost, Sequence(50_000), at(10));
    let narrowed = narrowings.sessions.get(session(7).as_bytes()).unwrap();
    assert_eq!(narrowings.losses.get(narrowed.losses).len(), 3);
}
