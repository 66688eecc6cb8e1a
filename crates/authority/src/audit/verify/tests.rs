//! A trail that was tampered with, in one way per test.

use tessera_core::{AuditAction, AuditRecord, LogId, PolicyRevision, Timestamp, audit::Actor};
use tessera_token::{ServerKey, ServerKeys};

use super::*;

fn keys() -> ServerKeys {
    ServerKeys::new(ServerKey::generate().unwrap(), Vec::new())
}

fn record(second: i64, action: AuditAction) -> AuditRecord {
    AuditRecord {
        at: Timestamp::from_seconds(second),
        realm: "production".parse().unwrap(),
        actor: Actor::Operator,
        request: None,
        action,
    }
}

fn applied() -> AuditAction {
    AuditAction::PolicyApplied {
        policy: PolicyRevision::parse("0123456789abcdef").unwrap(),
    }
}

/// The trail as the store appends it: eight records, and a checkpoint after the fifth.
struct Trail {
    entries: Vec<AuditEntry>,
    head: AuditHead,
}

impl Trail {
    fn new(keys: &ServerKeys) -> Self {
        let mut trail = Self {
            entries: Vec::new(),
            head: AuditHead::EMPTY,
        };
        for second in 1..=5 {
            trail.append(record(second, applied()));
        }
        let (position, link) = (trail.head.position, trail.head.link.to_string());
        let checkpoint = Checkpoint::new(LogId::from_bytes([1; 16]), position, link, Timestamp::EPOCH);
        let token = keys.current().checkpoints().sign(&checkpoint).unwrap();
        trail.append(record(6, AuditAction::Checkpoint { position, token }));
        for second in 7..=9 {
            trail.append(record(second, applied()));
        }
        trail
    }

    fn append(&mut self, record: AuditRecord) {
        let (head, encoded) = self.head.append(&record).unwrap();
        self.entries.push(AuditEntry {
            position: head.position,
            previous: self.head.link,
            encoded,
            record,
        });
        self.head = head;
    }

    /// Writes the links after a record again, as an attacker does who knows how links are made.
    fn relink(&mut self, from: usize) {
        for index in from..self.entries.len() {
            self.entries[index].previous = match index {
                0 => AuditLink::BEGIN,
                index => self.entries[index - 1].link(),
            };
            self.entries[index].position = index as u64 + 1;
        }
        self.head = AuditHead {
            position: self.entries.len() as u64,
            link: self.entries.last().unwrap().link(),
        };
    }
}

fn check(keys: &ServerKeys, entries: &[AuditEntry], head: AuditHead) -> Result<TrailReport, TrailFault> {
    let mut check = TrailCheck::new(keys.checkpoint_keys().cloned().collect());
    for entry in entries {
        check.take(entry)?;
    }
    check.finish(Some(head))
}

fn change(entry: &mut AuditEntry) {
    entry.record.at = Timestamp::from_seconds(77);
    entry.encoded = AuditEntry::encode(&entry.record).unwrap();
}

#[test]
fn a_trail_that_is_whole_says_what_is_signed() {
    let keys = keys();
    let trail = Trail::new(&keys);
    let report = check(&keys, &trail.entries, trail.head).unwrap();
    assert_eq!((report.records, report.first, report.last), (9, 1, 9));
    assert_eq!((report.signed, report.signed_through, report.unknown), (1, 5, 0));
    // A trail whose oldest records are gone, and one whose first record is the checkpoint's.
    for kept in [2, 5] {
        let report = check(&keys, &trail.entries[kept..], trail.head).unwrap();
        assert_eq!((report.first, report.signed), (kept as u64 + 1, 1));
    }
    let others = ServerKeys::new(ServerKey::generate().unwrap(), Vec::new());
    let report = check(&others, &trail.entries, trail.head).unwrap();
    assert_eq!((report.signed, report.unknown, report.signed_through), (0, 1, 0));
}

