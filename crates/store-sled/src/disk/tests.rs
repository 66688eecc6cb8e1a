//! The states that a crash may leave at each step of a commit.

use std::{fs, os::unix::fs::FileExt};

use tempfile::TempDir;

use super::*;

fn open(path: &Path) -> Result<Disk, OpenError> {
    Disk::open(
        Directory::lock(path)?,
        1 << 20,
        &StartProgress::default(),
        |(), _, _| Ok(()),
        |_| Ok(()),
    )
    .map(|(disk, ())| disk)
}

fn put(key: &[u8], value: &[u8]) -> RowChanges {
    RowChanges::from_iter([(key.to_vec(), Some(value.to_vec()))])
}

/// A directory with one group of one row, and the store still open.
fn begun() -> (TempDir, Disk) {
    let directory = TempDir::new().unwrap();
    let mut disk = open(directory.path()).unwrap();
    disk.commit(put(b"f1", b"one")).unwrap();
    (directory, disk)
}

/// Writes the seal of a group that puts a row, without applying the group.
fn begin(disk: &mut Disk, key: &[u8], value: &[u8]) {
    let mut after = disk.state;
    after.add(key, value);
    let seal = Seal {
        group: disk.next_group(),
        before: disk.state,
        after,
    };
    disk.seal.begin(&seal).unwrap();
    disk.seal.begun().unwrap();
}

fn apply(disk: &Disk, key: &[u8], value: &[u8]) {
    let mut batch = Batch::default();
    batch.insert(key, value);
    disk.db.apply_batch(batch).unwrap();
    disk.db.flush().unwrap();
}

/// How many rows there are beside the seal's.
fn rows_of(disk: &Disk) -> usize {
    disk.db().len() - 1
}

fn detail_of(result: Result<Disk, OpenError>) -> String {
    match result {
        Err(OpenError::Damaged { detail, .. }) => detail,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("opened"),
    }
}

#[test]
fn a_crash_before_the_group_is_applied_leaves_the_state_before() {
    let (directory, mut disk) = begun();
    begin(&mut disk, b"f2", b"two");
    disk.abandon();
    let mut disk = open(directory.path()).unwrap();
    assert_eq!(disk.db().get(b"f2").unwrap(), None);
    // That group was never acknowledged, so it must not appear again.
    disk.commit(put(b"f3", b"three")).unwrap();
    disk.close().unwrap();
    assert_eq!(rows_of(&open(directory.path()).unwrap()), 2);
}

#[test]
fn a_crash_after_the_group_is_applied_leaves_the_state_after() {
    let (directory, mut disk) = begun();
    begin(&mut disk, b"f2", b"two");
    apply(&disk, b"f2", b"two");
    disk.abandon();
    assert_eq!(rows_of(&open(directory.path()).unwrap()), 2);
}

#[test]
fn any_other_state_is_refused() {
    let (directory, mut disk) = begun();
    begin(&mut disk, b"f2", b"two");
    apply(&disk, b"f2", b"another");
    disk.abandon();
    assert!(detail_of(open(directory.path())).contains("not those that were last committed"));
    // After one refusal, every later start must refuse too: looking must not change the seal.
    assert!(detail_of(open(directory.path())).contains("not those that were last committed"));
}

#[test]
fn rows_that_no_table_has_are_noticed() {
    for key in [&b""[..], &[0], b"zzz", &[255, 255]] {
        let (directory, disk) = begun();
        apply(&disk, key, b"value");
        disk.abandon();
        assert!(detail_of(open(directory.path())).contains("not those"), "{key:?}");
    }
}

#[test]
fn a_rollback_of_the_last_group_is_noticed_although_the_store_was_not_closed() {
    let (directory, mut disk) = begun();
    let (rows, old) = (directory.path().join("rows"), directory.path().join("old"));
    disk.db.flush().unwrap();
    fs::create_dir(&old).unwrap();
    for name in ["db", "conf"] {
        fs::copy(rows.join(name), old.join(name)).unwrap();
    }
    disk.commit(put(b"f1", b"spent")).unwrap();
    disk.abandon();
    fs::remove_dir_all(&rows).unwrap();
    fs::rename(&old, &rows).unwrap();
    assert!(detail_of(open(directory.path())).contains("not those that were last committed"));
}

