//! Why an authority can't be launched.

use std::{io, path::PathBuf};

use tessera_authority::SetupError;
use tessera_backup::FileError;
use tessera_policy::PolicyError;
use tessera_server::TlsError;
use tessera_store_sled::OpenError;
use tessera_token::NoEntropy;

use crate::{key_file::KeyTextError, sealer::SealerError};

/// A backup can't be read or restored. Each message is a sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BackupProblem {
    /// The backup key can't be used.
    #[error("the backup key {place} can't be used: {problem}")]
    Key {
        /// The file or the variable.
        place: String,
        /// Why; never the key.
        problem: String,
    },
    /// It is not a complete backup, or not one of this key.
    #[error("`{path}`: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: FileError,
    },
    /// The server key that sealed its content is not available.
    #[error(
        "the server key {missing} is missing, and the backup needs it: its signing keys were sealed with it. Put that key into `{file}`, or name it in [keys] previous; {at_hand}. The backup is of the authority that issues as {issuers}"
    )]
    ServerKeyMissing {
        /// The ids of the keys with which it was made, and that are not available.
        missing: String,
        /// The expected file of the server key.
        file: PathBuf,
        /// The available keys.
        at_hand: String,
        /// The issuers that the backup names.
        issuers: String,
    },
    /// An authority serves the destination of the restore.
    #[error(
        "an authority serves the data directory `{path}`: stop it first, and keep its data until the restored one serves"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The realms of the backup have other issuers than those of the configuration.
    #[error(
        "the backup is of {backup}, and the configuration names {configured}: use the configuration of the authority that made the backup. To give it another issuer, restore first, and change it then"
    )]
    OtherIssuer {
        /// The issuer of a realm in the backup.
        backup: String,
        /// The issuer of that realm in the configuration.
        configured: String,
    },
    /// The destination of the restore is not empty.
    #[error(
        "`{path}` is not empty, and a backup is restored into a new data directory: move it away first, or name another in [store] path"
    )]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// An earlier restore was cut off.
    #[error(
        "`{path}` exists, from a restore or a copy that was interrupted or is still running: make sure that none is running, and remove it"
    )]
    CutOff {
        /// The directory.
        path: PathBuf,
    },
}

