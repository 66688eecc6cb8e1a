use tessera_store::AuditHead;
use tessera_store_conformance::fixture::{audit_record, session};

use super::*;

fn database() -> Db {
    sled::Config::new().temporary(true).open().unwrap()
}

fn apply(db: &Db, changes: AuditChanges) {
    let mut rows = RowChanges::default();
    changes.write(db, &mut rows).unwrap();
    rows.apply_to(db);
}

/// Appends records in one group, and removes those up to a position.
fn append(db: &Db, head: &mut AuditHead, count: u64, gone: u64) {
    let mut changes = AuditChanges::default();
    changes.remove_through(gone);
    for number in 0..count {
        let record = audit_record(i64::try_from(number).unwrap(), session(1).id);
        let (next, encoded) = head.append(&record).unwrap();
        changes.push(next.position, head.link, &encoded).unwrap();
        *head = next;
    }
    apply(db, changes);
}

fn positions(db: &Db, from: u64, through: u64) -> Vec<u64> {
    let found: Result<Vec<_>, _> = entries(db, from, through).collect();
    found.unwrap().iter().map(|entry| entry.position).collect()
}

#[test]
fn what_a_group_records_is_few_rows_with_all_links() {
    let (db, mut head) = (database(), AuditHead::EMPTY);
    append(&db, &mut head, 3, 0);
    append(&db, &mut head, 200, 0);
    assert!((2..20).contains(&db.len()), "{} rows", db.len());
    let found: Vec<_> = entries(&db, 0, u64::MAX).map(Result::unwrap).collect();
    assert_eq!(found.len(), 203);
    let mut link = AuditLink::BEGIN;
    for (entry, position) in found.iter().zip(1..) {
        assert_eq!((entry.position, entry.previous), (position, link));
        link = entry.link();
    }
    assert_eq!(link, head.link);
}

#[test]
fn a_part_is_read_wherever_its_rows_begin() {
    let (db, mut head) = (database(), AuditHead::EMPTY);
    for count in [1, 5, 1, 90, 3] {
        append(&db, &mut head, count, 0);
    }
    for from in 0..=101 {
        for through in [from, from + 1, from + 40, 1000] {
            let expected: Vec<_> = (from.max(1)..=through.min(100)).collect();
            assert_eq!(positions(&db, from, through), expected, "{from} to {through}");
        }
    }
}

#[test]
fn what_is_removed_may_end_within_a_row() {
    for gone in 0..=10 {
        let (db, mut head) = (database(), AuditHead::EMPTY);
        append(&db, &mut head, 4, 0);
        append(&db, &mut head, 6, 0);
        append(&db, &mut head, 2, gone);
        let expected: Vec<_> = (gone + 1..=12).collect();
        assert_eq!(positions(&db, 0, u64::MAX), expected);
        let first = entries(&db, 0, u64::MAX).next().unwrap().unwrap();
        let after = entries(&db, gone + 2, u64::MAX).next().unwrap().unwrap();
        assert_eq!(after.previous, first.link(), "links go on");
    }
}

#[test]
fn a_row_that_is_cut_off_is_damage_and_the_end() {
    let (db, mut head) = (database(), AuditHead::EMPTY);
    append(&db, &mut head, 3, 0);
    let key = rows::audit_key(1);
    let value = db.get(&key).unwrap().unwrap();
    for length in [0, 10, 40, value.len() - 1] {
        db.insert(&key, &value[..length]).unwrap();
        let found: Vec<_> = entries(&db, 1, u64::MAX).collect();
        assert!(
            matches!(found.last(), Some(Err(StoreError::Damaged { .. }))),
            "{length}"
        );
    }
}
