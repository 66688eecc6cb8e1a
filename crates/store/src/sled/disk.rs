//! The rows on disk: opened and checked against the seal, then changed one group at a time.

use std::{collections::HashMap, fs::File, io, path::Path, thread, time::Duration};

use ::sled::{Batch, Db};

use super::{
    directory::Directory,
    scan,
    seal::{Seal, SealError, SealFile},
    state_hash::StateHash,
};
use crate::{
    caught::caught,
    error::{OpenError, StoreError},
};

/// What a group of jobs writes: a value for each key, or none where the row goes.
pub(super) type Changes = HashMap<Vec<u8>, Option<Vec<u8>>>;

/// The rows, locked and checked. Only the writer has it; readers have a `Db` of their own.
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
    /// [`scan::VISITED`].
    pub(super) fn open(
        directory: Directory,
        cache_capacity_bytes: u64,
        visit: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
    ) -> Result<Self, OpenError> {
        let (seal_file, seal) = open_seal(&directory)?;
        directory
            .remove_unfinished_snapshots()
            .map_err(|error| directory.io_error(error))?;
        let db = open_sled(&directory, cache_capacity_bytes)?;
        let state = caught(|| scan::scan(&db, visit))
            .unwrap_or_else(|panic| Err(StoreError::Failed { detail: panic }))
            .map_err(|error| directory.damaged(format!("the rows can't be read ({error})")))?;
        check(&directory, &seal, state)?;
        let sync = || {
            let data_file = File::open(directory.data_file())?;
            // What a process that was killed had written may still be on its way to the disk; from here
            // on it counts as committed.
            data_file.sync_data()?;
            directory.sync()?;
            seal_file.settle_everywhere(seal.group, state)?;
            Ok(data_file)
        };
        let data_file = sync().map_err(|error: io::Error| directory.io_error(error))?;
        Ok(Self {
            db,
            data_file,
            seal: seal_file,
            state,
            group: seal.group,
            directory,
        })
    }

    pub(super) fn db(&self) -> &Db {
        &self.db
    }

    /// Whether there are no rows at all, as in a store that was just made.
    pub(super) fn is_empty(&self) -> bool {
        self.state == StateHash::EMPTY
    }

    /// The number that the next group will have.
    pub(super) fn next_group(&self) -> u64 {
        self.group.saturating_add(1)
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Applies a group, all or nothing, and answers once it is on the disk. After an error nothing may
    /// be committed any more: only opening anew tells what the disk has.
    pub(super) fn commit(&mut self, changes: Changes) -> Result<(), StoreError> {
        caught(|| self.commit_group(changes)).unwrap_or_else(|panic| Err(failed(panic)))
    }

    fn commit_group(&mut self, changes: Changes) -> Result<(), StoreError> {
        let mut after = self.state;
        let mut batch = Batch::default();
        for (key, value) in changes {
            let old = self.db.get(&key).map_err(failed)?;
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
        self.seal
            .begin(&Seal {
                group,
                before: self.state,
                after,
            })
            .map_err(failed)?;
        self.db.apply_batch(batch).map_err(failed)?;
        self.db.flush().map_err(failed)?;
        self.data_file.sync_data().map_err(failed)?;
        (self.state, self.group) = (after, group);
        self.seal.settle(group, after).map_err(failed)
    }

    /// Leaves everything on the disk as it must be found, and gives the directory free.
    pub(super) fn close(self) -> Result<(), StoreError> {
        let settled = self
            .seal
            .settle_everywhere(self.group, self.state)
            .map_err(failed);
        self.abandon();
        settled
    }

    /// Gives the directory free without touching the seal: for a store that failed.
    pub(super) fn abandon(self) {
        let Self {
            db,
            data_file,
            seal,
            directory,
            ..
        } = self;
        // sled panics where its last write fails; what was acknowledged is on the disk already.
        if let Err(panic) = caught(move || drop(db)) {
            tracing::error!(path = %directory.path().display(), %panic, "closing the rows failed");
        }
        drop((data_file, seal, directory));
    }
}

fn open_seal(directory: &Directory) -> Result<(SealFile, Seal), OpenError> {
    let path = directory.seal();
    if !path.exists() {
        if directory.has_rows_directory() {
            return Err(directory.damaged(
                "there are rows but the file `seal`, which tells whether they are the last ones, is missing",
            ));
        }
        SealFile::create(&path).map_err(|error| directory.io_error(error))?;
    }
    let (file, seal) = SealFile::open(&path).map_err(|error| match error {
        SealError::Io(source) => directory.io_error(source),
        SealError::Damaged(detail) => directory.damaged(detail),
        SealError::NewerFormat(found) => OpenError::NewerFormat {
            path: directory.path().to_owned(),
            found,
            known: super::seal::FORMAT,
        },
    })?;
    if seal.before != StateHash::EMPTY && !directory.has_rows() {
        return Err(directory.damaged(format!(
            "the seal is over {} rows but the file `rows/db` is missing or empty",
            seal.before.rows()
        )));
    }
    Ok((file, seal))
}

fn check(directory: &Directory, seal: &Seal, found: StateHash) -> Result<(), OpenError> {
    if found == seal.before || found == seal.after {
        return Ok(());
    }
    Err(directory.damaged(format!(
        "the rows are not those that were last committed: the seal of group {} is over {} rows, found are {} rows with another content",
        seal.group,
        seal.after.rows(),
        found.rows(),
    )))
}

/// How often a lock that sled itself holds is tried again, and how long apart.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Opens sled. The directory is ours by its own lock; but sled's threads may hold sled's lock for a
/// moment after this process closed it before, so that is waited for.
fn open_sled(directory: &Directory, cache_capacity_bytes: u64) -> Result<Db, OpenError> {
    let mut tries = 0;
    loop {
        let config = ::sled::Config::new()
            .path(directory.rows())
            .cache_capacity(cache_capacity_bytes)
            // The writer flushes each group; nobody else shall.
            .flush_every_ms(None);
        match caught(|| config.open()) {
            Ok(Ok(db)) => return Ok(db),
            Ok(Err(error)) if is_lock(&error) && tries < LOCK_TRIES => {
                tries += 1;
                thread::sleep(LOCK_PAUSE);
            }
            Ok(Err(error)) => return Err(open_error(directory, error)),
            Err(panic) => return Err(directory.damaged(format!("the rows can't be opened ({panic})"))),
        }
    }
}

/// sled has no kind of its own for this.
fn is_lock(error: &::sled::Error) -> bool {
    matches!(error, ::sled::Error::Io(io) if io.to_string().starts_with("could not acquire lock"))
}

fn open_error(directory: &Directory, error: ::sled::Error) -> OpenError {
    match error {
        error if is_lock(&error) => OpenError::Locked {
            path: directory.path().to_owned(),
        },
        ::sled::Error::Io(source)
            if !matches!(
                source.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData
            ) =>
        {
            directory.io_error(source)
        }
        error => directory.damaged(format!("the rows can't be opened ({error})")),
    }
}

pub(super) fn failed(error: impl std::fmt::Display) -> StoreError {
    StoreError::Failed {
        detail: error.to_string(),
    }
}

#[cfg(test)]
mod tests;
