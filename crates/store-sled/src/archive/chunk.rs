//! The format of a chunk of audit records in a file.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | magic and format |
//! | 8 | the position of the last record of the chunk before it; records in between were too old to be kept |
//! | 8 | the position of its first record |
//! | 8 | the position of its last record |
//! | 8 | the time of its first record, in milliseconds |
//! | 8 | the earliest time of a record |
//! | 8 | the latest time of a record |
//! | 4 | how many bytes of records follow |
//! | 32 | the hash of the chunk before it |
//! | | the records: of each the length in 4 bytes, a version, the link before it and its bytes |
//! | 32 | the SHA-256 of everything before |

use std::{borrow::Borrow, fs::File, io, os::unix::fs::FileExt};

use sha2::{Digest, Sha256};
use tessera_core::Timestamp;

use tessera_store::{AuditEntry, AuditLink, AuditQuery, StoreError};

use crate::error::failed;

pub(super) const HASH_LEN: usize = 32;
const MAGIC: &[u8; 8] = b"TSRAUD\0\x02";
/// The version of a record in a chunk, its first byte.
const RECORD_VERSION: u8 = 1;
const HEADER_LEN: usize = 8 + 8 + 8 + 8 + 8 + 8 + 8 + 4 + HASH_LEN;
/// The most records of a chunk, and the most bytes, except if its first record alone has more.
const RECORDS_MAX: usize = 512;
const BYTES_MAX: usize = 1024 * 1024;
/// Every record is smaller than this.
const LENGTH_MAX: u32 = 16 * 1024 * 1024;

/// Records that leave the rows together.
pub(crate) struct Chunk {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(super) first_at: Timestamp,
    /// The earliest time of a record.
    earliest: Timestamp,
    /// The latest time of a record.
    pub(super) latest: Timestamp,
    rows: Vec<u8>,
}

/// The content of a chunk's header.
pub(super) struct Header {
    /// The last record of the chunk before.
    pub(super) after: u64,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) first_at: Timestamp,
    earliest: Timestamp,
    latest: Timestamp,
    length: u32,
}

impl Chunk {
    /// The first of these records that fit into one chunk; `None` if there are no records.
    pub(crate) fn of<E: Borrow<AuditEntry>>(
        entries: impl IntoIterator<Item = Result<E, StoreError>>,
    ) -> Result<Option<Self>, StoreError> {
        let mut chunk = None;
        for entry in entries.into_iter().take(RECORDS_MAX) {
            if !Self::add(&mut chunk, entry?.borrow())? {
                break;
            }
        }
        Ok(chunk)
    }

    /// Adds a record if it follows the last record and there is room. Returns whether it was added.
    fn add(chunk: &mut Option<Self>, entry: &AuditEntry) -> Result<bool, StoreError> {
        let (position, at) = (entry.position, entry.record.at);
        let record = record_bytes(entry);
        let chunk = chunk.get_or_insert_with(|| Self::empty(position, at));
        let takes = chunk.takes(position, &record);
        if takes {
            chunk.push(position, at, &record)?;
        }
        Ok(takes)
    }

    /// A chunk that begins with this record.
    fn empty(first: u64, at: Timestamp) -> Self {
        Self {
            first,
            last: first,
            first_at: at,
            earliest: at,
            latest: at,
            rows: Vec::new(),
        }
    }

    fn takes(&self, position: u64, row: &[u8]) -> bool {
        let is_full = !self.rows.is_empty() && self.rows.len() + row.len() > BYTES_MAX;
        let is_next = position == self.last || position == self.last.saturating_add(1);
        !is_full && is_next
    }

    fn push(&mut self, position: u64, at: Timestamp, row: &[u8]) -> Result<(), StoreError> {
        self.last = position;
        self.earliest = self.earliest.min(at);
        self.latest = self.latest.max(at);
        let length = u32::try_from(row.len()).map_err(failed)?;
        self.rows.extend_from_slice(&length.to_be_bytes());
        self.rows.extend_from_slice(row);
        Ok(())
    }

