//! What must be right around the data directory before it is touched.

use std::{fs, path::Path};

use tessera_core::{Clock, SystemClock, Timestamp};

use crate::{config::Config, error::LaunchError};

/// The clock must say what tokens can carry.
pub(crate) fn check_clock() -> Result<(), LaunchError> {
    let (where_it_is, why) = match SystemClock.now() {
        now if now >= Timestamp::MAX => ("beyond the year 9999", "neither RFC 3339 nor HTTP can write"),
        now if now <= Timestamp::EPOCH => ("before the year 1970", "no token can have"),
        _ => return Ok(()),
    };
    Err(LaunchError::Clock { where_it_is, why })
}

/// The data must not lie where something else is: all of it is opened, checked and closed to others.
pub(crate) fn check_place(config: &Config) -> Result<(), LaunchError> {
    if config.store.is_shared() {
        return Ok(());
    }
    let path = &config.store.path;
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let (data, policy) = (real(path), real(&config.policy.path));
    let what = if data.exists() && !data.is_dir() {
        "no directory"
    } else if data == Path::new("/") {
        "the root of the file system"
    } else if data == policy {
        "the directory of the policy"
    } else if data.starts_with(&policy) {
        "within the directory of the policy"
    } else {
        return check_witness(config);
    };
    Err(LaunchError::Place {
        path: path.clone(),
        what,
    })
}

/// What tells an older copy must not be copied with it.
fn check_witness(config: &Config) -> Result<(), LaunchError> {
    let Some(witness) = &config.keys.witness else {
        return Ok(());
    };
    // The file may not be there yet; its directory is.
    let directory = witness.parent().unwrap_or(Path::new("."));
    let is_within = match (fs::canonicalize(directory), fs::canonicalize(&config.store.path)) {
        (Ok(directory), Ok(data)) => directory.starts_with(data),
        _ => witness.starts_with(&config.store.path),
    };
    if is_within {
        let path = witness.clone();
        return Err(LaunchError::WitnessPlace { path });
    }
    Ok(())
}
