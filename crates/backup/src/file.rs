//! The file: a head, encrypted chunks, and the hash of all that.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | magic |
//! | 4 | version of the format |
//! | 51 | the PASERK id of the backup key, `k4.lid.…` |
//! | 32 | random bytes; with the bytes before them they make the key of the file |
//! | | the chunks: each its length in 4 bytes, whose highest bit marks the last one, and its bytes, encrypted |
//! | 32 | the SHA-256 of all that |
//!
//! The hash lets anybody see a file that was damaged on its way; only the chunks tell whether it was changed.

mod error;
mod reader;
mod writer;

pub use self::{
    error::FileError,
    reader::{Made, read},
    writer::BackupWriter,
};

/// The newest format that this version knows.
pub const FORMAT: u32 = 1;

const MAGIC: &[u8; 8] = b"TSRBKUP\n";
const KEY_ID_BYTES: usize = 51;
const SALT_BYTES: usize = 32;
const HEAD_BYTES: usize = 8 + 4 + KEY_ID_BYTES + SALT_BYTES;
const HASH_BYTES: usize = 32;
/// How many bytes of content a chunk has, but for the last one.
const CHUNK_BYTES: usize = 64 * 1024;
/// The mark of the last chunk in its length.
const LAST: u32 = 1 << 31;
