//! Opening sled, and comparing what it opened with the seal.

use std::{
    fs::{File, TryLockError},
    io,
    path::Path,
    thread,
    time::Duration,
};

use sled::Db;

use super::{
    directory::Directory,
    progress::{StartProgress, Step},
    rows::SEAL_KEY,
    scan,
    seal::{Seal, SealError, SealFile},
    state_hash::StateHash,
};
use tessera_store::{StoreError, backend::caught};

use crate::error::OpenError;

/// Rows that match the seal.
pub(super) struct Opened<F> {
    pub(super) db: Db,
    pub(super) state: StateHash,
    /// The last group in them.
    pub(super) group: u64,
    /// What the visitor saw in them.
    pub(super) found: F,
}

/// Reads the seal, or makes it if the directory has no data.
pub(super) fn open_seal(directory: &Directory) -> Result<(SealFile, Seal), OpenError> {
    directory.check_files()?;
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

/// The number of the last group in the rows, whose hash is `found` and whose own seal is `own`.
fn check(directory: &Directory, seal: &Seal, found: StateHash, own: Option<&Seal>) -> Result<u64, OpenError> {
    if found == seal.before || found == seal.after {
        return Ok(seal.group);
    }
    // The seal of a group that was never acknowledged was lost, but the group itself was not.
    if let Some(own) = own.filter(|own| own.follows(seal) && own.after == found) {
        return Ok(own.group);
    }
    Err(directory.damaged(format!(
        "the rows are not those that were last committed: the seal of group {} is over {} rows, found are {} rows with another content",
        seal.group,
        seal.after.rows(),
        found.rows(),
    )))
}

/// How often to try a lock again that sled itself holds, and the pause in between.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// How often the rows are opened, each time from a copy of the original. A read that fails once can look like damage,
/// or like a group that a crash interrupted.
const TRIES: u32 = 2;

/// Opens the rows, and succeeds if they match the seal. If it fails, they are unchanged.
pub(super) fn open<F: Default>(
    directory: &Directory,
    seal: &Seal,
    cache_capacity_bytes: u64,
    progress: &StartProgress,
    visit: &impl Fn(&mut F, &[u8], &[u8]) -> Result<(), StoreError>,
) -> Result<Opened<F>, OpenError> {
    let attempt = || open_once(directory, seal, cache_capacity_bytes, progress, visit);
    if !directory.has_rows_directory() {
        return attempt();
    }
    let io_error = |error| directory.io_error(error);
    let _lock = lock_rows(directory)?;
    directory.set_aside().map_err(io_error)?;
    let opened = open_copies(directory, seal, progress, attempt);
    if opened.is_err() {
        directory.restore().map_err(io_error)?;
    }
    opened
}

fn open_copies<F>(
    directory: &Directory,
    seal: &Seal,
    progress: &StartProgress,
    attempt: impl Fn() -> Result<Opened<F>, OpenError>,
) -> Result<Opened<F>, OpenError> {
    let mut tries = 1;
    loop {
        let copied = directory
            .copy_aside(progress)
            .map_err(|error| directory.io_error(error));
        let opened = copied.and_then(|()| beside_sync(directory, &attempt));
        let is_last = tries == TRIES;
        match opened {
            // Rows without the last group are valid only if that group was never acknowledged.
            Ok(opened) if opened.state == seal.before && opened.state != seal.after && !is_last => {
                close(&directory.data_file(), opened.db);
            }
            Err(error) if !is_last => {
                tracing::warn!(%error, "opening the rows failed: it is tried once more, with another copy of them");
            }
            opened => return opened,
        }
        tries += 1;
    }
}

/// Opens the copy while it is written to the disk. The disk reports an error of that only once, so the result counts: a
/// later sync may report none.
fn beside_sync<F>(
    directory: &Directory,
    attempt: impl FnOnce() -> Result<Opened<F>, OpenError>,
) -> Result<Opened<F>, OpenError> {
    thread::scope(|scope| {
        let syncing = thread::Builder::new().name("store-copy".to_owned());
        let syncing = syncing
            .spawn_scoped(scope, || directory.sync_copy())
            .map_err(|error| directory.io_error(error))?;
        let opened = attempt()?;
        let synced = syncing
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("syncing panicked")));
        match synced {
            Ok(()) => Ok(opened),
            Err(error) => {
                close(&directory.data_file(), opened.db);
                Err(directory.io_error(error))
            }
        }
    })
}

fn open_once<F: Default>(
    directory: &Directory,
    seal: &Seal,
    cache_capacity_bytes: u64,
    progress: &StartProgress,
    visit: impl Fn(&mut F, &[u8], &[u8]) -> Result<(), StoreError>,
) -> Result<Opened<F>, OpenError> {
    progress.enter(Step::Recovery);
    let db = open_sled(directory, cache_capacity_bytes)?;
    progress.enter(Step::Check {
        rows: seal.after.rows(),
    });
    let (mut found, mut own) = (F::default(), None);
    let scanned = caught(|| {
        scan::scan(&db, progress, |key, value| {
            if key == SEAL_KEY {
                own = Seal::from_row(value);
            }
            visit(&mut found, key, value)
        })
    });
    let scanned = scanned.unwrap_or_else(|panic| Err(StoreError::Failed { detail: panic }));
    let state = scanned
        .map_err(|error| directory.damaged(format!("the rows can't be read ({error})")))
        .and_then(|state| Ok((state, check(directory, seal, state, own.as_ref())?)));
    match state {
        Ok((state, group)) => Ok(Opened {
            db,
            state,
            group,
            found,
        }),
        Err(error) => {
            close(&directory.data_file(), db);
            Err(error)
        }
    }
}

/// Closes sled, and waits until its threads have closed the file: they must not write to another copy at that path.
pub(super) fn close(data_file: &Path, db: Db) {
    let file = File::open(data_file);
    if let Err(panic) = caught(move || drop(db)) {
        tracing::debug!(%panic, "closing the rows failed");
    }
    if let Ok(file) = file {
        drop(wait_for_lock(&file));
    }
}

/// Locks the rows as sled would. Our own lock protects the directory, but after an earlier close in this process sled's
/// threads may hold sled's lock for a moment. So this waits for it.
fn lock_rows(directory: &Directory) -> Result<Option<File>, OpenError> {
    let file = match File::open(directory.data_file()) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(directory.io_error(error)),
    };
    match wait_for_lock(&file) {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked {
            path: directory.path().to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(directory.io_error(source)),
    }
}

fn wait_for_lock(file: &File) -> Result<(), TryLockError> {
    let mut tries = 0;
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if tries < LOCK_TRIES => {
                tries += 1;
                thread::sleep(LOCK_PAUSE);
            }
            locked => return locked,
        }
    }
}

fn open_sled(directory: &Directory, cache_capacity_bytes: u64) -> Result<Db, OpenError> {
    let config = sled::Config::new()
        .path(directory.rows())
        .cache_capacity(cache_capacity_bytes)
        // The writer flushes each group; sled must not.
        .flush_every_ms(None);
    match caught(|| config.open()) {
        Ok(Ok(db)) => Ok(db),
        Ok(Err(error)) => Err(open_error(directory, error)),
        Err(panic) => Err(directory.damaged(format!("the rows can't be opened ({panic})"))),
    }
}

fn open_error(directory: &Directory, error: sled::Error) -> OpenError {
    match error {
        sled::Error::Io(source)
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
