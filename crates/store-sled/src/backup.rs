//! A backup of one position, while others go on writing.
//!
//! sled has no snapshots. So a thread of its own shows all rows, a page at a time, while the writer notes the keys
//! that it changes; then it shows those rows again, and again what changed meanwhile, until little is left. That last
//! rest it reads in a turn of the writer's own, between two groups: what was shown until then is, together, the state
//! that the last group left. The audit trail only grows at its end and is cut at its beginning, so no key of it is
//! noted: it is read on from the last record that was shown.

mod record;

use std::{
    collections::HashSet,
    ops::ControlFlow,
    sync::{Arc, Weak},
    thread,
    time::Instant,
};

use parking_lot::Mutex;
use sled::Db;
use tessera_store::{
    AuditEntry, AuditQuery, BackupEnd, BackupError, BackupRecord, BackupVisitor, StoreError,
};
use tokio::sync::{mpsc, oneshot};

use self::record::{COPIED, is_copied};
use super::{
    archive::{Archive, Place},
    archiving,
    committer::{Answer, Work},
    disk::RowChanges,
    error::failed,
    group::State,
    read, rows,
    shared::Shared,
};

/// How many rows are read at once.
const PAGE: usize = 64;
/// How many times what it took to read them others are given at most, where they go on writing.
const GIVEN: u32 = 8;
/// How many audit records are read at once.
const AUDIT_PAGE: usize = 512;
/// From how many noted keys on their rows are shown before other pages are.
const NOTED_MANY: usize = 4096;
/// How many keys are noted at most, some 100 bytes each. Where there are more, writing is faster than reading.
const NOTED_MAX: usize = 128 * 1024;
/// How many rows the writer reads in its turn, at first; each takes microseconds.
const TURN_ROWS: usize = 256;
/// How many it reads at most, where less is never left.
const TURN_ROWS_MAX: usize = 16 * 1024;
/// After how many turns in which too much was left it reads twice as much.
const TURNS: u32 = 8;

/// The keys that changed since somebody looked.
#[derive(Debug, Default)]
pub(super) struct Noted(Mutex<Keys>);

#[derive(Debug, Default)]
struct Keys {
    changed: HashSet<Vec<u8>>,
    is_overtaken: bool,
}

/// What is left to show, and the position that it leads to.
pub(super) struct Rest {
    records: Vec<BackupRecord>,
    audit: Vec<AuditEntry>,
    end: BackupEnd,
}

/// A turn of the writer's between two groups.
pub(super) enum Turn {
    /// Keys are noted from now on.
    Begin(Weak<Noted>, Answer<()>),
    /// The rest is read, if it is no more than that; none where it is more.
    End {
        noted: Arc<Noted>,
        audit_shown: u64,
        rows_max: usize,
        answer: Answer<Option<Rest>>,
    },
}

impl Noted {
    /// The keys of a group that a backup shows, for [`Noted::note`].
    pub(super) fn keys_of(changes: &RowChanges) -> Vec<Vec<u8>> {
        changes.keys().filter(|key| is_copied(key)).cloned().collect()
    }

    /// Notes keys whose rows have changed. Never before they have: the rows may be read right after.
    pub(super) fn note(&self, keys: Vec<Vec<u8>>) {
        let mut noted = self.0.lock();
        if noted.is_overtaken {
            return;
        }
        noted.changed.extend(keys);
        if noted.changed.len() > NOTED_MAX {
            *noted = Keys {
                changed: HashSet::new(),
                is_overtaken: true,
            };
        }
    }

    fn len(&self) -> Result<usize, BackupError> {
        let noted = self.0.lock();
        if noted.is_overtaken {
            return Err(BackupError::Overtaken);
        }
        Ok(noted.changed.len())
    }

    fn take(&self) -> HashSet<Vec<u8>> {
        std::mem::take(&mut self.0.lock().changed)
    }
}

impl Turn {
    /// Does it. Nobody writes meanwhile.
    pub(super) fn run(self, db: &Db, shared: &Shared, state: &State, noted: &mut Weak<Noted>) {
        if !shared.is_healthy() {
            // Dropping it answers that the store is closed.
            return;
        }
        match self {
            Self::Begin(keys, answer) => {
                *noted = keys;
                let _ = answer.send(Ok(()));
            }
            Self::End {
                noted,
                audit_shown,
                rows_max,
                answer,
            } => {
                let rest = shared.read(|_| rest(db, state, &noted, audit_shown, rows_max));
                let _ = answer.send(rest);
            }
        }
    }
}

