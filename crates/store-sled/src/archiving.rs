//! Moving audit records from the rows to files, and reading both as one trail.

use std::{path::PathBuf, sync::Arc};

use tessera_core::Timestamp;
use tokio::sync::{Mutex, MutexGuard};

use super::{
    archive::{Archive, Chunk, Looking, Old, Place},
    audit_rows,
    error::failed,
    group::Group,
    read, rows,
    shared::Shared,
};
use tessera_store::{AuditPage, AuditQuery, StoreError};

/// Finds what to move or remove next. A caller that acts on its answers must be [`alone`](Archiver::alone).
pub(super) struct Archiver {
    archive: Archive,
    rows_max: u64,
    alone: Mutex<()>,
}

/// What the writer does once a chunk is in a file, or before a file is removed.
pub(super) struct Archived {
    place: Place,
    /// The last of the records that leave the rows.
    gone_through: Option<u64>,
    file_to_remove: Option<u64>,
}

impl Archiver {
    pub(super) fn new(directory: PathBuf, rows_max: u64) -> Self {
        Self {
            archive: Archive::new(directory),
            rows_max,
            alone: Mutex::default(),
        }
    }

    pub(super) fn archive(&self) -> &Archive {
        &self.archive
    }

    pub(super) async fn alone(&self) -> MutexGuard<'_, ()> {
        self.alone.lock().await
    }

    /// Finds a file whose records are all from before `before`; otherwise writes the oldest records to a file if the
    /// rows have too many. Returns what the writer must do then; `None` if nothing is left.
    pub(super) async fn next(
        &self,
        shared: &Arc<Shared>,
        before: Timestamp,
    ) -> Result<Option<Archived>, StoreError> {
        let (archive, shared, rows_max) = (self.archive.clone(), Arc::clone(shared), self.rows_max);
        apart(move || next(&archive, &shared, rows_max, before)).await
    }

    pub(super) async fn remove(&self, file: u64) -> Result<(), StoreError> {
        let archive = self.archive.clone();
        apart(move || archive.remove(file).map_err(unwritten)).await
    }
}

impl Archived {
    /// A file that is too old. It is removed once no row names it.
    pub(super) fn file_to_remove(&self) -> Option<u64> {
        self.file_to_remove
    }

    pub(super) fn run(&self, group: &mut Group<'_>) -> Result<(), StoreError> {
        if let Some(last) = self.gone_through {
            group.remove_audit_through(last);
        }
        group.meta_mut().archive = Some(self.place);
        let meta = *group.meta_mut();
        group.put(rows::meta_key(), &meta)
    }
}

fn next(
    archive: &Archive,
    shared: &Shared,
    rows_max: u64,
    before: Timestamp,
) -> Result<Option<Archived>, StoreError> {
    let place = shared.archive();
    if let Old::File(file, place) = archive.oldest(before, place.as_ref()).map_err(unwritten)? {
        return Ok(Some(Archived {
            place,
            gone_through: None,
            file_to_remove: Some(file),
        }));
    }
    // After a crash, positions after the last durable one could be given to other records.
    let through = shared.audit_committed().saturating_sub(rows_max);
    if through <= place.map_or(0, |place| place.through) {
        return Ok(None);
    }
    let Some(chunk) = shared.read(|db| Chunk::of(audit_rows::entries(db, 0, through)))? else {
        return Ok(None);
    };
    let place = archive.append(place.as_ref(), &chunk).map_err(unwritten)?;
    Ok(Some(Archived {
        place,
        gone_through: Some(chunk.last),
        file_to_remove: None,
    }))
}

/// The result of a query, over rows and files.
pub(super) fn page(shared: &Shared, archive: &Archive, query: &AuditQuery) -> Result<AuditPage, StoreError> {
    let through = query.through.min(shared.audit_committed());
    loop {
        let place = shared.archive();
        let read = || {
            let mut looking = Looking::at(query, through);
            if let Some(place) = &place {
                archive.look(place, &mut looking)?;
            }
            shared.read(|db| read::audit(db, &mut looking))?;
            Ok(looking.page())
        };
        let found = read();
        // Otherwise records may have left the rows, or a file may have been removed, before they were read.
        if shared.archive() == place {
            return found;
        }
    }
}

async fn apart<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(act)
        .await
        .unwrap_or_else(|error| Err(failed(error)))
}

/// The records stay in the rows until they can be written.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unwritten(error: std::io::Error) -> StoreError {
    StoreError::Failed {
        detail: format!("audit records can't be moved to their files: {error}"),
    }
}
