//! What can be typed about backups.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::confirm::Consent;

#[derive(Subcommand)]
pub(crate) enum Backup {
    /// Make a backup of all realms while the authority is running.
    ///
    /// The file has everything that was committed up to one position of the log, encrypted with the backup key. A
    /// restore also needs the server key, which is not in the file. Keep copies of both keys in a different place from
    /// the backups. Until it is complete, the file is named FILE.partial.
    Create(CreateBackup),
    /// Read a whole backup, and show a summary of it. Exit code 2 if it is incomplete, or was made with another key.
    Verify {
        /// The backup.
        #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
        file: PathBuf,
        #[command(flatten)]
        key: BackupKeyFile,
    },
    /// Make a new data directory from a backup, while no authority runs on it.
    ///
    /// The backup does not know what was issued and revoked after it was made. So every session and token of every
    /// realm in it ends, every signing key is revoked and replaced, and the revocation log starts again. The API keys
    /// are the ones in the backup. The command lists them, because a key that was revoked after the backup was made
    /// works again.
    Restore(RestoreBackup),
    /// Make a backup key.
    Key {
        #[command(subcommand)]
        command: BackupKey,
    },
}

#[derive(Args)]
pub(crate) struct CreateBackup {
    /// The file, which must not exist yet.
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) key: BackupKeyFile,
    /// Replace an existing file once the new one is complete.
    #[arg(long)]
    pub(crate) overwrite: bool,
}

#[derive(Args)]
pub(crate) struct RestoreBackup {
    /// The backup.
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) key: BackupKeyFile,
    /// The configuration that names the data directory, its realms and the server key. The data directory must be empty
    /// or must not exist.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Also revoke the API keys of the backup. Each service then needs a new one.
    #[arg(long)]
    pub(crate) revoke_api_keys: bool,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

#[derive(Args)]
pub(crate) struct BackupKeyFile {
    /// The file of the backup key; the variable can also contain the key itself.
    #[arg(long, env = "TESSERA_BACKUP_KEY", hide_env_values = true, value_name = "FILE")]
    pub(crate) key_file: Option<String>,
}

#[derive(Subcommand)]
pub(crate) enum BackupKey {
    /// Make a key file that only its owner can read.
    New {
        /// The file, which must not exist yet.
        #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
        file: PathBuf,
    },
}
