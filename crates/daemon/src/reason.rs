//! What a script can tell errors by: the reasons of `docs/cli.md`. They are fewer than the errors, and do not change
//! with the texts.

use tessera_authority::SetupError;
use tessera_backup::{ContentError, FileError};
use tessera_store::{BackupError, StoreError};
use tessera_store_postgres::OpenError as DatabaseError;
use tessera_store_sled::OpenError;

use crate::{
    config::ConfigError,
    error::{BackupProblem, LaunchError},
    key_file::KeyTextError,
};

const CONFIG_INVALID: &str = "CONFIG_INVALID";
const FILE_UNUSABLE: &str = "FILE_UNUSABLE";
const NEWER_VERSION: &str = "NEWER_VERSION";
const RESTORE_UNFINISHED: &str = "RESTORE_UNFINISHED";
const SERVER_KEY_MISSING: &str = "SERVER_KEY_MISSING";
const SERVER_KEY_UNUSABLE: &str = "SERVER_KEY_UNUSABLE";
const STORE_DAMAGED: &str = "STORE_DAMAGED";
const STORE_IN_USE: &str = "STORE_IN_USE";
const STORE_NOT_EMPTY: &str = "STORE_NOT_EMPTY";
const STORE_UNAVAILABLE: &str = "STORE_UNAVAILABLE";
const STORE_UNSUITABLE: &str = "STORE_UNSUITABLE";
const STORE_WENT_BACK: &str = "STORE_WENT_BACK";

impl LaunchError {
    /// The reason, for scripts.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Store(error) => of_directory(error),
            Self::Database(error) => of_database(error),
            Self::DatabaseWentBack { .. } | Self::RolledBack { .. } => STORE_WENT_BACK,
            Self::Served { .. } => STORE_IN_USE,
            Self::NoDatabase | Self::NotForDatabase { .. } | Self::Place { .. } | Self::FilePlace { .. } => {
                CONFIG_INVALID
            }
            Self::Copy(BackupError::Store(error)) => of_store(error),
            Self::Copy(BackupError::Busy | BackupError::BrokenOff | BackupError::Overtaken) => STORE_IN_USE,
            Self::ServerKeyOfNodesMissing { .. } | Self::ServerKeyMissing { .. } => SERVER_KEY_MISSING,
            Self::Policy { .. } => "POLICY_REFUSED",
            Self::Sealer(error)
            | Self::ServerKey {
                source: KeyTextError::Sealer(error),
                ..
            } if error.is_of_pin() => "PIN_REFUSED",
            Self::Sealer(_) | Self::ServerKey { .. } | Self::NoSealer { .. } | Self::NotSealed { .. } => {
                SERVER_KEY_UNUSABLE
            }
            Self::KeyFileExists { .. } => "FILE_EXISTS",
            Self::ReadBack { .. } | Self::Witness { .. } | Self::File { .. } | Self::Tls(_) => FILE_UNUSABLE,
            Self::Clock { .. } => "CLOCK_WRONG",
            Self::DataMissing { .. } => "STORE_MISSING",
            Self::NotEmpty { .. } => STORE_NOT_EMPTY,
            Self::Backup(error) => error.reason(),
            Self::Setup(error) => of_setup(error),
            Self::Entropy(_) => "NO_RANDOM_NUMBERS",
        }
    }
}

impl ConfigError {
    /// The reason, for scripts.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => FILE_UNUSABLE,
            Self::Wrong { .. } => CONFIG_INVALID,
        }
    }
}

impl BackupProblem {
    /// The reason, for scripts.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Key { .. } => "BACKUP_KEY_UNUSABLE",
            Self::File { source, .. } => of_file(source),
            Self::ServerKeyMissing { .. } => SERVER_KEY_MISSING,
            Self::InUse { .. } => STORE_IN_USE,
            Self::OtherIssuer { .. } => "BACKUP_OF_OTHER_AUTHORITY",
            Self::NotEmpty { .. } => STORE_NOT_EMPTY,
            Self::CutOff { .. } => RESTORE_UNFINISHED,
        }
    }
}

fn of_file(error: &FileError) -> &'static str {
    match error {
        FileError::Io(_) => FILE_UNUSABLE,
        FileError::NoBackup
        | FileError::Changed { .. }
        | FileError::Content(ContentError::Malformed { .. }) => "BACKUP_DAMAGED",
        FileError::NewerFormat { .. } | FileError::Content(ContentError::Newer { .. }) => NEWER_VERSION,
        FileError::OtherKey { .. } => "BACKUP_KEY_WRONG",
        FileError::CutOff { .. } => "BACKUP_INCOMPLETE",
        FileError::Encryption(_) => "BACKUP_KEY_UNUSABLE",
    }
}

fn of_directory(error: &OpenError) -> &'static str {
    match error {
        OpenError::Locked { .. } => STORE_IN_USE,
        OpenError::Refused { .. } | OpenError::Damaged { .. } | OpenError::NotAFile { .. } => STORE_DAMAGED,
        OpenError::Setting { .. } => CONFIG_INVALID,
        OpenError::NewerFormat { .. } => NEWER_VERSION,
        OpenError::Io { .. } => STORE_UNAVAILABLE,
    }
}

fn of_database(error: &DatabaseError) -> &'static str {
    match error {
        DatabaseError::Setting { .. } => CONFIG_INVALID,
        DatabaseError::Away { .. } | DatabaseError::ReadOnly => STORE_UNAVAILABLE,
        DatabaseError::OldServer { .. }
        | DatabaseError::OtherServer { .. }
        | DatabaseError::Pooled
        | DatabaseError::Durability { .. }
        | DatabaseError::NoLock => STORE_UNSUITABLE,
        DatabaseError::Foreign { .. } | DatabaseError::NotEmpty { .. } => STORE_NOT_EMPTY,
        DatabaseError::OlderSchema { .. } => "STORE_NOT_MIGRATED",
        DatabaseError::NewerSchema { .. } | DatabaseError::OtherMigration { .. } => NEWER_VERSION,
        DatabaseError::Restoring { .. } => RESTORE_UNFINISHED,
        DatabaseError::Store(error) => of_store(error),
    }
}

fn of_setup(error: &SetupError) -> &'static str {
    match error {
        SetupError::RealmUnknown { .. } | SetupError::NoRealm => CONFIG_INVALID,
        SetupError::WrongServerKey(_) => "SERVER_KEY_WRONG",
        SetupError::ServerKeyMissing { .. } => SERVER_KEY_MISSING,
        SetupError::Store(error) => of_store(error),
        SetupError::Entropy(_) => "NO_RANDOM_NUMBERS",
    }
}

fn of_store(error: &StoreError) -> &'static str {
    match error {
        StoreError::Damaged { .. } => STORE_DAMAGED,
        StoreError::WentBack { .. } => STORE_WENT_BACK,
        StoreError::Failed { .. }
        | StoreError::Closed
        | StoreError::Unavailable { .. }
        | StoreError::EventsForgotten => STORE_UNAVAILABLE,
    }
}
