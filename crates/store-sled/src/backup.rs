//! A backup of one position, while others go on writing.
//!
//! sled has no snapshots. So a thread of its own shows all rows, a page at a time, while the writer notes the keys
//! that it changes; then it shows those rows again, and again what changed meanwhile, until little is left. That last
//! rest it reads in a turn of the writer's own, between two groups: what was shown until then is, together, the state
//! that the last group left. The audit trail only grows at its end and is cut at its beginning, so no key of it is
//! noted: it is read on from the last record that was shown.

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

/// How many rows are read at once: for so long whoever wants the core waits.
const PAGE: usize = 32;
/// How many times what it took to read them others are given at most, where they go on writing.
const GIVEN: u32 = 20;
/// How many audit records are read at once.
const AUDIT_PAGE: usize = 128;
/// From how many noted keys on their rows are shown before other pages are.
const NOTED_MANY: usize = 4096;
/// How many rows the writer reads in its turn, at first; each takes microseconds.
const TURN_ROWS: usize = 256;
/// How many it reads at most, where less is never left.
const TURN_ROWS_MAX: usize = 16 * 1024;
/// After how many turns in which too much was left it reads twice as much.
const TURNS: u32 = 8;

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
            self.shared.give_way(took * GIVEN);
            thread::yield_now();
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
