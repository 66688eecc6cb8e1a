//! Whether a configuration could be served; this check serves nothing and changes nothing.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

use tessera_authority::check_realms;
use tessera_core::Seconds;
use tessera_policy::Policy;
use tessera_server::Tls;
use tessera_token::ServerKeys;

use crate::{
    blocking::blocking,
    config::{Config, KeysConfig},
    data_directory::has_data,
    database,
    error::LaunchError,
    launch::{read_witness, seen_of},
    server_key::{
        KeyPlaces, SERVER_KEY_FILE_VARIABLE, SERVER_KEY_VARIABLE, server_key_file_in_environment,
        server_key_in_environment,
    },
    surroundings::{check_clock, check_place},
    unfinished::left_beside,
    witness::witness,
};

/// Reads everything that `config` names except the data, which an authority may be serving. Returns findings that do
/// not prevent an authority from serving.
///
/// # Errors
/// See [`LaunchError`]: the first error with which an authority would refuse to start.
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
    let (keys, places, data) = (
        config.keys.clone(),
        KeyPlaces::of(config),
        config.store.path.clone(),
    );
    let (_, of_keys) = blocking(move || check_keys(&keys, &places, &data)).await?;
    notes.extend(of_keys);
    check_realms(config.realms(), &policy)?;
    let (witness, data) = (witness(config), &config.store.path);
    if config.store.is_shared() {
        read_witness(witness.as_ref()).await?;
        database::options(config)?;
    } else {
        seen_of(data, witness.as_ref()).await?;
        notes.extend(left_beside(data).map(|left| {
            let left = left.display();
            format!("`{left}` is of a restore or a copy that is under way, or was cut off: then remove it")
        }));
        if !has_data(data) {
            notes.push(format!(
                "there is no data directory at `{}` yet: the first start makes it",
                data.display()
            ));
        }
    }
    for (name, realm) in &config.realms {
        if realm.issuer.contains(".example.") {
            notes.push(format!("the issuer of realm `{name}` is an example"));
        }
    }
    if config.keys.publish_for.seconds() == Seconds(0) {
        notes.push(
            "[keys] publish_for is 0: a service that keeps `/keys` refuses the tokens of a new signing key"
                .to_owned(),
        );
    }
    Ok(notes)
}

/// Reads the keys, and returns them with findings; no keys if a start would make one.
pub(crate) fn check_keys(
    keys: &KeysConfig,
    places: &KeyPlaces,
    data: &Path,
) -> Result<(Option<ServerKeys>, Vec<String>), LaunchError> {
    let file = &keys.file;
    if places.is_at_hand() {
        let opened = places.read()?;
        let mut notes = Vec::new();
        let named = server_key_file_in_environment();
        if server_key_in_environment().is_some() {
            notes.push(format!("the server key is that of {SERVER_KEY_VARIABLE}"));
        } else if let Some(path) = named {
            let path = path.display();
            notes.push(format!(
                "the server key is in `{path}`, as {SERVER_KEY_FILE_VARIABLE} says"
            ));
        } else if fs::metadata(file).is_ok_and(|found| found.permissions().mode() & 0o077 != 0) {
            notes.push(format!("others can read `{}`: chmod 600", file.display()));
        }
        return Ok((Some(opened), notes));
    }
    places.check_previous()?;
    match fs::metadata(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(LaunchError::File {
            path: file.clone(),
            source: error,
        }),
        _ if has_data(data) => Err(LaunchError::ServerKeyMissing {
            key: file.clone(),
            data: data.to_owned(),
        }),
        _ => {
            let note = format!("there is no `{}` yet: the first start makes it", file.display());
            Ok((None, vec![note]))
        }
    }
}
