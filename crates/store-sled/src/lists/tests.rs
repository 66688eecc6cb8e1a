use super::*;

const LIST: &[u8] = b"s\0";

fn id(millis: i64, number: u8) -> SessionId {
    SessionId::generate(Timestamp::from_millis(1_800_000_000_000 + millis), [number; 10])
}

fn database() -> Db {
    let db = sled::Config::new().temporary(true).open().unwrap();
    // Neighbouring keys of other lists.
    for key in [&b"r\0"[..], b"s\0", b"t\0"] {
        let other = [key, b"x\0", id(5, 200).as_bytes()].concat();
        if key != LIST {
            db.insert(other, b"").unwrap();
        }
    }
    db
}

fn apply(db: &Db, added: &[SessionId], removed: &[SessionId]) {
    let mut lists = ListChanges::default();
    removed.iter().for_each(|id| lists.remove(LIST.to_vec(), *id));
    added.iter().for_each(|id| lists.add(LIST.to_vec(), *id));
    let mut rows = RowChanges::default();
    lists.write(db, &mut rows).unwrap();
    rows.apply_to(db);
}

fn read(db: &Db, after: Option<SessionId>) -> Vec<SessionId> {
    ids_after(db, LIST, after).collect::<Result<_, _>>().unwrap()
}

fn row_count(db: &Db) -> usize {
    db.scan_prefix(LIST).count()
}

#[test]
fn what_a_group_adds_is_one_row() {
    let db = database();
    let ids: Vec<_> = (0..100)
        .map(|number| id(i64::from(number % 50), number))
        .collect();
    apply(&db, &ids, &[]);
    assert_eq!(row_count(&db), 1);
    let sorted: BTreeSet<_> = ids.iter().copied().collect();
    assert_eq!(read(&db, None), sorted.into_iter().collect::<Vec<_>>());
}

#[test]
fn ids_that_are_far_apart_or_many_are_in_several_rows() {
    let db = database();
    apply(&db, &[id(0, 1), id(SPAN_MILLIS, 2), id(SPAN_MILLIS + 1, 3)], &[]);
    assert_eq!(row_count(&db), 2);

    let db = database();
    let ids: Vec<_> = (0..=255_u8)
        .flat_map(|number| [id(0, number), id(1, number)])
        .collect();
    apply(&db, &ids, &[]);
    assert_eq!(row_count(&db), 2);
    assert_eq!(
        read(&db, None),
        ids.iter()
            .copied()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
    );
}

#[test]
fn groups_that_overlap_are_read_in_order() {
    let db = database();
    apply(&db, &[id(0, 1), id(30, 1), id(60, 1)], &[]);
    apply(&db, &[id(10, 2), id(20, 2), id(70, 2)], &[]);
    apply(&db, &[id(5, 3)], &[]);
    let all = [
        id(0, 1),
        id(5, 3),
        id(10, 2),
        id(20, 2),
        id(30, 1),
        id(60, 1),
        id(70, 2),
    ];
    assert_eq!(read(&db, None), all);
    for (place, after) in all.iter().enumerate() {
        assert_eq!(read(&db, Some(*after)), all[place + 1..], "after {after}");
    }
}

#[test]
fn one_that_is_added_and_taken_out_by_one_group_leaves_nothing() {
    let db = database();
    let mut lists = ListChanges::default();
    lists.add(LIST.to_vec(), id(0, 1));
    lists.remove(LIST.to_vec(), id(0, 1));
    let mut rows = RowChanges::default();
    lists.write(&db, &mut rows).unwrap();
    assert!(rows.is_empty());

    apply(&db, &[id(0, 1)], &[]);
    apply(&db, &[id(0, 1)], &[id(0, 1)]);
    assert_eq!(read(&db, None), [id(0, 1)]);
}

/// A deterministic sequence of numbers that look random.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % end
    }
}

#[test]
fn it_answers_what_a_set_does() {
    for seed in 0..40 {
        let (db, mut numbers) = (database(), Numbers(seed));
        let mut expected = BTreeSet::new();
        for group in 0..40 {
            let count = numbers.below(20);
            let mut added = BTreeSet::new();
            for number in 0..count {
                let millis = group * 10 + i64::try_from(numbers.below(200)).unwrap();
                let id = id(
                    millis,
                    u8::try_from(number).unwrap() ^ u8::try_from(group).unwrap(),
                );
                if !expected.contains(&id) {
                    added.insert(id);
                }
            }
            let removed: Vec<_> = expected
                .iter()
                .filter(|_| numbers.below(4) == 0)
                .copied()
                .collect();
            apply(&db, &added.iter().copied().collect::<Vec<_>>(), &removed);
            removed.iter().for_each(|id| assert!(expected.remove(id)));
            expected.extend(added);
            assert_eq!(read(&db, None), expected.iter().copied().collect::<Vec<_>>());
            let after = expected.iter().nth(usize::try_from(numbers.below(50)).unwrap());
            if let Some(after) = after.copied() {
                let left: Vec<_> = expected.iter().filter(|id| **id > after).copied().collect();
                assert_eq!(read(&db, Some(after)), left);
            }
        }
        let all: Vec<_> = expected.into_iter().collect();
        apply(&db, &[], &all);
        assert_eq!(row_count(&db), 0);
    }
}

#[test]
fn a_row_that_is_cut_off_is_damage() {
    let db = database();
    let key = [LIST, id(0, 1).as_bytes()].concat();
    db.insert(key, &[1; 17]).unwrap();
    let found: Result<Vec<_>, _> = ids_after(&db, LIST, None).collect();
    assert!(matches!(found, Err(StoreError::Damaged { .. })), "{found:?}");
}
