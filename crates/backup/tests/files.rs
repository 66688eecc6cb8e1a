//! A file is read exactly as it was written, or refused.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use std::io::Cursor;

use proptest::prelude::*;
use tessera_backup::{
    BackupHead, BackupTail, BackupWriter, CompleteBackup, ContentError, FileError, Item, encode, read,
};
use tessera_core::{ApiKeyId, LogId, RealmName, Sequence, Timestamp};
use tessera_store::{AuditHead, AuditLink, BackupEnd, BackupRecord, Times};
use tessera_token::BackupKey;

fn head() -> BackupHead {
    BackupHead {
        version: tessera_backup::content::VERSION,
        made_by: "0.1.0".to_owned(),
        log: LogId::from_bytes([7; 16]),
        begun_at: Timestamp::from_seconds(1_795_000_000),
        server_keys: vec!["k4.lid.one".to_owned()],
        realms: vec![(
            RealmName::parse("production").unwrap(),
            "https://auth.example.com/production".to_owned(),
        )],
    }
}

fn tail(records: u64) -> BackupTail {
    BackupTail {
        end: BackupEnd {
            log: LogId::from_bytes([7; 16]),
            last: Sequence(9),
            floor: Sequence(1),
            audit_first: 1,
            audit_head: AuditHead {
                position: 4,
                link: AuditLink([9; 32]),
            },
            policy: None,
            policy_reconciled: None,
            purged: None,
            times: Times::default(),
            last_backup: None,
        },
        made_at: Timestamp::from_seconds(1_795_000_001),
        records,
    }
}

fn record(number: u64) -> BackupRecord {
    BackupRecord::NoApiKey(ApiKeyId::parse(&format!("{number:016}")).unwrap())
}

fn items(records: u64) -> Vec<Item> {
    let shown = (0..records).map(|number| Item::Record(record(number)));
    let head = [Item::Head(head())];
    head.into_iter()
        .chain(shown)
        .chain([Item::Tail(tail(records))])
        .collect()
}

fn write(key: &BackupKey, items: &[Item]) -> Vec<u8> {
    let mut writer = BackupWriter::begin(Vec::new(), key).unwrap();
    for item in items {
        let mut content = Vec::new();
        encode(item, &mut content).unwrap();
        writer.write(&content).unwrap();
    }
    let (file, bytes) = writer.finish().unwrap();
    assert_eq!(file.len() as u64, bytes);
    file
}

fn read_all(key: &BackupKey, file: &[u8]) -> Result<(CompleteBackup, Vec<Item>), FileError> {
    let mut shown = Vec::new();
    let made = read(Cursor::new(file), key, |item| {
        shown.push(item);
        Ok::<_, FileError>(())
    })?;
    Ok((made, shown))
}

fn key() -> BackupKey {
    BackupKey::generate().unwrap()
}

/// The positions of a file's chunks, and of its hash.
fn chunks(file: &[u8]) -> Vec<usize> {
    let mut at = vec![8 + 4 + 51 + 32];
    loop {
        let begin = *at.last().unwrap();
        let length = u32::from_be_bytes(file[begin..begin + 4].try_into().unwrap());
        at.push(begin + 4 + (length & !(1 << 31)) as usize);
        if length >> 31 == 1 {
            return at;
        }
    }
}

#[test]
fn it_is_read_as_it_was_written() {
    let key = key();
    for records in [0, 1, 20_000] {
        let items = items(records);
        let file = write(&key, &items);
        let (made, shown) = read_all(&key, &file).unwrap();
        assert_eq!((made.head, made.tail), (head(), tail(records)));
        assert_eq!(shown, items);
    }
}

#[test]
fn nothing_of_what_it_says_is_in_it() {
    let key = key();
    let file = write(&key, &items(10));
    let text = String::from_utf8_lossy(&file);
    for said in ["auth.example.com", "production", "0000000000000001"] {
        assert!(!text.contains(said), "{said}");
    }
    assert!(text.contains(key.id()));
    assert_ne!(file, write(&key, &items(10)), "each file has a key of its own");
}

#[test]
fn one_that_is_cut_off_is_refused_wherever_it_is() {
    let key = key();
    let file = write(&key, &items(12_000));
    let ends = chunks(&file);
    assert!(ends.len() > 4, "several chunks");
    let near = ends
        .iter()
        .flat_map(|end| [end - 1, *end, end + 1, end + 4, end + 5]);
    for length in (0..200).chain(near).chain(file.len() - 40..file.len()) {
        let failed = read_all(&key, &file[..length.min(file.len() - 1)]).unwrap_err();
        let is_said = matches!(failed, FileError::CutOff { .. })
            || (length < 8 && matches!(failed, FileError::NoBackup));
        assert!(is_said, "{length}: {failed}");
    }
}

