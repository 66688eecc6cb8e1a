//! The rows on disk: they are opened and checked against the seal, then changed one group at a time.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use sled::{Batch, Db, IVec};

use super::{
    changes::{Before, Change, RowChanges},
    checked::{self, Opened},
    directory::Directory,
    progress::{StartProgress, Step},
    rows,
    seal::{Seal, SealFile},
    state_hash::StateHash,
};
use tessera_store::{StoreError, backend::caught};

use crate::error::{OpenError, failed};

/// The rows, locked and checked. Only the writer has this; readers have a separate `Db`.
pub(super) struct Disk {
    // Fields are dropped in this order: the lock goes last.
    db: Db,
    /// A second handle to the file that sled writes: sled's own flush does not reach the disk.
    data_file: File,
    seal: SealFile,
    state: StateHash,
    group: u64,
    directory: Directory,
}

impl Disk {
    /// Opens the rows and checks them against the seal. `visit` is shown the rows of the tables in
    /// [`scan::VISITED`](super::scan::VISITED); then `accepts` decides. A directory that is refused stays unchanged:
    /// see [`aside`](super::aside).
    pub(super) fn open<F: Default>(
        directory: Directory,
        cache_capacity_bytes: u64,
        progress: &StartProgress,
        visit: impl Fn(&mut F, &[u8], &[u8]) -> Result<(), StoreError>,
        accepts: impl FnOnce(&Opened<F>) -> Result<(), OpenError>,
    ) -> Result<(Self, F), OpenError> {
        directory.take_back().map_err(|error| directory.io_error(error))?;
        let (seal_file, seal) = checked::open_seal(&directory)?;
        let opened = checked::open(&directory, &seal, cache_capacity_bytes, progress, &visit)?;
        let take_back = |db| {
            checked::close(&directory.data_file(), db);
            directory.take_back().map_err(|error| directory.io_error(error))
        };
        if let Err(refused) = accepts(&opened) {
            take_back(opened.db)?;
            return Err(refused);
        }
        progress.enter(Step::Sync);
        let sync = || -> io::Result<File> {
            let data_file = File::open(directory.data_file())?;
            // Writes of a killed process may not be on the disk yet; from here on they count as committed.
            directory.keep_copy()?;
            seal_file.settle_everywhere(opened.group, opened.state)?;
            Ok(data_file)
        };
        let data_file = match sync() {
            Ok(data_file) => data_file,
            Err(error) => {
                take_back(opened.db)?;
                return Err(directory.io_error(error));
            }
        };
        directory.close_to_others();
        let disk = Self {
            db: opened.db,
            data_file,
            seal: seal_file,
            state: opened.state,
            group: opened.group,
            directory,
        };
        Ok((disk, opened.found))
    }

    pub(super) fn db(&self) -> &Db {
        &self.db
    }

    /// Whether there are no rows at all, as in a new store.
    pub(super) fn is_empty(&self) -> bool {
        self.state == StateHash::EMPTY
    }

    /// Numbers the groups from `first` on, if there is no group yet.
    pub(super) fn count_from(&mut self, first: u64) {
        self.group = first.saturating_sub(1);
    }

    /// The number that the next group will have.
    pub(super) fn next_group(&self) -> u64 {
        self.group.saturating_add(1)
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The directory of the audit records that left the rows.
    pub(super) fn audit_path(&self) -> PathBuf {
        self.directory.audit()
    }

    /// Applies a group, all or nothing, and returns once it is on the disk. After an error nothing may be committed any
    /// longer: only opening the store again shows what the disk has.
    pub(super) fn commit(&mut self, changes: RowChanges) -> Result<(), StoreError> {
        caught(|| self.commit_group(changes)).unwrap_or_else(|panic| Err(failed(panic)))
    }

    fn commit_group(&mut self, changes: RowChanges) -> Result<(), StoreError> {
        let mut after = self.state;
        let mut batch = Batch::default();
        for (key, change) in changes {
            let old = self.old(&key, &change)?;
            let value = change.value;
            if old.as_deref() == value.as_deref() {
                continue;
            }
            if let Some(old) = old {
                after.remove(&key, &old);
            }
            match value {
                Some(value) => {
                    after.add(&key, &value);
                    batch.insert(key, value);
                }
                None => batch.remove(key),
            }
        }
        let group = self.next_group();
        let seal = Seal {
            group,
            before: self.state,
            after,
        };
        batch.insert(rows::SEAL_KEY, seal.to_row());
        self.seal.begin(&seal).map_err(failed)?;
        let written = self.write(batch);
        // Even if the write of the rows failed: the next caller must not get the answer of this group.
        let begun = self.seal.begun().map_err(failed);
        written.and(begun)?;
        (self.state, self.group) = (after, group);
        self.seal.settle(group, after).map_err(failed)
    }

    /// The row before the group.
    fn old(&self, key: &[u8], change: &Change) -> Result<Option<IVec>, StoreError> {
        let known = match &change.before {
            Before::Unread => return self.db.get(key).map_err(failed),
            Before::Absent => None,
            Before::Row(row) => Some(row.clone()),
        };
        debug_assert_eq!(self.db.get(key).map_err(failed)?, known, "{key:?}");
        Ok(known)
    }

    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        self.db.apply_batch(batch).map_err(failed)?;
        self.db.flush().map_err(failed)?;
        self.data_file.sync_data().map_err(failed)
    }

    /// Writes the live rows to a new database, compares them with the seal, and replaces the old rows. Returns how many
    /// bytes the rows took before and take now.
    pub(crate) fn compact(self) -> Result<(u64, u64), OpenError> {
        let Self {
            db,
            data_file,
            seal,
            state,
            directory,
            ..
        } = self;
        let taken = compact::compact(db, state, &directory);
        drop((data_file, seal));
        taken
    }

    /// Brings everything on the disk into its final state, and releases the lock of the directory.
    pub(super) fn close(self) -> Result<(), StoreError> {
        let flushed = caught(|| self.db.flush().map(drop))
            .map_err(failed)
            .and_then(|flushed| flushed.map_err(failed))
            .and_then(|()| self.data_file.sync_data().map_err(failed))
            .and_then(|()| {
                self.seal
                    .settle_everywhere(self.group, self.state)
                    .map_err(failed)
            });
        if flushed.is_ok() {
            self.abandon();
        } else {
            self.leave();
        }
        flushed
    }

    /// Releases the directory after a failure, without closing sled: closing would try to write again, and panic. The
    /// process is about to end; until then sled's own lock stays.
    pub(super) fn leave(self) {
        std::mem::forget(self.db);
    }

    /// Releases the directory without touching the seal, for a store that failed.
    pub(super) fn abandon(self) {
        let Self {
            db,
            data_file,
            seal,
            directory,
            ..
        } = self;
        // sled panics if its last write fails; acknowledged writes are on the disk already.
        if let Err(panic) = caught(move || drop(db)) {
            tracing::error!(path = %directory.path().display(), %panic, "closing the rows failed");
        }
        drop((data_file, seal, directory));
    }
}

mod compact;
#[cfg(test)]
mod tests;