/// What is left to show, unless it is too much.
fn rest(
    db: &Db,
    state: &State,
    noted: &Noted,
    audit_shown: u64,
    rows_max: usize,
) -> Result<Option<Rest>, StoreError> {
    let meta = &state.meta;
    let in_files = meta.archive.filter(|place| place.first_kept().is_some());
    let is_in_files = in_files.is_some_and(|place| place.through > audit_shown);
    let audit_left = usize::try_from(meta.audit.position.saturating_sub(audit_shown)).unwrap_or(usize::MAX);
    let is_little = noted
        .len()
        .is_ok_and(|keys| keys.saturating_add(audit_left) <= rows_max);
    if is_in_files || !is_little {
        return Ok(None);
    }
    let keys = noted.take();
    let records = keys.iter().map(|key| record::now(db, key));
    Ok(Some(Rest {
        records: records.collect::<Result<_, _>>()?,
        audit: read::audit_entries(db, audit_shown, meta.audit.position, rows_max)?,
        end: BackupEnd {
            log: meta.log_id,
            last: meta.last,
            floor: meta.floor,
            audit_first: audit_first(db, meta.archive.as_ref(), meta.audit.position)?,
            audit_head: meta.audit,
            policy: state.policy.clone(),
            policy_reconciled: read::row(db, "the reconciled policy", &rows::policy_reconciled_key())?,
            purged: meta.purged,
            times: state.times.clone(),
            last_backup: read::row(db, "the last backup", &rows::last_backup_key())?,
        },
    }))
}

/// The first audit record that is kept.
fn audit_first(db: &Db, archive: Option<&Place>, last: u64) -> Result<u64, StoreError> {
    if let Some(first) = archive.and_then(Place::first_kept) {
        return Ok(first);
    }
    let first = read::audit_entries(db, 0, last, 1)?
        .first()
        .map(|entry| entry.position);
    Ok(first.unwrap_or_else(|| last.saturating_add(1)))
}

/// Shows everything to `visit`, from a thread of its own. `_alone` is held for as long as it works.
pub(super) async fn start(
    shared: Arc<Shared>,
    archive: Archive,
    writer: mpsc::WeakSender<Work>,
    visit: BackupVisitor,
    alone: impl Send + 'static,
) -> Result<BackupEnd, BackupError> {
    let (answer, shown) = oneshot::channel();
    let copying = Copying {
        shared,
        archive,
        writer,
        visit,
        noted: Arc::default(),
        audit_shown: 0,
    };
    thread::Builder::new()
        .name("store-backup".to_owned())
        .spawn(move || {
            let result = copying.run(|| answer.is_closed());
            drop(alone);
            // Nobody may wait for it any more.
            let _ = answer.send(result);
        })
        .map_err(failed)?;
    shown
        .await
        .unwrap_or_else(|_| Err(failed("a backup panicked").into()))
}

struct Copying {
    shared: Arc<Shared>,
    archive: Archive,
    /// Weak, so that a store that is dropped need not wait for it.
    writer: mpsc::WeakSender<Work>,
    visit: BackupVisitor,
    noted: Arc<Noted>,
    audit_shown: u64,
}

impl Copying {
    fn run(mut self, is_abandoned: impl Fn() -> bool) -> Result<BackupEnd, BackupError> {
        let noted = Arc::downgrade(&self.noted);
        self.ask(|answer| Turn::Begin(noted, answer))?;
        for table in COPIED {
            let mut after = vec![table as u8];
            while let Some(last) = self.page(&after, &rows::end_of(&[table as u8]))? {
                after = last;
                if is_abandoned() {
                    return Err(BackupError::BrokenOff);
                }
                if self.noted.len()? >= NOTED_MANY {
                    self.show_noted()?;
                }
            }
        }
        self.show_audit(&is_abandoned)?;
        self.show_rest(&is_abandoned)
    }

    /// Shows the rows after a key, and answers the last one's; none where there are no more.
    fn page(&mut self, after: &[u8], end: &[u8]) -> Result<Option<Vec<u8>>, BackupError> {
        let began = Instant::now();
        let page = self.shared.read(|db| record::page(db, after, end, PAGE))?;
        // Without the visitor, who may wait.
        let took = began.elapsed();
        let (records, last): (Vec<_>, _) = page;
        self.show(records)?;
        if last.is_some() {
            self.shared.give_way(took * GIVEN);
            // The kernel lets a thread that computes have its core for milliseconds.
            thread::yield_now();
        }
        Ok(last)
    }