#[test]
fn one_that_is_cut_off_at_a_chunk_and_ended_properly_is_refused() {
    let key = key();
    let file = write(&key, &items(12_000));
    let ends = chunks(&file);
    for end in &ends[..ends.len() - 1] {
        // With the mark of the last chunk, or without; then the correct hash of the whole file.
        for mark in [0_u8, 0x80] {
            let mut cut = file[..*end].to_vec();
            if let Some(before) = ends.iter().rev().find(|at| *at < end) {
                cut[*before] |= mark;
            }
            cut.extend_from_slice(&file[*ends.last().unwrap()..]);
            assert!(read_all(&key, &cut).is_err(), "{end}");
        }
    }
}

#[test]
fn every_byte_counts() {
    let key = key();
    let file = write(&key, &items(30));
    for at in 0..file.len() {
        for bit in [0, 7] {
            let mut changed = file.clone();
            changed[at] ^= 1 << bit;
            let failed = read_all(&key, &changed).unwrap_err();
            let said = failed.to_string();
            match at {
                0..8 => assert!(matches!(failed, FileError::NoBackup), "{at}: {said}"),
                8..12 => assert!(
                    matches!(
                        failed,
                        FileError::NewerFormat { .. } | FileError::Changed { at: 8 }
                    ),
                    "{at}: {said}"
                ),
                12..63 => assert!(
                    matches!(failed, FileError::Changed { .. } | FileError::OtherKey { .. }),
                    "{at}: {said}"
                ),
                _ => assert!(
                    matches!(failed, FileError::Changed { .. } | FileError::CutOff { .. }),
                    "{at}: {said}"
                ),
            }
        }
    }
}

#[test]
fn chunks_have_one_order_and_one_file() {
    let key = key();
    let (one, other) = (write(&key, &items(12_000)), write(&key, &items(12_000)));
    let at = chunks(&one);
    let part = |file: &[u8], number: usize| file[at[number]..at[number + 1]].to_vec();
    let mut swapped = one[..at[0]].to_vec();
    swapped.extend([part(&one, 1), part(&one, 0)].concat());
    swapped.extend_from_slice(&one[at[2]..]);
    let mut mixed = one[..at[0]].to_vec();
    mixed.extend([part(&other, 0), part(&one, 1)].concat());
    mixed.extend_from_slice(&one[at[2]..]);
    let mut left_out = one[..at[1]].to_vec();
    left_out.extend_from_slice(&one[at[2]..]);
    let mut twice = one[..at[1]].to_vec();
    twice.extend(part(&one, 0));
    twice.extend_from_slice(&one[at[1]..]);
    let mut longer = one.clone();
    longer.push(0);
    for (name, file) in [
        ("swapped", swapped),
        ("mixed", mixed),
        ("left out", left_out),
        ("twice", twice),
        ("longer", longer),
    ] {
        let failed = read_all(&key, &file).unwrap_err();
        assert!(matches!(failed, FileError::Changed { .. }), "{name}: {failed}");
    }
}

#[test]
fn another_key_is_named() {
    let (key, other) = (key(), key());
    let failed = read_all(&other, &write(&key, &items(1))).unwrap_err().to_string();
    assert!(
        failed.contains(key.id()) && failed.contains(other.id()),
        "{failed}"
    );
    assert!(failed.contains("--key-file"), "{failed}");
}

#[test]
fn what_it_says_must_be_whole_and_known() {
    let key = key();
    let malformed = |items: &[Item]| {
        let failed = read_all(&key, &write(&key, items)).unwrap_err();
        assert!(
            matches!(failed, FileError::Content(ContentError::Malformed { .. })),
            "{failed}"
        );
    };
    malformed(&[]);
    malformed(&items(2)[..3]);
    malformed(&items(2)[1..]);
    malformed(&[items(2), items(2)].concat());
    malformed(&[Item::Head(head()), Item::Tail(tail(1))]);
    malformed(&[Item::Head(head()), Item::Head(head()), Item::Tail(tail(0))]);
    let newer = BackupHead {
        version: tessera_backup::content::VERSION + 1,
        made_by: "9.0.0".to_owned(),
        ..head()
    };
    let failed = read_all(&key, &write(&key, &[Item::Head(newer)])).unwrap_err();
    assert!(failed.to_string().contains("9.0.0"), "{failed}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_are_taken_for_a_backup(bytes in proptest::collection::vec(any::<u8>(), 0..400), begins in any::<bool>()) {
        let key = key();
        let mut file = if begins { write(&key, &items(1))[..95].to_vec() } else { Vec::new() };
        file.extend(bytes);
        prop_assert!(read_all(&key, &file).is_err());
    }
}
