//! Reading and making the backup key.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

use tessera_core::read_small_text;
use tessera_token::BackupKey;
use zeroize::Zeroizing;

use crate::{
    error::{BackupProblem, LaunchError},
    server_key::write_new,
};

/// The prefix of every backup key.
const BEGIN: &str = "k4.local.";

/// Reads the key in `given`, or in the file that it names.
///
/// # Errors
/// Fails if there is no key.
pub fn read(given: &str) -> Result<BackupKey, LaunchError> {
    let text = given.trim();
    if text.starts_with(BEGIN) {
        return parse(text, "that was given".to_owned());
    }
    let path = Path::new(text);
    let place = format!("in `{}`", path.display());
    let unread = |error: io::Error| BackupProblem::Key {
        place: place.clone(),
        problem: format!("{error}; `tessera backup key new FILE` makes one"),
    };
    let text = Zeroizing::new(read_small_text(path).map_err(unread)?);
    let mode = fs::metadata(path).map_err(unread)?.permissions().mode();
    if mode & 0o007 != 0 {
        tracing::warn!(path = %path.display(), "the backup key can be read by everybody on this machine: chmod 600");
    }
    parse(&text, place)
}

/// Makes a key file that only its owner can read, if there is no file yet.
///
/// # Errors
/// Fails if it can't be made.
pub fn make(path: &Path) -> Result<BackupKey, LaunchError> {
    let key = BackupKey::generate()?;
    write_new(path, &Zeroizing::new(format!("{}\n", *key.to_paserk())))?;
    Ok(key)
}

fn parse(text: &str, place: String) -> Result<BackupKey, LaunchError> {
    let key = BackupKey::parse(text).map_err(|error| BackupProblem::Key {
        place,
        problem: error.to_string(),
    })?;
    Ok(key)
}
