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
mod layout;
mod reader;
mod writer;

pub use self::{
    error::FileError,
    layout::FORMAT,
    reader::{CompleteBackup, read},
    writer::BackupWriter,
};
