//! Making a data directory from a backup.

use std::{mem, path::Path};

use tessera_core::LogId;
use tessera_store::{
    AuditEntry, BackupEnd, BackupRecord, Log, StoreError, Times,
    backend::{LogStart, caught},
};

use super::{
    api_keys::ApiKeys,
    archive::{Archive, Chunk, Place},
    directory::Directory,
    disk::Disk,
    error::{OpenError, failed},
    group::Group,
    options::SledOptions,
    progress::StartProgress,
    rows::Meta,
    state::State,
};

/// How many records are written at once.
const BATCH: usize = 1024;

/// A data directory that is being made from a backup. Until it is [finished](SledRestore::finish), it is not usable.
pub struct SledRestore {
    disk: Disk,
    /// A group needs a log; nothing here uses it.
    log: Log,
    api_keys: ApiKeys,
    state: State,
    records: Vec<BackupRecord>,
    archive: Archive,
    place: Option<Place>,
    /// The newest audit records, which go to the rows if no more records follow.
    audit: Vec<AuditEntry>,
    audit_rows_max: usize,
}

impl SledRestore {
    /// Begins an empty directory at `path`.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn begin(path: &Path, options: &SledOptions) -> Result<Self, OpenError> {
        let directory = Directory::lock(path)?;
        let (disk, ()) = Disk::open(
            directory,
            options.cache_capacity_bytes,
            &StartProgress::default(),
            |(), _, _| Ok(()),
            |_| Ok(()),
        )?;
        let log = LogId::from_bytes([0; 16]);
        Ok(Self {
            archive: Archive::new(disk.audit_path()),
            disk,
            log: Log::new(LogStart::empty(log)),
            api_keys: ApiKeys::default(),
            state: State {
                meta: Meta::new(log),
                times: Times::default(),
                policy: None,
            },
            records: Vec::new(),
            place: None,
            audit: Vec::new(),
            audit_rows_max: usize::try_from(options.audit_rows_max).unwrap_or(usize::MAX),
        })
    }

    /// Numbers the groups from `first` on: of two directories with one log, the one with more groups is the later one.
    #[must_use]
    pub fn counting_from(mut self, first: u64) -> Self {
        self.disk.count_from(first);
        self
    }

    /// Adds the next record.
    ///
    /// # Errors
    /// Fails if the directory can't be written.
    pub fn add(&mut self, record: BackupRecord) -> Result<(), StoreError> {
        match record {
            BackupRecord::Audit(bytes) => self.add_audit(bytes.entry()?),
            record => {
                self.records.push(record);
                if self.records.len() < BATCH {
                    return Ok(());
                }
                self.write(|_| Ok(()))
            }
        }
    }

    /// Writes the rest. Then the directory has the state of the position that `end` names.
    ///
    /// # Errors
    /// Fails if the directory can't be written.
    pub fn finish(mut self, end: BackupEnd) -> Result<(), StoreError> {
        let mut audit = mem::take(&mut self.audit);
        audit.retain(|entry| entry.position >= end.audit_first);
        let place = self.place.map(|place| place.kept_from(end.audit_first));
        self.write(move |group| {
            for entry in &audit {
                group.put_audit_entry(entry)?;
            }
            group.restore_end(end, place)
        })?;
        self.disk.close()
    }

    fn add_audit(&mut self, entry: AuditEntry) -> Result<(), StoreError> {
        self.audit.push(entry);
        // It waits for some more records, so that a chunk is large enough.
        if self.audit.len() < self.audit_rows_max.saturating_add(BATCH) {
            return Ok(());
        }
        while self.audit.len() > self.audit_rows_max
            && let Some(chunk) = Chunk::of(self.audit.iter().map(Ok))?
        {
            self.place = Some(self.archive.append(self.place.as_ref(), &chunk).map_err(failed)?);
            let moved = self.audit.partition_point(|entry| entry.position <= chunk.last);
            self.audit.drain(..moved);
        }
        Ok(())
    }

    /// Writes the waiting records, and those that `more` adds, as one group.
    fn write(
        &mut self,
        more: impl FnOnce(&mut Group<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let records = mem::take(&mut self.records);
        let number = self.disk.next_group();
        let (db, log, state) = (self.disk.db(), &self.log, self.state.clone());
        self.api_keys.clear();
        let write = || {
            let mut group = Group::new(db, log, &self.api_keys, state);
            records.into_iter().try_for_each(|record| group.restore(record))?;
            more(&mut group)?;
            group.finish(number)
        };
        let finished = caught(write).unwrap_or_else(|panic| Err(failed(panic)))?;
        self.disk.commit(finished.rows)?;
        self.state = finished.state;
        Ok(())
    }
}