/// The authority can't be launched. Each message says where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The data directory can't be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The database can't be used.
    #[error("[store.postgres]: {0}")]
    Database(#[from] tessera_store_postgres::OpenError),
    /// The database is not in the state that this node has seen.
    #[error(
        "the database has less than this node has seen, or another log, as `{witness}` says (STORE_WENT_BACK): a failover lost commits, or an older copy was restored. The database does not have the revocations and sessions since then. Use the latest one; or, if that is lost, stop all nodes, run `tessera restore`, which ends every session, and remove this file at the other nodes"
    )]
    DatabaseWentBack {
        /// The file that shows it.
        witness: PathBuf,
    },
    /// No database is named.
    #[error(
        "no database is named: set `url` in [store.postgres], or TESSERA_POSTGRES_URL in the environment"
    )]
    NoDatabase,
    /// Another node serves the store that is to be copied.
    #[error("the node `{node}` serves this store: stop all nodes before it is copied")]
    Served {
        /// Its name.
        node: String,
    },
    /// A store can't be copied.
    #[error("the store can't be copied: {0}")]
    Copy(tessera_store::BackupError),
    /// The command does not apply to a database.
    #[error("`{command}` is for data directories: {instead}")]
    NotForDatabase {
        /// The command.
        command: &'static str,
        /// What to do instead.
        instead: &'static str,
    },
    /// The server key is missing, and other nodes have it.
    #[error(
        "the server key `{key}` is missing: all nodes of an authority have the same one. Copy it from another node, or make one for a new authority with `tessera serverkey new`"
    )]
    ServerKeyOfNodesMissing {
        /// The key file.
        key: PathBuf,
    },
    /// The policy is wrong.
    #[error("the policy in `{path}` is refused:\n{source}")]
    Policy {
        /// The directory.
        path: PathBuf,
        /// Every finding.
        source: PolicyError,
    },
    /// A server key can't be used.
    #[error("the server key {place} can't be used: {source}")]
    ServerKey {
        /// The file or the variable.
        place: String,
        /// Why; never the key.
        source: KeyTextError,
    },
    /// The sealer of the server keys can't be used.
    #[error("[keys.sealer]: {0}")]
    Sealer(#[from] SealerError),
    /// A server key is sealed, and the configuration has no sealer that opens it.
    #[error(
        "the server key {place} is sealed with {by}, and the configuration has no [keys.sealer]: set it; or, to remove the seal, run `tessera serverkey reseal` with the old configuration as `--from`"
    )]
    NoSealer {
        /// The file or the variable.
        place: String,
        /// What sealed it.
        by: String,
    },
    /// A server key is not sealed, but must be.
    #[error(
        "the server key {place} is not sealed, and [keys.sealer] is set: run `tessera serverkey reseal` with this configuration, or remove [keys.sealer] from it"
    )]
    NotSealed {
        /// The file or the variable.
        place: String,
    },
    /// The written key file does not contain the expected key.
    #[error(
        "`{path}` was written, but what was read back is another key: the old file is still in place. Try another disk"
    )]
    ReadBack {
        /// The unfinished file.
        path: PathBuf,
    },
    /// A key should be made, but the file exists.
    #[error(
        "`{path}` already exists, and a key file is never replaced: choose another name, or move the file away"
    )]
    KeyFileExists {
        /// The file.
        path: PathBuf,
    },
    /// The key file is gone, and the data directory needs it.
    #[error(
        "the server key `{key}` is missing, and `{data}` was made with it: restore the file. Without it no signing key and no refresh token in that directory can be used"
    )]
    ServerKeyMissing {
        /// The key file.
        key: PathBuf,
        /// The data directory.
        data: PathBuf,
    },
    /// The clock shows a time that can't be written.
    #[error("the machine's clock is {where_it_is}, which {why}: set it")]
    Clock {
        /// The problem with the clock.
        where_it_is: &'static str,
        /// The reason.
        why: &'static str,
    },
    /// The data directory is missing, although there was one.
    #[error(
        "the data directory `{data}` is empty or missing, but `{witness}` says that it had data: put a copy back and run `tessera restore`, mount the right disk, or start again with `tessera store init`, which loses every session and API key"
    )]
    DataMissing {
        /// The data directory.
        data: PathBuf,
        /// The file that shows it.
        witness: PathBuf,
    },
    /// The data directory is not the one that was served last.
    #[error(
        "the data directory `{data}` is older than what was served last, or is a different one, as `{witness}` says: it does not have the revocations and sessions since then. Run `tessera restore` before you serve it, or use the latest one"
    )]
    RolledBack {
        /// The data directory.
        data: PathBuf,
        /// The file that shows it.
        witness: PathBuf,
    },
    /// The file that detects an older copy can't be read.
    #[error(
        "`{witness}` can't be read: {source}. It shows whether the data directory is the latest one: if the directory was restored from a copy, remove this file and run `tessera restore`; if you are sure that it was not, only remove this file"
    )]
    Witness {
        /// The file.
        witness: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The location of the data directory is used for something else.
    #[error("[store] path `{path}` is {what}: choose a directory for the data only")]
    Place {
        /// The location.
        path: PathBuf,
        /// Its use.
        what: &'static str,
    },
    /// The authority would write to a file that is used for something else.
    #[error("{setting} `{path}` is {what}: choose a separate file")]
    FilePlace {
        /// The setting that names it.
        setting: String,
        /// The file.
        path: PathBuf,
        /// Its use.
        what: &'static str,
    },
    /// A new data directory was to be made, but one exists.
    #[error("there is a data directory in `{path}`: move it away first")]
    NotEmpty {
        /// The location.
        path: PathBuf,
    },
    /// A backup can't be restored.
    #[error(transparent)]
    Backup(#[from] BackupProblem),
    /// The certificate or its key can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A file can't be read or written.
    #[error("`{path}` can't be used: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The authority can't be set up with the opened data.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The operating system provides no random numbers.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
}

impl LaunchError {
    /// Whether the PIN of a token was wrong: an automatic retry would bring the token nearer to being locked.
    #[must_use]
    pub fn is_of_pin(&self) -> bool {
        match self {
            Self::Sealer(error)
            | Self::ServerKey {
                source: KeyTextError::Sealer(error),
                ..
            } => error.is_of_pin(),
            _ => false,
        }
    }
}
