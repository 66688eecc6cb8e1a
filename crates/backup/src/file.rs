//! The file: a head, encrypted chunks, and the hash of everything before.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | magic |
//! | 4 | version of the format |
//! | 51 | the PASERK id of the backup key, `k4.lid.…` |
//! | 32 | random bytes; with the bytes before them they make the key of the file |
//! | | the chunks: each its length in 4 bytes, whose highest bit marks the last one, and its bytes, encrypted |
//! | 32 | the SHA-256 of everything before |
//!
//! The hash shows, without a key, that a file was damaged in transit. Only the chunks show whether it was changed.

mod error;
mod reader;
mod writer;

pub use self::{
    error::FileError,
    reader::{CompleteBackup, read},
    writer::BackupWriter,
};

/// The newest format that this version knows.
pub const FORMAT: u32 = 1;

const MAGIC: &[u8; 8] = b"TSRBKUP\n";
const KEY_ID_BYTES: usize = 51;
const SALT_BYTES: usize = 32;
const HEAD_BYTES: usize = 8 + 4 + KEY_ID_BYTES + SALT_BYTES;
const HASH_BYTES: usize = 32;
/// How many bytes of content a chunk has, except the last one.
const CHUNK_BYTES: usize = 64 * 1024;
/// The bit in a chunk's length that marks the last chunk.
const LAST: u32 = 1 << 31;
