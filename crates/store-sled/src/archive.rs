//! The audit trail except its newest records: files beside the rows, to which only the purge appends.
//!
//! The trail is by far the largest part of the data, and no decision of the authority depends on it. So the rows keep
//! only the newest records, and a start reads few of them. Older records move to files, one chunk at a time. A file
//! takes the records of one day, or [`FILE_MAX`] bytes of them. It is removed as a whole when its last record is too
//! old to be kept, so its space is free at once.
//!
//! A chunk is durable before the row about the store names it, in the group that removes its records from the rows.
//! After a crash, the next chunk overwrites everything after the location that the row names.

mod chunk;
mod looking;

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde::{Deserialize, Serialize};
use tessera_core::Timestamp;

use self::chunk::{HASH_LEN, Header};
pub(super) use self::{chunk::Chunk, looking::Looking};
use super::directory::sync_directory;
use tessera_store::StoreError;

/// A file that is larger gets no more chunks.
const FILE_MAX: u64 = 64 * 1024 * 1024;
const DAY_MILLIS: i64 = 24 * 60 * 60 * 1000;
/// Digits of a file's name, which is the position of its first record.
const NAME_DIGITS: usize = 20;

/// Where the next chunk goes, and what is before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// The position of the first record that is still in a file: beyond `through` if none is.
    first: u64,
    /// The position of the first record of the newest file.
    pub(super) file: u64,
    /// The day of that record.
    day: i64,
    /// How much of the file counts; 0 if the next chunk begins a file.
    len: u64,
    /// The last record that is in a file.
    pub(super) through: u64,
    /// The latest time of a record in the newest file.
    last_at: Timestamp,
    /// The hash of the last chunk, which the next chunk names.
    hash: [u8; HASH_LEN],
}

/// The directory of the files.
#[derive(Clone, Debug)]
pub(super) struct Archive {
    directory: Arc<Path>,
    is_told: Arc<AtomicBool>,
}

/// The oldest data, if it is too old to be kept.
pub(super) enum Old {
    Nothing,
    /// A file, and the archive's state without it.
    File(u64, Place),
}

impl Place {
    /// The position of the first record that is in a file; `None` if no record is.
    pub(super) fn first_kept(&self) -> Option<u64> {
        (self.first <= self.through).then_some(self.first)
    }

    /// The same state without the records before `first`.
    pub(super) fn kept_from(self, first: u64) -> Self {
        if first > self.through {
            // No row names its files any longer: the next purge removes them.
            return Self {
                first: self.through.saturating_add(1),
                len: 0,
                ..self
            };
        }
        Self {
            first: first.max(self.first),
            ..self
        }
    }

    fn takes(&self, chunk: &Chunk) -> bool {
        (1..FILE_MAX).contains(&self.len) && self.day == day_of(chunk.first_at)
    }
}

