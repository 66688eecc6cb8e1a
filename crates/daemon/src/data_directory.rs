//! The data directory of sled.

use std::{
    fs::{File, TryLockError},
    path::Path,
};

use tessera_store_sled::SledOptions;

use crate::config::Config;

/// Whether any part of a data directory exists.
pub(crate) fn has_data(data: &Path) -> bool {
    ["seal", "rows", "rows.before"]
        .iter()
        .any(|name| data.join(name).exists())
}

/// Whether a process has the store open.
pub(crate) fn is_in_use(data: &Path) -> bool {
    let lock = File::open(data.join("lock"));
    lock.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// How sled uses the resources of the machine.
pub(crate) fn store_options(config: &Config) -> SledOptions {
    SledOptions {
        cache_capacity_bytes: u64::from(config.store.cache_mib.number()) * 1024 * 1024,
        ..SledOptions::default()
    }
}
