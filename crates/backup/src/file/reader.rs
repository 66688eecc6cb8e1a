//! Reading a file.

use std::io::{self, Read};

use sha2::{Digest, Sha256};
use tessera_token::{BackupKey, ChunkIndex, ChunkKey, backup_key::SEAL_BYTES};
use zeroize::Zeroizing;

use super::{
    error::FileError,
    layout::{CHUNK_BYTES, FORMAT, HASH_BYTES, HEAD_BYTES, KEY_ID_BYTES, LAST, MAGIC},
};
use crate::content::{BackupHead, BackupTail, ContentError, Item, Items};

/// The head and the tail of a complete backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompleteBackup {
    /// Its first item.
    pub head: BackupHead,
    /// Its last item.
    pub tail: BackupTail,
}

/// Reads a backup, and shows its items. Only a successful return means that it was complete.
///
/// # Errors
/// An error of `show`, or why the file is not a complete backup.
pub fn read<E: From<FileError>>(
    from: impl Read,
    key: &BackupKey,
    mut show: impl FnMut(Item) -> Result<(), E>,
) -> Result<CompleteBackup, E> {
    let mut chunks = Chunks::begin(from, key)?;
    let mut items = Items::default();
    let (mut head, mut tail) = (None, None);
    while let Some(chunk) = chunks.next()? {
        for item in items.add(&chunk).map_err(FileError::from)? {
            match &item {
                Item::Head(found) => head = Some(found.clone()),
                Item::Tail(found) => tail = Some(found.clone()),
                Item::Record(_) => {}
            }
            show(item)?;
        }
    }
    items.finish().map_err(FileError::from)?;
    let made = head.zip(tail).map(|(head, tail)| CompleteBackup { head, tail });
    let nothing = FileError::from(ContentError::Malformed {
        problem: "the backup says nothing",
    });
    made.ok_or_else(|| nothing.into())
}

/// The chunks of a file.
struct Chunks<R: Read> {
    from: R,
    hash: Sha256,
    key: ChunkKey,
    number: u64,
    bytes: u64,
    is_over: bool,
}

impl<R: Read> Chunks<R> {
    fn begin(mut from: R, key: &BackupKey) -> Result<Self, FileError> {
        let mut head = [0; HEAD_BYTES];
        let (mut bytes, mut hash) = (0, Sha256::new());
        let begin = fill(&mut from, &mut head, &mut bytes);
        if !head.starts_with(MAGIC) {
            return Err(FileError::NoBackup);
        }
        begin?;
        let (format, id) = parse(&head).ok_or(FileError::NoBackup)?;
        if format == 0 {
            // There is no format 0.
            return Err(FileError::Changed { at: 8 });
        }
        if format != FORMAT {
            return Err(FileError::NewerFormat { found: format });
        }
        let is_id = |id: &&str| id.starts_with("k4.lid.") && id.bytes().all(|byte| byte.is_ascii_graphic());
        let made_with = std::str::from_utf8(id).ok().filter(is_id);
        let made_with = made_with.ok_or(FileError::Changed { at: 12 })?;
        if made_with != key.id() {
            return Err(FileError::OtherKey {
                made_with: made_with.to_owned(),
                given: key.id().to_owned(),
            });
        }
        hash.update(head);
        Ok(Self {
            key: key.of_file(&head).map_err(|_| FileError::Encryption("no key"))?,
            from,
            hash,
            number: 0,
            bytes,
            is_over: false,
        })
    }

    /// The next chunk; `None` after the last one, if the hash is correct.
    fn next(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, FileError> {
        if self.is_over {
            self.end()?;
            return Ok(None);
        }
        let at = self.bytes;
        let mut length = [0; 4];
        self.take(&mut length)?;
        let length = u32::from_be_bytes(length);
        let is_last = length & LAST != 0;
        let length = usize::try_from(length & !LAST).unwrap_or(usize::MAX);
        let is_length = (SEAL_BYTES..=CHUNK_BYTES + SEAL_BYTES).contains(&length);
        if !is_length {
            return Err(FileError::Changed { at });
        }
        let mut sealed = vec![0; length];
        self.take(&mut sealed)?;
        let index = ChunkIndex {
            number: self.number,
            is_last,
        };
        let plain = self.key.open(index, &sealed);
        let plain = plain.ok_or(FileError::Changed { at })?;
        self.number += 1;
        self.is_over = is_last;
        Ok(Some(plain))
    }

    /// Checks the hash, and that nothing follows it.
    fn end(&mut self) -> Result<(), FileError> {
        let at = self.bytes;
        let mut hash = [0; HASH_BYTES];
        fill(&mut self.from, &mut hash, &mut self.bytes)?;
        if self.hash.clone().finalize().as_slice() != hash.as_slice() {
            return Err(FileError::Changed { at });
        }
        match fill(&mut self.from, &mut [0], &mut self.bytes) {
            Err(FileError::CutOff { .. }) => Ok(()),
            Err(error) => Err(error),
            Ok(()) => Err(FileError::Changed {
                at: self.bytes.saturating_sub(1),
            }),
        }
    }

    fn take(&mut self, buffer: &mut [u8]) -> Result<(), FileError> {
        fill(&mut self.from, buffer, &mut self.bytes)?;
        self.hash.update(buffer);
        Ok(())
    }
}

/// The version of the format, and the id of the backup key.
fn parse(head: &[u8; HEAD_BYTES]) -> Option<(u32, &[u8; KEY_ID_BYTES])> {
    let (format, rest) = head.get(MAGIC.len()..)?.split_first_chunk::<4>()?;
    let id = rest.first_chunk::<KEY_ID_BYTES>()?;
    Some((u32::from_be_bytes(*format), id))
}

/// Fills the buffer, and counts the bytes.
fn fill(from: &mut impl Read, buffer: &mut [u8], bytes: &mut u64) -> Result<(), FileError> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) => return Err(FileError::CutOff { bytes: *bytes }),
            Ok(read) => {
                filled += read;
                *bytes += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
