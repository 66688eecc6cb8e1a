//! Permissions of the keys and the data.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use rustix::process::geteuid;

use super::finding::Finding;
use crate::{
    config::{Config, SealerConfig},
    server_key::server_key_in_environment,
};

/// Modes and owners of secret files.
pub(super) fn check(config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    if server_key_in_environment().is_none() {
        found.extend(secret("server key", &config.keys.file, 0o600));
    }
    let previous = config.keys.previous.iter();
    found.extend(previous.flat_map(|file| secret("server key", file, 0o600)));
    let of_sealer = config.keys.sealer.iter().flat_map(SealerConfig::secret_files);
    found.extend(of_sealer.flat_map(|file| secret("secret of the sealer", file, 0o600)));
    match &config.store.postgres {
        Some(postgres) if config.store.is_shared() => {
            let password = postgres.password_file.iter();
            found.extend(password.flat_map(|file| secret("password of the database", file, 0o600)));
        }
        _ => found.extend(secret("data directory", &config.store.path, 0o700)),
    }
    if let Some(tls) = &config.server.tls {
        found.extend(secret("private key", &tls.private_key, 0o600));
    }
    found
}

/// Other checks report a missing file.
fn secret(what: &'static str, path: &Path, mode: u32) -> Option<Finding> {
    let shown = path.display();
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            let todo = "run it as the user that runs the authority";
            return Some(Finding::fail(
                what,
                format!("`{shown}` can't be looked at: {error}"),
                todo,
            ));
        }
    };
    let (is, owner, we) = (
        found.permissions().mode() & 0o777,
        found.uid(),
        geteuid().as_raw(),
    );
    if owner != we && we != 0 {
        let message = format!("`{shown}` is of user {owner}, and this is user {we}");
        return Some(Finding::warn(
            what,
            message,
            format!("run it as the owner, or chown {we} `{shown}`"),
        ));
    }
    if is & 0o400 == 0 {
        let message = format!("`{shown}` can't be read by its owner: its mode is {is:o}");
        return Some(Finding::fail(what, message, format!("chmod {mode:o} `{shown}`")));
    }
    if is & 0o077 != 0 {
        let message = format!("others can read `{shown}`: its mode is {is:o}");
        return Some(Finding::warn(what, message, format!("chmod {mode:o} `{shown}`")));
    }
    Some(Finding::ok(what, format!("`{shown}` is for its owner only")))
}
