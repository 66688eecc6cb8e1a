//! What must be right around the data directory before it is touched.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tessera_core::{Clock, SystemClock, Timestamp};

use crate::{
    config::{Config, SinkConfig},
    error::LaunchError,
};

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
    check_written(config)?;
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

/// The files that the authority writes besides the data must not be files that something else is read from.
fn check_written(config: &Config) -> Result<(), LaunchError> {
    let sinks = config.audit.sinks.iter().filter_map(|(name, sink)| match sink {
        SinkConfig::File { path, .. } => Some((format!("[audit.sinks.{}] path", name.as_str()), path)),
        SinkConfig::Syslog { .. } | SinkConfig::Http { .. } | SinkConfig::Otlp { .. } => None,
    });
    let witness = config.keys.witness.iter();
    let witness = witness.map(|path| ("[keys] witness".to_owned(), path));
    for (setting, path) in witness.chain(sinks) {
        if let Some(what) = used_for(config, &real_file(path), &setting) {
            return Err(LaunchError::FilePlace {
                setting,
                path: path.clone(),
                what,
            });
        }
    }
    Ok(())
}

/// What else a file is for, where it is.
fn used_for(config: &Config, file: &Path, setting: &str) -> Option<&'static str> {
    let is_it = |path: &PathBuf| real_file(path) == file;
    let keys = &config.keys;
    let tls = config.server.tls.iter();
    let mut of_tls = tls.flat_map(|tls| {
        [&tls.certificate, &tls.private_key]
            .into_iter()
            .chain(&tls.client_ca)
    });
    if file.is_dir() {
        Some("a directory")
    } else if std::iter::once(&keys.file).chain(&keys.previous).any(is_it) {
        Some("a file with a server key")
    } else if of_tls.any(is_it) {
        Some("a file of [server.tls]")
    } else if file.starts_with(real_file(&config.policy.path)) {
        Some("in the directory of the policy")
    } else if !config.store.is_shared() && file.starts_with(real_file(&config.store.path)) {
        // That of the witness says why.
        setting.starts_with("[audit").then_some("in the data directory")
    } else {
        None
    }
}

/// Where a file is that may not be there yet; its directory is.
fn real_file(path: &Path) -> PathBuf {
    if let Ok(real) = fs::canonicalize(path) {
        return real;
    }
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return path.to_owned();
    };
    let directory = match directory.as_os_str() {
        here if here.is_empty() => Path::new("."),
        _ => directory,
    };
    fs::canonicalize(directory).map_or_else(|_| path.to_owned(), |directory| directory.join(name))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_to_a_file_that_is_for_something_else() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("policies")).unwrap();
        fs::create_dir(at("data")).unwrap();
        fs::write(at("server.key"), "").unwrap();
        std::os::unix::fs::symlink(at("server.key"), at("link")).unwrap();
        let table = [
            ("audit.jsonl", ""),
            ("server.key", "a file with a server key"),
            ("link", "a file with a server key"),
            ("older.key", "a file with a server key"),
            ("policies/policy.csv", "in the directory of the policy"),
            ("data/rows/db", "in the data directory"),
            ("data/seal", "in the data directory"),
            ("policies", "a directory"),
        ];
        for (name, expected) in table {
            let text = format!(
                "[store]\npath = \"data\"\n[policy]\npath = \"policies\"\n\
                 [keys]\nfile = \"server.key\"\nprevious = [\"older.key\"]\n\
                 [audit.sinks.file]\nkind = \"file\"\npath = \"{name}\"\n\
                 [realms.production]\nkind = \"production\"\nissuer = \"https://auth.example.org/production\"\n"
            );
            fs::write(at("tessera.toml"), text).unwrap();
            let config = Config::read(&at("tessera.toml")).unwrap();
            let refused = check_written(&config).err().map(|error| error.to_string());
            match refused {
                None => assert_eq!(expected, "", "{name}"),
                Some(refused) => {
                    assert!(
                        !expected.is_empty() && refused.contains(expected),
                        "{name}: {refused}"
                    );
                }
            }
        }
    }
}
