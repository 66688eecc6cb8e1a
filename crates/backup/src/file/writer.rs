//! Writing a file.

use std::{io::Write, mem};

use sha2::{Digest, Sha256};
use tessera_token::{BackupKey, ChunkIndex, ChunkKey};
use zeroize::Zeroizing;

use super::{
    error::FileError,
    layout::{CHUNK_BYTES, FORMAT, HEAD_BYTES, KEY_ID_BYTES, LAST, MAGIC, SALT_BYTES},
};

/// Writes the content of a backup to a file, encrypted.
pub struct BackupWriter<W: Write> {
    to: W,
    hash: Sha256,
    key: ChunkKey,
    /// Content for the next chunk.
    plain: Zeroizing<Vec<u8>>,
    chunks: u64,
    bytes: u64,
}

impl<W: Write> BackupWriter<W> {
    /// Begins a file with its head.
    ///
    /// # Errors
    /// Fails if it can't be written, or there are no random numbers.
    pub fn begin(to: W, key: &BackupKey) -> Result<Self, FileError> {
        let salt: [u8; SALT_BYTES] =
            tessera_token::random().map_err(|_| FileError::Encryption("no random numbers"))?;
        let id = key.id().as_bytes();
        if id.len() != KEY_ID_BYTES {
            return Err(FileError::Encryption("the id of the key has another length"));
        }
        let mut head = Vec::with_capacity(HEAD_BYTES);
        head.extend_from_slice(MAGIC);
        head.extend_from_slice(&FORMAT.to_be_bytes());
        head.extend_from_slice(id);
        head.extend_from_slice(&salt);
        let chunk_key = key.of_file(&head).map_err(|_| FileError::Encryption("no key"))?;
        let mut writer = Self {
            to,
            hash: Sha256::new(),
            key: chunk_key,
            plain: Zeroizing::default(),
            chunks: 0,
            bytes: 0,
        };
        writer.put(&head)?;
        Ok(writer)
    }

    /// How many bytes were written.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes more content.
    ///
    /// # Errors
    /// Fails if it can't be written.
    pub fn write(&mut self, content: &[u8]) -> Result<(), FileError> {
        self.plain.extend_from_slice(content);
        // The last chunk is known only at the end, so one chunk is kept back.
        while self.plain.len() > CHUNK_BYTES {
            let rest = Zeroizing::new(self.plain.split_off(CHUNK_BYTES));
            let chunk = mem::replace(&mut self.plain, rest);
            self.chunk(&chunk, false)?;
        }
        Ok(())
    }

    /// Writes the last chunk and the hash, and returns the writer and the number of bytes.
    ///
    /// # Errors
    /// Fails if it can't be written.
    pub fn finish(mut self) -> Result<(W, u64), FileError> {
        let chunk = mem::take(&mut self.plain);
        self.chunk(&chunk, true)?;
        let hash = self.hash.clone().finalize();
        self.put(&hash)?;
        self.to.flush()?;
        Ok((self.to, self.bytes))
    }

    fn chunk(&mut self, plain: &[u8], is_last: bool) -> Result<(), FileError> {
        let index = ChunkIndex {
            number: self.chunks,
            is_last,
        };
        let sealed = self.key.seal(index, plain);
        let sealed = sealed.ok_or(FileError::Encryption("a chunk can't be sealed"))?;
        let length = u32::try_from(sealed.len()).map_err(|_| FileError::Encryption("a chunk is too long"))?;
        let mark = if is_last { LAST } else { 0 };
        self.put(&(length | mark).to_be_bytes())?;
        self.put(&sealed)?;
        self.chunks += 1;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.to.write_all(bytes)?;
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}
