//! From a directory to a running store.

use std::{path::Path, sync::Arc};

use tessera_core::{Event, LogId, Revocations, Sequence};

use super::{
    SledOptions,
    archive::Archive,
    directory::Directory,
    disk::{Changes, Disk},
    recent::Recent,
    rows::{self, CutoffRow, Meta, Table},
    shared::{OpenedLog, Shared},
};
use crate::{
    cutoff::cutoff_target,
    error::{OpenError, StoreError},
    times::Times,
};

/// What is read of the rows while they are checked.
#[derive(Default)]
struct Found {
    meta: Option<Meta>,
    times: Times,
    recent: Recent,
    revocations: Revocations,
}

/// Which log a store goes on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Log {
    /// That of the directory.
    Same,
    /// Another one, which begins where that of the directory can't have come: what the copy that it was put
    /// back from does not know of had lower places.
    New,
}

/// The smallest cache that the rows can be read with.
const CACHE_MIN_BYTES: u64 = 1024 * 1024;

/// How far the place is at which a new log begins.
const FAR: u64 = 1 << 32;

/// Locks, opens and checks a data directory.
pub(super) fn open(
    path: &Path,
    options: &SledOptions,
    log: Log,
) -> Result<(Disk, Arc<Shared>, Meta), OpenError> {
    if options.cache_capacity_bytes < CACHE_MIN_BYTES {
        return Err(OpenError::Setting {
            setting: "cache_mib",
            problem: "must be at least 1",
        });
    }
    let directory = Directory::lock(path)?;
    let (mut disk, mut found) = Disk::open(directory, options.cache_capacity_bytes, Found::visit)?;
    let meta = match found.meta {
        Some(meta) => meta,
        None if disk.is_empty() => begin(&mut disk)?,
        None => {
            return Err(damaged(
                &disk,
                "the row about the store itself is missing".to_owned(),
            ));
        }
    };
    let meta = match log {
        Log::Same => meta,
        Log::New => anew(&disk, meta)?,
    };
    Archive::new(disk.audit_path()).look_for(meta.archive.as_ref());
    // Those before a log that was begun anew are there until they are purged.
    found.recent.forget_through(meta.floor);
    found.revocations.advance(meta.last);
    let log = OpenedLog {
        log_id: meta.log_id,
        last: meta.last,
        floor: meta.floor,
        audit_last: meta.audit_last,
        archive: meta.archive,
        purged: meta.purged,
        times: found.times,
        group: meta.group,
        recent: found.recent,
        revocations: found.revocations,
    };
    let shared = Arc::new(Shared::new(disk.db().clone(), log));
    Ok((disk, shared, meta))
}

/// Locks, opens, checks and compacts a data directory.
pub(super) fn compact(path: &Path, options: &SledOptions) -> Result<(u64, u64), OpenError> {
    let directory = Directory::lock(path)?;
    let (disk, ()) = Disk::open(directory, options.cache_capacity_bytes, |(), _, _| Ok(()))?;
    disk.compact()
}

impl Found {
    fn visit(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        match key.first().copied() {
            Some(table) if table == Table::Meta as u8 => {
                self.meta = Some(rows::decode("the store itself", value)?);
            }
            Some(table) if table == Table::Times as u8 => {
                self.times = rows::decode("the times", value)?;
            }
            Some(table) if table == Table::Event as u8 => {
                let event: Event = rows::decode("an event", value)?;
                // Those that end sessions are among the cutoffs, with the time that counts for them.
                if cutoff_target(&event.body).is_none() {
                    self.revocations.apply(&event);
                }
                self.recent.extend([Arc::new(event)]);
            }
            Some(table) if table == Table::Cutoff as u8 => {
                let cutoff: CutoffRow<Event> = rows::decode("a cutoff", value)?;
                self.revocations.apply_until(&cutoff.event, cutoff.until);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Writes the first row of a new store, with the identity of its log.
fn begin(disk: &mut Disk) -> Result<Meta, OpenError> {
    let meta = Meta {
        log_id: random_log_id(disk)?,
        last: Sequence(0),
        floor: Sequence(0),
        audit_last: 0,
        archive: None,
        group: disk.next_group(),
        purged: None,
    };
    let write =
        |disk: &mut Disk| disk.commit(Changes::from([(rows::meta_key(), Some(rows::encode(&meta)?))]));
    write(disk).map_err(|error| OpenError::Io {
        path: disk.path().to_owned(),
        source: std::io::Error::other(error),
    })?;
    Ok(meta)
}

/// What the row about the store becomes with the first group: nothing is written before that.
fn anew(disk: &Disk, meta: Meta) -> Result<Meta, OpenError> {
    let last = Sequence(meta.last.0.saturating_add(FAR));
    Ok(Meta {
        log_id: random_log_id(disk)?,
        last,
        floor: last,
        ..meta
    })
}

fn random_log_id(disk: &Disk) -> Result<LogId, OpenError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| OpenError::Io {
        path: disk.path().to_owned(),
        source: std::io::Error::other(error),
    })?;
    Ok(LogId::from_bytes(bytes))
}

fn damaged(disk: &Disk, detail: String) -> OpenError {
    OpenError::Damaged {
        path: disk.path().to_owned(),
        detail,
    }
}
