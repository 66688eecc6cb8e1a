//! A backup of one position, while others keep writing.
//!
//! sled has no snapshots. So a separate thread shows all rows, a page at a time, while the writer notes the keys that
//! it changes. Then the thread shows the noted rows again, and repeats that until few are left. It reads these last
//! rows in a turn of the writer, between two groups. Together, everything shown until then is the state after the last
//! group. The audit trail only grows at its end and is cut at its beginning, so none of its keys is noted: the thread
//! continues after the last record that was shown.

mod record;
pub(crate) mod turn;

use std::{ops::ControlFlow, sync::Arc, thread, time::Instant};

use sled::Db;
use tessera_store::{
    AuditEntry, AuditQuery, BackupEnd, BackupError, BackupRecord, BackupVisitor, StoreError,
};
use tokio::sync::{mpsc, oneshot};

use self::{
    record::COPIED,
    turn::{Noted, Turn},
};
use super::{
    archive::Archive,
    archiving,
    committer::{Answer, Work},
    error::failed,
    rows,
    shared::Shared,
};

/// How many rows are read at once: other threads wait for the core for that long.
const PAGE: usize = 32;
/// How long to wait for other writers after a read, at most, as a multiple of the time that the read took.
const GIVEN: u32 = 20;
/// How many audit records are read at once.
const AUDIT_PAGE: usize = 128;
/// From this many noted keys on, their rows are shown before further pages.
const NOTED_MANY: usize = 4096;
/// How many rows the writer reads in its turn at first; each takes microseconds.
const TURN_ROWS: usize = 256;
/// How many it reads at most, if never fewer are left.
const TURN_ROWS_MAX: usize = 16 * 1024;
/// After how many turns with too many rows left the number doubles.
const TURNS: u32 = 8;

/// Shows everything to `visit` from a separate thread. `_alone` is held until that is done.
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
            // The caller may have stopped waiting.
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
    /// Weak, so that dropping a store does not wait for the backup.
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

    /// Shows the rows after a key, and returns the key of the last one; `None` if there are no more rows.
    fn page(&mut self, after: &[u8], end: &[u8]) -> Result<Option<Vec<u8>>, BackupError> {
        let began = Instant::now();
        let page = self.shared.read(|db| record::page(db, after, end, PAGE))?;
        // Without the time of the visitor, which may wait.
        let took = began.elapsed();
        let (records, last): (Vec<_>, _) = page;
        self.show(records)?;
        if last.is_some() {
            self.shared.give_way(took * GIVEN);
            // The kernel lets a computing thread keep its core for milliseconds.
            thread::yield_now();
        }
        Ok(last)
    }

    /// Shows the changed rows again.
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

    /// Shows the audit records that were written since then.
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
            self.shared.give_way(took * GIVEN);
            thread::yield_now();
            // Otherwise later changes would only be noted.
            if self.noted.len()? >= NOTED_MANY {
                self.show_noted()?;
            }
        }
    }

    /// Shows what is left, until it is little enough for the writer to read it in a turn.
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
