//! The server key: where it is read, and where one is made.

use std::{
    env, fs,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tessera_token::{ServerKey, ServerKeys};

use crate::{config::Config, error::LaunchError};

/// The variable with the server key, which takes precedence over every file.
pub const SERVER_KEY_VARIABLE: &str = "TESSERA_SERVER_KEY";
/// The variable that names a file with the server key, to be read instead of `[keys] file`: where a service manager or a
/// container puts secrets. It is never made.
pub const SERVER_KEY_FILE_VARIABLE: &str = "TESSERA_SERVER_KEY_FILE";

/// The server key of a data directory that brings its own: `tessera dev --data-dir`.
///
/// # Errors
/// See [`LaunchError`].
pub fn server_key_beside(data: &Path, file: &Path) -> Result<ServerKey, LaunchError> {
    if file.exists() {
        return read_key(file);
    }
    if data.join("seal").exists() {
        return Err(LaunchError::ServerKeyMissing {
            key: file.to_owned(),
            data: data.to_owned(),
        });
    }
    make_key(file)
}

/// The variable with the server key; one that is empty is as if it were not set.
pub(crate) fn server_key_in_environment() -> Option<zeroize::Zeroizing<String>> {
    let text = zeroize::Zeroizing::new(env::var_os(SERVER_KEY_VARIABLE)?.to_string_lossy().into_owned());
    (!text.trim().is_empty()).then_some(text)
}

/// The server keys that are there, without making one; none where there is none.
pub(crate) fn server_keys_at_hand(config: &Config) -> Result<Option<ServerKeys>, LaunchError> {
    is_server_key_at_hand(config)
        .then(|| server_keys(config))
        .transpose()
}

fn is_server_key_at_hand(config: &Config) -> bool {
    server_key_in_environment().is_some()
        || server_key_file_in_environment().is_some()
        || config.keys.file.exists()
}

/// The file that the environment names; a variable that is empty is as if it were not set.
pub(crate) fn server_key_file_in_environment() -> Option<PathBuf> {
    let path = env::var_os(SERVER_KEY_FILE_VARIABLE)?;
    (!path.is_empty()).then(|| path.into())
}

/// The server keys of an authority that is to be served.
pub(crate) fn server_keys(config: &Config) -> Result<ServerKeys, LaunchError> {
    if config.store.is_shared() {
        // None is made here: it would be another one than the other nodes'.
        return if is_server_key_at_hand(config) {
            read_server_keys(config)
        } else {
            let key = config.keys.file.clone();
            Err(LaunchError::ServerKeyOfNodesMissing { key })
        };
    }
    server_keys_for(config, &config.store.path, false)
}

/// The server keys; a new one is made where none is and none was, or where the data begins anew.
pub(crate) fn server_keys_for(config: &Config, data: &Path, is_new: bool) -> Result<ServerKeys, LaunchError> {
    let current = match server_key_from_environment()? {
        Some(key) => key,
        None if is_new && !config.keys.file.exists() => make_key(&config.keys.file)?,
        None => server_key_beside(data, &config.keys.file)?,
    };
    Ok(ServerKeys::new(current, previous_keys(config)?))
}

/// The server key that the environment has or names, if it does.
pub(crate) fn server_key_from_environment() -> Result<Option<ServerKey>, LaunchError> {
    let Some(text) = server_key_in_environment() else {
        let file = server_key_file_in_environment();
        return file.map(|path| read_key(&path)).transpose();
    };
    let key = ServerKey::parse(&text).map_err(|source| LaunchError::ServerKey {
        place: format!("in {SERVER_KEY_VARIABLE}"),
        source,
    })?;
    Ok(Some(key))
}

/// Reads a key file.
pub(crate) fn read_key(path: &Path) -> Result<ServerKey, LaunchError> {
    let file_error = |source| LaunchError::File {
        path: path.to_owned(),
        source,
    };
    let text = zeroize::Zeroizing::new(fs::read_to_string(path).map_err(file_error)?);
    let mode = fs::metadata(path).map_err(file_error)?.permissions().mode();
    if mode & 0o007 != 0 {
        tracing::warn!(path = %path.display(), "the server key can be read by everybody on this machine: chmod 600");
    }
    ServerKey::parse(&text).map_err(|source| LaunchError::ServerKey {
        place: format!("in `{}`", path.display()),
        source,
    })
}

/// Makes a key file that only its owner can read, and that is on the disk before anything needs it. Answers the id of
/// the key.
///
/// # Errors
/// Fails where there is a file already, or none can be written.
pub fn new_server_key(path: &Path) -> Result<String, LaunchError> {
    Ok(make_key(path)?.id().to_owned())
}

/// The server keys that a configuration names now; nothing is made.
pub(crate) fn read_server_keys(config: &Config) -> Result<ServerKeys, LaunchError> {
    let current = match server_key_from_environment()? {
        Some(key) => key,
        None => read_key(&config.keys.file)?,
    };
    Ok(ServerKeys::new(current, previous_keys(config)?))
}

fn previous_keys(config: &Config) -> Result<Vec<ServerKey>, LaunchError> {
    config.keys.previous.iter().map(|path| read_key(path)).collect()
}

/// Makes a key file that only its owner can read, and that is on the disk before anything needs it.
fn make_key(path: &Path) -> Result<ServerKey, LaunchError> {
    let file_error = |source| LaunchError::File {
        path: path.to_owned(),
        source,
    };
    let key = ServerKey::generate()?;
    if let Some(directory) = path
        .parent()
        .filter(|directory| !directory.as_os_str().is_empty())
    {
        fs::create_dir_all(directory).map_err(file_error)?;
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(file_error)?;
    writeln!(file, "{}", *key.to_paserk()).map_err(file_error)?;
    file.sync_all().map_err(file_error)?;
    tracing::info!(path = %path.display(), id = key.id(), "made a new server key: keep a copy of it, apart from the data");
    Ok(key)
}