impl Archive {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self {
            directory: directory.into(),
            is_told: Arc::default(),
        }
    }

    /// Logs it if files that the rows name do not exist: otherwise this is noticed only when the records are read.
    pub(super) fn look_for(&self, place: Option<&Place>) {
        let Some(place) = place.filter(|place| place.len > 0) else {
            return;
        };
        let path = self.path(place.file);
        if fs::metadata(&path).map_or(0, |data| data.len()) < place.len {
            tracing::error!(
                path = %path.display(),
                "audit records are lost: this file is missing or cut off"
            );
        }
    }

    /// Writes a chunk after `place`, durably, and returns where the next one goes.
    pub(super) fn append(&self, place: Option<&Place>, chunk: &Chunk) -> io::Result<Place> {
        let goes_on = place.filter(|place| place.takes(chunk) && self.has(place));
        let (file, day, offset) = match goes_on {
            Some(place) => (place.file, place.day, place.len),
            None => (chunk.first, day_of(chunk.first_at), 0),
        };
        let (after, previous) = place.map_or((0, [0; HASH_LEN]), |place| (place.through, place.hash));
        let (bytes, hash) = chunk.encode(after, &previous);
        self.write(file, offset, &bytes)?;
        let before = goes_on.map(|place| place.last_at);
        Ok(Place {
            first: place.map_or(chunk.first, |place| {
                let is_first = place.first > place.through;
                if is_first { chunk.first } else { place.first }
            }),
            file,
            day,
            len: offset + bytes.len() as u64,
            through: chunk.last,
            last_at: before.map_or(chunk.latest, |at| at.max(chunk.latest)),
            hash,
        })
    }

    fn has(&self, place: &Place) -> bool {
        fs::metadata(self.path(place.file)).is_ok_and(|data| data.len() >= place.len)
    }

    fn write(&self, file: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if !self.directory.is_dir() {
            DirBuilder::new().mode(0o700).create(&*self.directory)?;
            sync_directory(self.directory.parent().unwrap_or(Path::new(".")))?;
        }
        let opened = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(self.path(file))?;
        opened.set_len(offset)?;
        opened.write_all_at(bytes, offset)?;
        opened.sync_all()?;
        if offset == 0 {
            sync_directory(&self.directory)?;
        }
        Ok(())
    }

    /// Continues a query through the records that are in files.
    ///
    /// # Errors
    /// Fails if records that should exist are missing, or are not what was written.
    pub(super) fn look(&self, place: &Place, looking: &mut Looking) -> Result<(), StoreError> {
        // The records before were removed as too old.
        looking.pass(place.first.saturating_sub(1));
        if looking
            .wanted()
            .is_none_or(|wanted| *wanted.start() > place.through)
        {
            return Ok(());
        }
        let mut reading = Reading {
            through: place.through,
            before: None,
            looking,
        };
        self.read(&mut reading).map_err(|error| self.failed(&error))
    }

    fn read(&self, reading: &mut Reading<'_>) -> io::Result<()> {
        let after = reading.looking.through;
        let wanted = after.saturating_add(1);
        let files = self.files()?;
        let before = files.partition_point(|file| *file <= wanted);
        for file in files.into_iter().skip(before.saturating_sub(1)) {
            if reading.is_done() {
                break;
            }
            if reading.before.is_none() && file > wanted {
                return Err(missing(after, file));
            }
            reading.file(&File::open(self.path(file))?)?;
        }
        if reading.is_done() {
            Ok(())
        } else {
            Err(missing(
                reading.before.unwrap_or(after),
                reading.through.saturating_add(1),
            ))
        }
    }

    /// The oldest data, if it is too old: one file at a time.
    pub(super) fn oldest(&self, before: Timestamp, place: Option<&Place>) -> io::Result<Old> {
        let files = self.files()?;
        let (Some(oldest), Some(place)) = (files.first(), place) else {
            return Ok(Old::Nothing);
        };
        if place.first > place.through {
            // No row names it: a process ended before it was removed.
            return Ok(Old::File(*oldest, *place));
        }
        let Some(next) = files.get(1).filter(|_| *oldest != place.file) else {
            let is_old = place.len > 0 && *oldest == place.file && place.last_at < before;
            let without = Place {
                first: place.through.saturating_add(1),
                len: 0,
                ..*place
            };
            return Ok(if is_old {
                Old::File(*oldest, without)
            } else {
                Old::Nothing
            });
        };
        let header = match Header::read(&File::open(self.path(*next))?, 0) {
            Ok(header) => header,
            // Then it is not known whether the file before it is too old: the file stays, and the other work continues.
            Err(error) => {
                self.tell_once(&error);
                return Ok(Old::Nothing);
            }
        };
        let without = Place {
            first: place.first.max(*next),
            ..*place
        };
        Ok(if header.first_at < before {
            Old::File(*oldest, without)
        } else {
            Old::Nothing
        })
    }

    pub(super) fn remove(&self, file: u64) -> io::Result<()> {
        match fs::remove_file(self.path(file)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// The first positions of the files, in order.
    fn files(&self) -> io::Result<Vec<u64>> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let name = name.to_str().filter(|name| name.len() == NAME_DIGITS);
            files.extend(name.and_then(|name| name.parse::<u64>().ok()));
        }
        files.sort_unstable();
        Ok(files)
    }

    fn path(&self, file: u64) -> PathBuf {
        self.directory.join(format!("{file:0NAME_DIGITS$}"))
    }

    /// Logs that a file is damaged, once for each start: the damage is found again every few seconds.
    fn tell_once(&self, error: &io::Error) {
        if !self.is_told.swap(true, Ordering::Relaxed) {
            tracing::error!(directory = %self.directory.display(), %error, "audit records are damaged, and are kept for longer than they should be");
        }
    }

    /// A failure of the files does not end the store: nothing else reads them.
    fn failed(&self, error: &io::Error) -> StoreError {
        StoreError::Damaged {
            detail: format!(
                "the audit records in {} can't be read: {error}",
                self.directory.display()
            ),
        }
    }
}

/// The state of reading through chunks and files.
struct Reading<'a> {
    /// The last record that is in a file.
    through: u64,
    /// The last record of the chunk before.
    before: Option<u64>,
    looking: &'a mut Looking,
}

impl Reading<'_> {
    /// Bytes after the last record that counts may be anything.
    fn is_done(&self) -> bool {
        self.looking.is_done()
            || self.looking.through >= self.through
            || self.before.is_some_and(|before| before >= self.through)
    }

    fn file(&mut self, file: &File) -> io::Result<()> {
        let (len, mut offset) = (file.metadata()?.len(), 0);
        while offset < len && !self.is_done() {
            let header = Header::read(file, offset)?;
            if let Some(before) = self.before.filter(|before| *before != header.after) {
                return Err(missing(before, header.first));
            }
            if header.last > self.looking.through {
                self.chunk(&header, file, offset)?;
            }
            self.before = Some(header.last);
            offset += header.chunk_len();
        }
        Ok(())
    }

    /// A chunk without a record of the requested times is skipped unread.
    fn chunk(&mut self, header: &Header, file: &File, offset: u64) -> io::Result<()> {
        if !header.has_times_of(&self.looking.query) {
            self.looking.pass_chunk(header.last);
            return Ok(());
        }
        for (position, row) in (header.first..).zip(header.rows(file, offset)?) {
            if position > self.looking.through && !self.looking.is_done() {
                let entry = chunk::entry_of(position, &row).map_err(io::Error::other)?;
                self.looking.look(entry);
            }
        }
        Ok(())
    }
}

fn missing(after: u64, before: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("records between {after} and {before} are missing"),
    )
}

fn day_of(at: Timestamp) -> i64 {
    at.as_millis().div_euclid(DAY_MILLIS)
}
