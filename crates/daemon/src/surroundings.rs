//! Conditions around the data directory that are checked before it is touched.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tessera_core::{Clock, SystemClock, Timestamp};

use crate::{
    config::{Config, SinkConfig},
    error::LaunchError,
    server_key::server_key_file_in_environment,
    witness::witness,
};

/// The clock must show a time that tokens can carry.
pub(crate) fn check_clock() -> Result<(), LaunchError> {
    let (where_it_is, why) = match SystemClock.now() {
        now if now >= Timestamp::MAX => ("beyond the year 9999", "neither RFC 3339 nor HTTP can write"),
        now if now <= Timestamp::EPOCH => ("before the year 1970", "no token can have"),
        _ => return Ok(()),
    };
    Err(LaunchError::Clock { where_it_is, why })
}

/// The data must not be in a directory that is used for something else: all of its content is opened, checked and
/// closed to others.
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
        return Ok(());
    };
    Err(LaunchError::Place {
        path: path.clone(),
        what,
    })
}

/// Files that the authority writes besides the data must not be files that are used for something else.
fn check_written(config: &Config) -> Result<(), LaunchError> {
    let sinks = config.audit.sinks.iter().filter_map(|(name, sink)| match sink {
        SinkConfig::File { path, .. } => {
            Some((format!("[audit.sinks.{}] path", name.as_str()), path.clone()))
        }
        SinkConfig::Syslog { .. } | SinkConfig::Http { .. } | SinkConfig::Otlp { .. } => None,
    });
    let named = config.keys.witness.iter();
    let named = named.map(|path| ("[keys] witness".to_owned(), path.clone()));
    let mut taken = files_read(config);
    if config.keys.witness.is_none() {
        let beside = witness(config).map(|witness| real_file(witness.path()));
        taken.extend(beside.map(|file| (file, "the witness beside the server key")));
    }
    for (setting, path) in named.chain(sinks) {
        let file = real_file(&path);
        if let Some(what) = used_for(config, &file, &taken) {
            return Err(LaunchError::FilePlace { setting, path, what });
        }
        taken.push((file, "written by another setting"));
    }
    Ok(())
}

/// The use of a file, if it is used for something else.
fn used_for(config: &Config, file: &Path, taken: &[(PathBuf, &'static str)]) -> Option<&'static str> {
    if file.is_dir() {
        return Some("a directory");
    }
    if file.starts_with(real_file(&config.policy.path)) {
        return Some("in the directory of the policy");
    }
    if !config.store.is_shared() && file.starts_with(real_file(&config.store.path)) {
        return Some("in the data directory, so it would be copied and restored with it");
    }
    let other = taken.iter().find(|(other, _)| other == file);
    other.map(|(_, what)| *what)
}

/// The single files that the configuration names, and what each is for.
fn files_read(config: &Config) -> Vec<(PathBuf, &'static str)> {
    let keys = std::iter::once(&config.keys.file).chain(&config.keys.previous);
    let tls = config.server.tls.iter().flat_map(|tls| {
        let pair = [&tls.certificate, &tls.private_key];
        pair.into_iter().chain(&tls.client_ca)
    });
    let in_environment = server_key_file_in_environment();
    let of_keys = keys
        .chain(&in_environment)
        .map(|path| (real_file(path), "a file with a server key"));
    let of_tls = tls.map(|path| (real_file(path), "a file of [server.tls]"));
    of_keys.chain(of_tls).collect()
}

/// The location of a file that may not exist yet; its directory does.
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
            ("server.key.witness", "the witness beside the server key"),
            ("tls.key", "a file of [server.tls]"),
        ];
        for (name, expected) in table {
            let text = format!(
                "[store]\npath = \"data\"\n[policy]\npath = \"policies\"\n\
                 [server.tls]\ncertificate = \"tls.crt\"\nprivate_key = \"tls.key\"\n\
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
