//! The backup key of a command.

use tessera_daemon::backup_key;
use tessera_token::BackupKey;

use crate::{arguments::BackupKeyFile, failure::Failure};

/// The backup key that was given.
pub(super) fn read_key(given: &BackupKeyFile) -> Result<BackupKey, Failure> {
    // An empty variable counts as not set.
    let given = given.key_file.as_deref().map(str::trim);
    let Some(given) = given.filter(|given| !given.is_empty()) else {
        return Err(Failure::cannot_run(
            "no backup key: name its file with --key-file or in TESSERA_BACKUP_KEY (`tessera backup key new FILE` makes one)",
        )
        .because("BACKUP_KEY_MISSING"));
    };
    Ok(backup_key::read(given)?)
}
