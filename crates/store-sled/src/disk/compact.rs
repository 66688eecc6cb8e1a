//! Reclaiming the space of removed rows: the live rows are written into a new database.

use std::fs;

use sled::{Batch, Db};

use tessera_store::{StoreError, backend::caught};

use crate::{
    checked,
    directory::Directory,
    error::{OpenError, failed},
    progress::StartProgress,
    scan,
    state_hash::StateHash,
};

/// How many rows are written at once.
const STEP: usize = 1000;
/// Rows are written once and read once.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// Writes the live rows to a new database, compares them with the seal, and replaces the old rows. Returns how many
/// bytes the rows took before and take now.
pub(super) fn compact(db: Db, state: StateHash, directory: &Directory) -> Result<(u64, u64), OpenError> {
    let io_error = |error| directory.io_error(error);
    let before = directory.rows_bytes().map_err(io_error)?;
    fs::create_dir(directory.rows_new()).map_err(io_error)?;
    let config = sled::Config::new()
        .path(directory.rows_new())
        .cache_capacity(CACHE_BYTES)
        .flush_every_ms(None);
    let copied = caught(|| {
        let new = config.open().map_err(failed)?;
        copy_rows(&db, &new)?;
        let found = scan::scan(&new, &StartProgress::default(), |_, _| Ok(()))?;
        Ok::<_, StoreError>((new, found))
    });
    let (new, found) = copied
        .unwrap_or_else(|panic| Err(failed(panic)))
        .map_err(|error| directory.io_error(std::io::Error::other(error)))?;
    checked::close(&directory.rows_new().join("db"), new);
    checked::close(&directory.data_file(), db);
    if found != state {
        return Err(directory.io_error(std::io::Error::other("the new rows are not those that were read")));
    }
    directory.exchange().map_err(io_error)?;
    directory.close_to_others();
    Ok((before, directory.rows_bytes().map_err(io_error)?))
}

fn copy_rows(from: &Db, to: &Db) -> Result<(), StoreError> {
    let (mut batch, mut waiting) = (Batch::default(), 0);
    for row in from.iter() {
        let (key, value) = row.map_err(failed)?;
        batch.insert(key, value);
        waiting += 1;
        if waiting == STEP {
            to.apply_batch(std::mem::take(&mut batch)).map_err(failed)?;
            waiting = 0;
        }
    }
    to.apply_batch(batch).map_err(failed)?;
    to.flush().map_err(failed).map(drop)
}
