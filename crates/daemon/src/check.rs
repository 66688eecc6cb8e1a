//! Whether a configuration could be served, without serving it and without changing anything.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

use tessera_policy::Policy;
use tessera_server::Tls;

use crate::{
    blocking::blocking,
    config::{Config, KeysConfig},
    data_directory::has_data,
    database,
    error::LaunchError,
    server_key::{
        SERVER_KEY_FILE_VARIABLE, SERVER_KEY_VARIABLE, read_key, server_key_file_in_environment,
        server_key_from_environment, server_key_in_environment,
    },
    surroundings::{check_clock, check_place},
};

/// Reads everything that `config` names but the data, which an authority may be serving. Answers what is worth
/// knowing and does not keep an authority from serving.
///
/// # Errors
/// See [`LaunchError`]: the first thing that an authority would refuse to start on.
pub async fn check(config: &Config) -> Result<Vec<String>, LaunchError> {
    check_clock()?;
    check_place(config)?;
    let mut notes = Vec::new();
    if let Some(tls) = &config.server.tls {
        notes.extend(Tls::read(tls)?.notes());
    } else if !config.server.listen.ip().is_loopback() {
        notes.push(format!(
            "{} is plaintext: API keys can be read on the way. Set [server.tls], or let a proxy end TLS",
            config.server.listen
        ));
    }
    let path = config.policy.path.clone();
    let loaded = blocking(move || Policy::load(&path)).await;
    let policy = loaded.map_err(|source| LaunchError::Policy {
        path: config.policy.path.clone(),
        source,
    })?;
    notes.extend(policy.warnings().iter().map(ToString::to_string));
    notes.extend(check_keys(&config.keys, &config.store.path)?);
    if config.store.is_shared() {
        database::options(config)?;
    } else if !has_data(&config.store.path) {
        notes.push(format!(
            "there is no data directory at `{}` yet: the first start makes it",
            config.store.path.display()
        ));
    }
    for (name, realm) in &config.realms {
        if realm.issuer.contains(".example.") {
            notes.push(format!("the issuer of realm `{name}` is an example"));
        }
    }
    Ok(notes)
}

pub(crate) fn check_keys(keys: &KeysConfig, data: &Path) -> Result<Vec<String>, LaunchError> {
    let mut notes = Vec::new();
    for path in &keys.previous {
        read_key(path)?;
    }
    if server_key_from_environment()?.is_some() {
        let from = match server_key_file_in_environment().filter(|_| server_key_in_environment().is_none()) {
            Some(path) => format!("in `{}`, as {SERVER_KEY_FILE_VARIABLE} says", path.display()),
            None => format!("that of {SERVER_KEY_VARIABLE}"),
        };
        notes.push(format!("the server key is {from}"));
        return Ok(notes);
    }
    let file = &keys.file;
    match fs::metadata(file) {
        Ok(found) => {
            read_key(file)?;
            if found.permissions().mode() & 0o077 != 0 {
                notes.push(format!("others can read `{}`: chmod 600", file.display()));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && has_data(data) => {
            return Err(LaunchError::ServerKeyMissing {
                key: file.clone(),
                data: data.to_owned(),
            });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            notes.push(format!(
                "there is no `{}` yet: the first start makes it",
                file.display()
            ));
        }
        Err(source) => {
            let path = file.clone();
            return Err(LaunchError::File { path, source });
        }
    }
    Ok(notes)
}
