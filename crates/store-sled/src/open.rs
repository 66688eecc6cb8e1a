//! Opening a directory as a running store.

use std::{collections::VecDeque, path::Path, sync::Arc};

use tessera_core::{Event, LogId, PolicyRevision, Revocations, Sequence};

use tessera_store::{
    Log, StoreError, Times,
    backend::{LogStart, cutoff_target},
};

use super::{
    archive::Archive,
    changes::RowChanges,
    checked::Opened,
    contents::Contents,
    directory::Directory,
    disk::Disk,
    error::OpenError,
    options::SledOptions,
    progress::StartProgress,
    read,
    rows::{self, CutoffRow, Meta, Table},
    shared::Shared,
};

/// What is read from the rows while they are checked.
#[derive(Default)]
struct Found {
    meta: Option<Meta>,
    times: Times,
    events: VecDeque<Arc<Event>>,
    policy: Option<PolicyRevision>,
    revocations: Revocations,
}

/// The log that a store continues with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WhichLog {
    /// The log of the directory.
    Same,
    /// Another log, which begins beyond every position of the old one: events that the restored copy does not have are
    /// at lower positions.
    New,
}

/// The smallest cache with which the rows can be read.
const CACHE_MIN_BYTES: u64 = 1024 * 1024;

/// The distance to the position at which a new log begins.
const FAR: u64 = 1 << 32;

/// Locks, opens and checks a data directory.
pub(super) fn open(
    path: &Path,
    options: &SledOptions,
    log: WhichLog,
    progress: &StartProgress,
    accepts: impl FnOnce(Option<&Contents>) -> Result<(), OpenError>,
) -> Result<(Disk, Arc<Shared>, Meta), OpenError> {
    if options.cache_capacity_bytes < CACHE_MIN_BYTES {
        return Err(OpenError::Setting {
            setting: "cache_mib",
            problem: "must be at least 1",
        });
    }
    let directory = Directory::lock(path)?;
    let (mut disk, mut found) = Disk::open(
        directory,
        options.cache_capacity_bytes,
        progress,
        Found::visit,
        |opened| accepts(contents(opened, path)?.as_ref()),
    )?;
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
        WhichLog::Same => meta,
        WhichLog::New => anew(&disk, meta)?,
    };
    Archive::new(disk.audit_path()).look_for(meta.archive.as_ref());
    found.revocations.advance(meta.last);
    let log = Log::new(LogStart {
        id: meta.log_id,
        last: meta.last,
        floor: meta.floor,
        // Events from before a new log was begun are there until they are purged.
        events: found.events.into(),
        revocations: found.revocations,
        times: found.times,
        purged: meta.purged,
        audit_head: meta.audit,
    });
    let shared = Arc::new(Shared::new(disk.db().clone(), log, &meta, found.policy));
    Ok((disk, shared, meta))
}

/// Locks, opens, checks and compacts a data directory.
pub(super) fn compact(path: &Path, options: &SledOptions) -> Result<(u64, u64), OpenError> {
    let directory = Directory::lock(path)?;
    let progress = StartProgress::default();
    let (disk, ()) = Disk::open(
        directory,
        options.cache_capacity_bytes,
        &progress,
        |(), _, _| Ok(()),
        |_| Ok(()),
    )?;
    disk.compact()
}

/// The content of the directory; `None` if it is new.
fn contents(opened: &Opened<Found>, path: &Path) -> Result<Option<Contents>, OpenError> {
    let Some(meta) = &opened.found.meta else {
        return Ok(None);
    };
    let signing_keys = read::signing_keys(&opened.db).map_err(|error| OpenError::Damaged {
        path: path.to_owned(),
        detail: error.to_string(),
    })?;
    Ok(Some(Contents {
        log: meta.log_id,
        group: opened.group,
        signing_keys,
    }))
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
            Some(table) if table == Table::PolicyInForce as u8 => {
                self.policy = Some(rows::decode("the policy in force", value)?);
            }
            Some(table) if table == Table::Event as u8 => {
                let event: Event = rows::decode("an event", value)?;
                // Events that end sessions are among the cutoffs, with the time that counts for them.
                if cutoff_target(&event.body).is_none() {
                    self.revocations.apply(&event);
                }
                if self.events.len() == Log::RECENT_MAX {
                    self.events.pop_front();
                }
                self.events.push_back(Arc::new(event));
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
        group: disk.next_group(),
        ..Meta::new(random_log_id(disk)?)
    };
    let write = |disk: &mut Disk| {
        disk.commit(RowChanges::from_iter([(
            rows::meta_key(),
            Some(rows::encode(&meta)?),
        )]))
    };
    write(disk).map_err(|error| OpenError::Io {
        path: disk.path().to_owned(),
        source: std::io::Error::other(error),
    })?;
    Ok(meta)
}

/// The row about the store that the first group writes, with a new log: nothing is written before that.
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
