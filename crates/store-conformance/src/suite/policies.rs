//! Policies, and what is kept once for the whole store.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tessera_core::{PolicyRevision, Sequence};
use tessera_store::{Changes, Decision, PolicyFiles, Reads, SettingChange, Snapshot};

use super::state::{Shared, set, settings};
use crate::fixture::{at, purge_before, realm, session, session_revoked, write};

/// A grant by another policy must not be committed.
pub async fn the_policy_in_force_is_what_was_committed_last(store: &Shared) {
    let in_force = async || {
        let decide = |state: &Snapshot| Decision::Abort(state.policy_in_force().copied());
        let (decided, _) = store.commit(Reads::default(), decide).await.unwrap();
        let read = store.read(Reads::default()).await.unwrap();
        assert_eq!(read.policy_in_force(), decided.as_ref());
        decided
    };
    assert_eq!(in_force().await, None);
    for number in [1, 2, 1] {
        set(store, SettingChange::PolicyInForce(revision(number))).await;
        assert_eq!(in_force().await, Some(revision(number)));
    }
}

fn revision(number: u8) -> PolicyRevision {
    PolicyRevision::parse(&format!("{number:016x}")).unwrap()
}

/// Files that are larger than a row should be.
fn policy_files(number: u8) -> PolicyFiles {
    vec![
        ("catalogue.toml".to_owned(), vec![number; 100_000]),
        ("policy.csv".to_owned(), vec![number]),
    ]
}

/// Keeps a policy, and reconciles it.
async fn reconcile(store: &Shared, number: u8, second: i64) {
    let changes = Changes {
        policies: vec![(revision(number), policy_files(number))],
        settings: vec![SettingChange::PolicyReconciled(revision(number), at(second))],
        ..Changes::default()
    };
    write(store, changes).await;
}

pub async fn policies_are_kept_whole(store: &Shared) {
    assert_eq!(settings(store).await.policy_reconciled, None);
    assert_eq!(store.policy_files(&revision(1)).await.unwrap(), None);
    // The second time it is kept already: nothing changes.
    let twice = Changes {
        policies: vec![(revision(1), policy_files(1)), (revision(1), Vec::new())],
        ..Changes::default()
    };
    write(store, twice).await;
    assert_eq!(
        store.policy_files(&revision(1)).await.unwrap(),
        Some(Arc::new(policy_files(1)))
    );
    assert_eq!(settings(store).await.policy_reconciled, None);
    reconcile(store, 1, 10).await;
    reconcile(store, 2, 20).await;
    assert_eq!(settings(store).await.policy_reconciled, Some(revision(2)));
    assert_eq!(
        store.policy_files(&revision(1)).await.unwrap(),
        Some(Arc::new(policy_files(1)))
    );
    assert_eq!(
        store.policy_files(&revision(2)).await.unwrap(),
        Some(Arc::new(policy_files(2)))
    );
}

pub async fn a_decision_reads_the_policies_that_units_before_it_kept(store: &Shared) {
    reconcile(store, 1, 10).await;
    let keep = |_: &Snapshot| {
        let changes = Changes {
            policies: vec![(revision(2), policy_files(2)), (revision(1), Vec::new())],
            events: vec![session_revoked(&session(1), 100)],
            ..Changes::default()
        };
        Decision::Commit(changes, ())
    };
    let reads = || Reads::default().policy(revision(1)).policy(revision(2));
    // The position shows which of both was decided first; they may be in one group.
    let read = |state: &Snapshot| Decision::Abort((state.head(), state.policies.clone()));
    let (_, found) = tokio::join!(store.commit(reads(), keep), store.commit(reads(), read));
    let ((head, found), _) = found.unwrap();
    let kept = |numbers: std::ops::RangeInclusive<u8>| -> Vec<_> {
        numbers
            .map(|number| (revision(number), Arc::new(policy_files(number))))
            .collect()
    };
    assert!(found == kept(1..=if head == Sequence(0) { 1 } else { 2 }));
    assert!(store.read(reads()).await.unwrap().policies == kept(1..=2));
}

pub async fn the_last_staleness_bound_of_a_realm_is_kept(store: &Shared) {
    let (production, sandbox) = (realm("production"), realm("sandbox"));
    assert_eq!(settings(store).await.staleness_bounds, BTreeMap::new());
    for (of, seconds) in [
        (&production, 5),
        (&sandbox, 7),
        (&production, 60),
        (&production, 3),
    ] {
        let bound = Duration::from_secs(seconds);
        set(store, SettingChange::StalenessBound(of.clone(), bound)).await;
    }
    let kept = [(production, 3), (sandbox, 7)].map(|(of, seconds)| (of, Duration::from_secs(seconds)));
    assert_eq!(settings(store).await.staleness_bounds, BTreeMap::from(kept));
}

pub async fn a_purge_removes_policies_that_were_replaced(store: &Shared) {
    for (number, second) in [(1, 10), (2, 20), (1, 30), (3, 40)] {
        reconcile(store, number, second).await;
    }
    let kept = async || {
        let mut kept = Vec::new();
        for number in 1..=3 {
            if let Some(files) = store.policy_files(&revision(number)).await.unwrap() {
                assert_eq!(*files, policy_files(number));
                kept.push(number);
            }
        }
        kept
    };
    // The second was replaced at 30, the first at 20 and, in force again, at 40.
    let report = purge_before(store, at(100), at(30), 1000).await;
    assert_eq!(report.records, 0);
    let report = purge_before(store, at(100), at(31), 1000).await;
    assert_eq!(report.records, 1);
    assert_eq!(kept().await, [1, 3]);
    purge_before(store, at(1000), at(1000), 1000).await;
    assert_eq!(kept().await, [3]);
    assert_eq!(settings(store).await.policy_reconciled, Some(revision(3)));
    reconcile(store, 1, 50).await;
    assert_eq!(kept().await, [1, 3]);
}
