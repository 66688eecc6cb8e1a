//! Backups as files.
//!
//! [`content`] is what a backup says, as a stream of bytes: its head, the records, its tail. The authority makes it.
//! [`file`](mod@file) is the file that holds such a stream, encrypted chunk by chunk with a key of its own. Whoever asked for the
//! backup makes that, so that the backup key need not be where the authority is. docs/backups.md describes both.
#![forbid(unsafe_code)]

pub mod content;
pub mod file;

pub use content::{BackupHead, BackupTail, ContentError, Item, Items, encode};
pub use file::{BackupWriter, FileError, Made, read};
