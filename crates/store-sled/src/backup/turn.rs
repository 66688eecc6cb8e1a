//! The writer's part of a backup: it notes the keys that it changes, and reads the last rows in its turn.

use std::{
    collections::HashSet,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use sled::Db;
use tessera_store::{AuditEntry, BackupEnd, BackupError, BackupRecord, StoreError};
use tokio::sync::oneshot;

use super::record::{self, is_copied};
use crate::{archive::Place, changes::RowChanges, read, rows, shared::Shared, state::State};

/// How many keys are noted at most, some 100 bytes each. If there are more, writing is faster than reading.
const NOTED_MAX: usize = 128 * 1024;

/// The channel for an answer.
type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// The keys that changed since the last look.
#[derive(Debug, Default)]
pub(crate) struct Noted(Mutex<Keys>);

#[derive(Debug, Default)]
struct Keys {
    changed: HashSet<Vec<u8>>,
    is_overtaken: bool,
}

/// What is left to show, and the position whose state is complete with it.
pub(crate) struct Rest {
    pub(super) records: Vec<BackupRecord>,
    pub(super) audit: Vec<AuditEntry>,
    pub(super) end: BackupEnd,
}

/// A turn of the writer's between two groups.
pub(crate) enum Turn {
    /// Keys are noted from now on.
    Begin(Weak<Noted>, Answer<()>),
    /// Read the rest if it is no larger than that; answer `None` if it is larger.
    End {
        noted: Arc<Noted>,
        audit_shown: u64,
        rows_max: usize,
        answer: Answer<Option<Rest>>,
    },
}

impl Noted {
    /// The keys of a group that a backup shows, for [`Noted::note`].
    pub(crate) fn keys_of(changes: &RowChanges) -> Vec<Vec<u8>> {
        changes.keys().filter(|key| is_copied(key)).cloned().collect()
    }

    /// Notes keys whose rows have changed. Call it only after the change: the rows may be read right after.
    pub(crate) fn note(&self, keys: Vec<Vec<u8>>) {
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

    pub(super) fn len(&self) -> Result<usize, BackupError> {
        let noted = self.0.lock();
        if noted.is_overtaken {
            return Err(BackupError::Overtaken);
        }
        Ok(noted.changed.len())
    }

    pub(super) fn take(&self) -> HashSet<Vec<u8>> {
        std::mem::take(&mut self.0.lock().changed)
    }
}

impl Turn {
    /// Executes the turn. No write happens meanwhile.
    pub(crate) fn run(self, db: &Db, shared: &Shared, state: &State, noted: &mut Weak<Noted>) {
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

/// What is left to show; `None` if it is too much.
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
            policy: state.policy,
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