#[test]
fn each_record_that_was_changed_removed_inserted_or_moved_is_found() {
    let keys = keys();
    for index in 0..9 {
        let mut trail = Trail::new(&keys);
        change(&mut trail.entries[index]);
        assert!(
            check(&keys, &trail.entries, trail.head).is_err(),
            "changed: {index}"
        );

        let mut trail = Trail::new(&keys);
        trail.entries[index].previous = AuditLink([7; 32]);
        let found = check(&keys, &trail.entries, trail.head);
        assert!(found.is_err(), "its link changed: {index}");

        let mut trail = Trail::new(&keys);
        trail.entries.remove(index);
        let removed = check(&keys, &trail.entries, trail.head);
        // Without its first record, it looks like a trail whose oldest record was too old: its reader sees where it
        // begins.
        assert_eq!(removed.is_ok(), index == 0, "removed: {index}");

        let mut trail = Trail::new(&keys);
        let twin = trail.entries[index].clone();
        trail.entries.insert(index, twin);
        assert!(
            check(&keys, &trail.entries, trail.head).is_err(),
            "twice: {index}"
        );

        let mut trail = Trail::new(&keys);
        trail.entries.swap(index, (index + 1) % 9);
        assert!(
            check(&keys, &trail.entries, trail.head).is_err(),
            "moved: {index}"
        );
    }
}

/// An attacker who writes all links again is detected by the signature, up to the last checkpoint.
#[test]
fn who_links_all_anew_is_found_by_the_checkpoint() {
    let keys = keys();
    for index in 0..5 {
        let mut trail = Trail::new(&keys);
        change(&mut trail.entries[index]);
        trail.relink(index + 1);
        let found = check(&keys, &trail.entries, trail.head);
        assert_eq!(
            found,
            Err(TrailFault::SignedOther { position: 6 }),
            "changed: {index}"
        );

        let mut trail = Trail::new(&keys);
        trail.entries.remove(index);
        trail.relink(index);
        let found = check(&keys, &trail.entries, trail.head);
        assert_eq!(
            found,
            Err(TrailFault::SignedOther { position: 5 }),
            "removed: {index}"
        );

        let mut trail = Trail::new(&keys);
        let twin = trail.entries[index].clone();
        trail.entries.insert(index, twin);
        trail.relink(index);
        let found = check(&keys, &trail.entries, trail.head);
        assert_eq!(
            found,
            Err(TrailFault::SignedOther { position: 7 }),
            "inserted: {index}"
        );
    }
}

#[test]
fn a_checkpoint_that_nobody_signed_and_a_trail_that_is_cut_off_are_found() {
    let keys = keys();
    let mut trail = Trail::new(&keys);
    let AuditAction::Checkpoint { token, .. } = &mut trail.entries[5].record.action else {
        panic!()
    };
    // The signature ends where the footer begins.
    let at = token.rfind('.').unwrap() - 2;
    let other = if token.as_bytes()[at] == b'A' { "B" } else { "A" };
    token.replace_range(at..=at, other);
    trail.entries[5].encoded = AuditEntry::encode(&trail.entries[5].record).unwrap();
    trail.relink(6);
    let found = check(&keys, &trail.entries, trail.head);
    assert_eq!(found, Err(TrailFault::SignatureWrong { position: 6 }));

    let trail = Trail::new(&keys);
    let found = check(&keys, &trail.entries[..7], trail.head);
    assert_eq!(found, Err(TrailFault::CutOff { last: 7, expected: 9 }));
}

/// The digests of records that are not shown prove the links as the records do.
#[test]
fn digests_stand_in_for_records() {
    let keys = keys();
    let trail = Trail::new(&keys);
    let hide = |entry: &AuditEntry| AuditDigest {
        position: entry.position,
        previous: entry.previous,
        digest: entry.digest(),
    };
    let run = |changed: Option<usize>| {
        let mut check = TrailCheck::new(keys.checkpoint_keys().cloned().collect());
        for (index, entry) in trail.entries.iter().enumerate() {
            if index % 2 == 0 {
                let mut digest = hide(entry);
                if changed == Some(index) {
                    digest.digest = [0; 32];
                }
                check.take_digest(&digest)?;
            } else {
                check.take(entry)?;
            }
        }
        check.finish(Some(trail.head))
    };
    let report = run(None).unwrap();
    assert_eq!((report.records, report.hidden, report.signed_through), (4, 5, 5));
    for index in [0, 2, 4, 6, 8] {
        assert!(run(Some(index)).is_err(), "{index}");
    }
}