/// A store that has `groups` more groups than its seal covers.
fn ahead_of_its_seal(groups: u8) -> (TempDir, Disk) {
    let (directory, mut disk) = begun();
    let seal = fs::read(directory.path().join("seal")).unwrap();
    for number in 0..groups {
        disk.commit(put(b"f2", &[number])).unwrap();
    }
    fs::write(directory.path().join("seal"), seal).unwrap();
    (directory, disk)
}

#[test]
fn a_crash_that_loses_the_seal_of_the_last_group_leaves_the_state_after_it() {
    let (directory, disk) = ahead_of_its_seal(1);
    disk.abandon();
    let mut disk = open(directory.path()).unwrap();
    assert_eq!(disk.group, 2);
    assert_eq!(disk.db().get(b"f2").unwrap().as_deref(), Some(&[0][..]));
    disk.commit(put(b"f3", b"three")).unwrap();
    disk.abandon();
    assert_eq!(open(directory.path()).unwrap().group, 3);
}

#[test]
fn no_crash_loses_the_seals_of_two_groups() {
    let (directory, disk) = ahead_of_its_seal(2);
    disk.abandon();
    assert!(detail_of(open(directory.path())).contains("not those that were last committed"));
}

#[test]
fn rows_that_are_not_what_their_own_seal_says_are_refused() {
    let (directory, disk) = ahead_of_its_seal(1);
    apply(&disk, b"f2", b"another");
    disk.abandon();
    assert!(detail_of(open(directory.path())).contains("not those that were last committed"));
}

#[test]
fn a_seal_in_the_rows_does_not_excuse_rows_of_an_earlier_group() {
    let (directory, mut disk) = begun();
    let own = disk.db().get(rows::SEAL_KEY).unwrap().unwrap();
    disk.commit(put(b"f1", b"spent")).unwrap();
    apply(&disk, b"f1", b"one");
    apply(&disk, rows::SEAL_KEY, &own);
    disk.abandon();
    assert!(detail_of(open(directory.path())).contains("not those that were last committed"));
}

/// A write of the seal that a crash tore: garbage in a slot.
fn tear(path: &Path, slot: u64) {
    let file = fs::OpenOptions::new()
        .write(true)
        .open(path.join("seal"))
        .unwrap();
    file.write_all_at(&[0x5A; 64], 4096 * (slot + 1)).unwrap();
}

#[test]
fn a_torn_seal_falls_back_to_the_state_before() {
    // Group 2 is settled; the slots of group 3 and of the settled state may both be torn, the one of
    // group 2 is not being written.
    for torn in [&[][..], &[1], &[2], &[1, 2]] {
        let (directory, mut disk) = begun();
        disk.commit(put(b"f2", b"two")).unwrap();
        assert_eq!(disk.group, 2);
        begin(&mut disk, b"f3", b"three");
        torn.iter().for_each(|slot| tear(directory.path(), *slot));
        disk.abandon();
        let disk = open(directory.path()).unwrap_or_else(|error| panic!("{torn:?}: {error}"));
        assert_eq!(rows_of(&disk), 2, "{torn:?}");
    }
}

#[test]
fn a_seal_without_a_valid_slot_is_refused() {
    let (directory, disk) = begun();
    (0..3).for_each(|slot| tear(directory.path(), slot));
    disk.abandon();
    assert!(detail_of(open(directory.path())).contains("no valid entry"));
}

#[test]
fn after_closing_every_slot_allows_one_state_only() {
    for torn in [[0, 1], [0, 2], [1, 2]] {
        let (directory, mut disk) = begun();
        disk.commit(put(b"f2", b"two")).unwrap();
        disk.close().unwrap();
        torn.iter().for_each(|slot| tear(directory.path(), *slot));
        let (_, seal) = SealFile::open(&directory.path().join("seal")).unwrap();
        assert_eq!(seal.before, seal.after, "{torn:?}");
        assert_eq!(rows_of(&open(directory.path()).unwrap()), 2);
    }
}

#[test]
fn a_group_that_changes_nothing_is_committed_all_the_same() {
    let (directory, mut disk) = begun();
    disk.commit(put(b"f1", b"one")).unwrap();
    disk.commit(RowChanges::from_iter([(b"none".to_vec(), None)]))
        .unwrap();
    disk.close().unwrap();
    assert_eq!(rows_of(&open(directory.path()).unwrap()), 1);
}