    /// Its bytes if it follows the chunk that ends with the record `after` and has the hash `previous`, and its own
    /// hash.
    pub(super) fn encode(&self, after: u64, previous: &[u8; HASH_LEN]) -> (Vec<u8>, [u8; HASH_LEN]) {
        let mut bytes = Vec::with_capacity(HEADER_LEN + self.rows.len() + HASH_LEN);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&after.to_be_bytes());
        bytes.extend_from_slice(&self.first.to_be_bytes());
        bytes.extend_from_slice(&self.last.to_be_bytes());
        for at in [self.first_at, self.earliest, self.latest] {
            bytes.extend_from_slice(&at.as_millis().to_be_bytes());
        }
        bytes.extend_from_slice(&u32::try_from(self.rows.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend_from_slice(previous);
        bytes.extend_from_slice(&self.rows);
        let hash: [u8; HASH_LEN] = Sha256::digest(&bytes).into();
        bytes.extend_from_slice(&hash);
        (bytes, hash)
    }
}

impl Header {
    pub(super) fn read(file: &File, offset: u64) -> io::Result<Self> {
        let mut bytes = [0; HEADER_LEN];
        file.read_exact_at(&mut bytes, offset)?;
        Self::parse(&bytes).ok_or_else(|| damaged(offset))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.strip_prefix(MAGIC)?;
        let (after, bytes) = bytes.split_first_chunk::<8>()?;
        let (first, bytes) = bytes.split_first_chunk::<8>()?;
        let (last, bytes) = bytes.split_first_chunk::<8>()?;
        let (first_at, bytes) = time(bytes)?;
        let (earliest, bytes) = time(bytes)?;
        let (latest, bytes) = time(bytes)?;
        let (length, _) = bytes.split_first_chunk::<4>()?;
        let header = Self {
            after: u64::from_be_bytes(*after),
            first: u64::from_be_bytes(*first),
            last: u64::from_be_bytes(*last),
            first_at,
            earliest,
            latest,
            length: u32::from_be_bytes(*length),
        };
        (header.first <= header.last && header.length <= LENGTH_MAX).then_some(header)
    }

    /// Whether the chunk can have a record of these times.
    pub(super) fn has_times_of(&self, query: &AuditQuery) -> bool {
        self.earliest <= query.until && query.from <= self.latest
    }

    /// How many bytes the chunk takes.
    pub(super) fn chunk_len(&self) -> u64 {
        (HEADER_LEN + HASH_LEN) as u64 + u64::from(self.length)
    }

    /// The rows of the chunk at `offset`, if its hash is correct.
    pub(super) fn rows(&self, file: &File, offset: u64) -> io::Result<Vec<Vec<u8>>> {
        let mut bytes = vec![0; usize::try_from(self.chunk_len()).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, offset)?;
        let rows = bytes
            .split_last_chunk::<HASH_LEN>()
            .filter(|(chunk, hash)| <[u8; HASH_LEN]>::from(Sha256::digest(chunk)) == **hash)
            .and_then(|(chunk, _)| chunk.get(HEADER_LEN..));
        let rows = rows.and_then(split).ok_or_else(|| damaged(offset))?;
        let expected = (self.last - self.first).saturating_add(1);
        if rows.len() as u64 == expected {
            Ok(rows)
        } else {
            Err(damaged(offset))
        }
    }
}

/// The bytes of a record in a chunk: a version, the link before it, and its bytes.
fn record_bytes(entry: &AuditEntry) -> Vec<u8> {
    [&[RECORD_VERSION], entry.previous.0.as_slice(), &entry.encoded].concat()
}

/// Decodes the result of [`record_bytes`] for the record at a position.
pub(super) fn entry_of(position: u64, record: &[u8]) -> Result<AuditEntry, StoreError> {
    let parts = record
        .strip_prefix(&[RECORD_VERSION])
        .and_then(|rest| rest.split_first_chunk::<32>());
    let (previous, encoded) = parts.ok_or_else(|| StoreError::Damaged {
        detail: format!("the audit record {position} is too short, or of an unknown version"),
    })?;
    AuditEntry::decode(position, AuditLink(*previous), encoded.to_vec())
}

fn time(bytes: &[u8]) -> Option<(Timestamp, &[u8])> {
    let (millis, bytes) = bytes.split_first_chunk::<8>()?;
    Some((Timestamp::from_millis(i64::from_be_bytes(*millis)), bytes))
}

fn split(mut bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut rows = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (row, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        rows.push(row.to_vec());
        bytes = rest;
    }
    Some(rows)
}

fn damaged(offset: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("what is at byte {offset} is not what was written"),
    )
}