    /// Shows the rows again that changed.
    fn show_noted(&mut self) -> Result<(), BackupError> {
        self.noted.len()?;
        let keys: Vec<_> = self.noted.take().into_iter().collect();
        for page in keys.chunks(PAGE) {
            let began = Instant::now();
            let read = |db: &Db| page.iter().map(|key| record::now(db, key)).collect();
            let records: Vec<_> = self.shared.read(read)?;
            let took = began.elapsed();
            self.show(records)?;
            self.shared.give_way(took);
        }
        Ok(())
    }

    /// Shows the audit records that were written since.
    fn show_audit(&mut self, is_abandoned: &impl Fn() -> bool) -> Result<(), BackupError> {
        loop {
            let committed = self.shared.audit_committed();
            if self.audit_shown >= committed {
                return Ok(());
            }
            if is_abandoned() {
                return Err(BackupError::BrokenOff);
            }
            let began = Instant::now();
            let query = AuditQuery::after(self.audit_shown, AUDIT_PAGE);
            let page = archiving::page(&self.shared, &self.archive, &query)?;
            let took = began.elapsed();
            self.audit_shown = page.through;
            self.show(page.entries.into_iter().map(audit_record))?;
            if self.audit_shown >= committed {
                return Ok(());
            }
            self.shared.give_way(took);
            // Else what changes meanwhile would only be noted.
            if self.noted.len()? >= NOTED_MANY {
                self.show_noted()?;
            }
        }
    }

    /// Shows what is left, until it is so little that the writer reads it in a turn.
    fn show_rest(&mut self, is_abandoned: &impl Fn() -> bool) -> Result<BackupEnd, BackupError> {
        let mut rows_max = TURN_ROWS;
        while rows_max <= TURN_ROWS_MAX {
            for _ in 0..TURNS {
                self.show_noted()?;
                self.show_audit(is_abandoned)?;
                let (noted, audit_shown) = (Arc::clone(&self.noted), self.audit_shown);
                let rest = self.ask(|answer| Turn::End {
                    noted,
                    audit_shown,
                    rows_max,
                    answer,
                })?;
                if let Some(rest) = rest {
                    self.show(rest.records)?;
                    self.show(rest.audit.into_iter().map(audit_record))?;
                    return Ok(rest.end);
                }
            }
            rows_max *= 2;
        }
        Err(BackupError::Overtaken)
    }

    fn show(&mut self, records: impl IntoIterator<Item = BackupRecord>) -> Result<(), BackupError> {
        match records.into_iter().try_for_each(&mut self.visit) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(BackupError::BrokenOff),
        }
    }

    fn ask<T>(&self, turn: impl FnOnce(Answer<T>) -> Turn) -> Result<T, BackupError> {
        let (answer, answered) = oneshot::channel();
        let writer = self.writer.upgrade().ok_or(StoreError::Closed)?;
        let sent = writer.blocking_send(Work::Backup(turn(answer)));
        drop(writer);
        sent.map_err(|_| StoreError::Closed)?;
        let answered = answered.blocking_recv().map_err(|_| StoreError::Closed)?;
        Ok(answered?)
    }
}

fn audit_record(entry: AuditEntry) -> BackupRecord {
    BackupRecord::Audit(entry.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(range: std::ops::Range<usize>) -> Vec<Vec<u8>> {
        range.map(|number| number.to_be_bytes().to_vec()).collect()
    }

    #[test]
    fn what_is_noted_is_bounded_and_a_backup_that_is_overtaken_says_so() {
        let noted = Noted::default();
        noted.note(keys(0..NOTED_MAX));
        noted.note(keys(0..NOTED_MAX));
        assert_eq!(noted.len().unwrap(), NOTED_MAX, "a key counts once");
        assert_eq!(noted.take().len(), NOTED_MAX);
        assert_eq!(noted.len().unwrap(), 0);
        noted.note(keys(0..NOTED_MAX + 1));
        assert!(matches!(noted.len(), Err(BackupError::Overtaken)));
        assert_eq!(noted.0.lock().changed.capacity(), 0);
        noted.note(keys(0..1));
        assert!(
            matches!(noted.len(), Err(BackupError::Overtaken)),
            "what was lost stays lost"
        );
    }
}
