//! Backups as files.
//!
//! [`content`] is the content of a backup, as a stream of bytes: its head, the records, its tail. The authority makes
//! it. [`file`](mod@file) is the file that holds such a stream, encrypted chunk by chunk with a separate key. The
//! caller that requested the backup makes the file, so that the authority does not need the backup key. docs/backups.md
//! describes both.
#![forbid(unsafe_code)]

pub mod content;
pub mod file;

pub use content::{BackupHead, BackupTail, ContentError, Item, Items, encode};
pub use file::{BackupWriter, CompleteBackup, FileError, read};
