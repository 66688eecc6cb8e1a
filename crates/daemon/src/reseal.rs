//! Sealing the same server key differently: by an HSM, by another key of it, or not at all.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tessera_token::{SealingKey, ServerKey};
use zeroize::Zeroizing;

use crate::{
    config::{Config, SealerConfig},
    error::LaunchError,
    key_file::{KeyText, KeyTextError, SealedKey},
    sealer::{SealerError, with_sealer},
    server_key::{Kept, private_file, unusable, write_new},
};

/// The suffix of a file's name until it is read back.
const UNFINISHED: &str = ".resealing";

/// A key file, and what seals it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptKey {
    /// The file.
    pub file: PathBuf,
    /// The id of the server key.
    pub id: String,
    /// What seals it; `None` if it is in plain text.
    pub sealed_by: Option<String>,
}

/// The result of resealing a key file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resealed {
    /// The file as it is now.
    pub key: KeptKey,
    /// Whether it was written; false if it was already sealed that way.
    pub is_changed: bool,
}

/// Makes a sealing key in a new file that only its owner can read. Returns its id.
///
/// # Errors
/// Fails if the file exists, or can't be written.
pub fn new_sealing_key(path: &Path) -> Result<String, LaunchError> {
    let key = SealingKey::generate()?;
    write_new(path, &Zeroizing::new(format!("{}\n", *key.to_paserk())))?;
    Ok(key.id().to_owned())
}

/// What seals each key file of a configuration, according to the files; no sealer is used. Files that can't be read are
/// left out.
#[must_use]
pub fn kept_keys(config: &Config) -> Vec<KeptKey> {
    let files = [&config.keys.file].into_iter().chain(&config.keys.previous);
    let kept = files.filter_map(|file| {
        let text = Kept::in_file(file).ok()?.parse().ok()?;
        Some(KeptKey {
            file: file.clone(),
            id: text.id().to_owned(),
            sealed_by: match text {
                KeyText::Plain(_) => None,
                KeyText::Sealed(sealed) => Some(sealed.by),
            },
        })
    });
    kept.collect()
}

/// Seals a key file by `to`, or writes the key in plain text if that is `None`. `from` opens it if it is sealed
/// differently. The old file stays until the new one was read back and opened.
///
/// # Errors
/// Fails if the key can't be opened, sealed, or written: the file stays unchanged.
pub fn reseal(
    file: &Path,
    from: Option<&SealerConfig>,
    to: Option<&SealerConfig>,
) -> Result<Resealed, LaunchError> {
    let opened = open(&Kept::in_file(file)?, from, to)?;
    let id = opened.key.id().to_owned();
    let (text, sealed_by) = match (to, opened.by_target) {
        (_, Some(by)) => return Ok(Resealed::of(file, id, by, false)),
        (None, None) => (Zeroizing::new(format!("{}\n", *opened.key.to_paserk())), None),
        (Some(to), None) => {
            let place = format!("for `{}`", file.display());
            let key = copy(&opened.key)?;
            let sealed = with_sealer(to, move |sealer| {
                SealedKey::seal(&key, sealer).map_err(|source| unusable(&place, source))
            })?;
            (Zeroizing::new(sealed.to_string()), Some(sealed.by))
        }
    };
    replace(file, &text, |written| check_written(written, &id, to))?;
    Ok(Resealed::of(file, id, sealed_by, true))
}

impl Resealed {
    fn of(file: &Path, id: String, sealed_by: Option<String>, is_changed: bool) -> Self {
        let file = file.to_owned();
        Self {
            key: KeptKey { file, id, sealed_by },
            is_changed,
        }
    }
}

struct Opened {
    key: ServerKey,
    /// What seals it, if it already has the target state; `Some(None)`: it is in plain text, as required.
    by_target: Option<Option<String>>,
}

fn open(kept: &Kept, from: Option<&SealerConfig>, to: Option<&SealerConfig>) -> Result<Opened, LaunchError> {
    let sealed = match kept.parse()? {
        KeyText::Plain(key) => {
            let by_target = to.is_none().then_some(None);
            return Ok(Opened { key: *key, by_target });
        }
        KeyText::Sealed(sealed) => sealed,
    };
    let mut refused = kept.no_sealer(sealed.by.clone());
    // A run that was cut off between two files is repeated: a key that opens with the second sealer is done.
    for (sealer, is_target) in [(from, false), (to, true)] {
        let Some(sealer) = sealer else { continue };
        match open_with(&sealed, sealer, &kept.place) {
            Ok(key) => {
                let by_target = is_target.then(|| Some(sealed.by.clone()));
                return Ok(Opened { key, by_target });
            }
            Err(error) if is_of_another(&error) => refused = error,
            Err(error) => return Err(error),
        }
    }
    Err(refused)
}

fn open_with(sealed: &SealedKey, sealer: &SealerConfig, place: &str) -> Result<ServerKey, LaunchError> {
    let (sealed, place) = (sealed.clone(), place.to_owned());
    with_sealer(sealer, move |sealer| {
        sealed.open(sealer).map_err(|source| unusable(&place, source))
    })
}

/// Whether another sealer may open it.
fn is_of_another(error: &LaunchError) -> bool {
    let LaunchError::ServerKey { source, .. } = error else {
        return false;
    };
    matches!(
        source,
        KeyTextError::SealedByOther { .. } | KeyTextError::Sealer(SealerError::DoesNotOpen { .. })
    )
}

fn copy(key: &ServerKey) -> Result<ServerKey, LaunchError> {
    ServerKey::parse(&key.to_paserk()).map_err(|error| unusable("in memory", error.into()))
}

/// Replaces a file by another once `check` has accepted that one: until then, the old file stays.
fn replace(
    file: &Path,
    text: &str,
    check: impl FnOnce(&Path) -> Result<(), LaunchError>,
) -> Result<(), LaunchError> {
    // The target of a link contains the key.
    let file = &fs::canonicalize(file).map_err(|source| LaunchError::File {
        path: file.to_owned(),
        source,
    })?;
    let mut unfinished = OsString::from(file);
    unfinished.push(UNFINISHED);
    let unfinished = PathBuf::from(unfinished);
    let replaced = write(&unfinished, text, file)
        .and_then(|()| check(&unfinished))
        .and_then(|()| take_place(&unfinished, file));
    if replaced.is_err() {
        // It may contain the key in plain text. If it was never made, there is nothing to remove.
        drop(fs::remove_file(&unfinished));
    }
    replaced
}

/// Writes it for the owner of the file that it replaces.
fn write(path: &Path, text: &str, like: &Path) -> Result<(), LaunchError> {
    let file_error = |source| LaunchError::File {
        path: path.to_owned(),
        source,
    };
    let owner = fs::metadata(like).map_err(|source| LaunchError::File {
        path: like.to_owned(),
        source,
    })?;
    // A leftover file is removed. If another process makes one with its name, it is not written to.
    drop(fs::remove_file(path));
    let mut file = private_file(path).map_err(file_error)?;
    let made = file.metadata().map_err(file_error)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))
        .map_err(file_error)?;
    if (made.uid(), made.gid()) != (owner.uid(), owner.gid()) {
        std::os::unix::fs::fchown(&file, Some(owner.uid()), Some(owner.gid())).map_err(file_error)?;
    }
    file.write_all(text.as_bytes()).map_err(file_error)?;
    file.sync_all().map_err(file_error)
}

/// Reads it from the disk, and opens it.
fn check_written(path: &Path, id: &str, to: Option<&SealerConfig>) -> Result<(), LaunchError> {
    let kept = Kept::in_file(path)?;
    let key = match (kept.parse()?, to) {
        (KeyText::Plain(key), None) => Some(*key),
        (KeyText::Sealed(sealed), Some(to)) => Some(open_with(&sealed, to, &kept.place)?),
        (KeyText::Plain(_), Some(_)) | (KeyText::Sealed(_), None) => None,
    };
    if key.is_some_and(|key| key.id() == id) {
        return Ok(());
    }
    Err(LaunchError::ReadBack {
        path: path.to_owned(),
    })
}

fn take_place(unfinished: &Path, file: &Path) -> Result<(), LaunchError> {
    let directory = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let renamed = fs::rename(unfinished, file)
        .and_then(|()| File::open(directory))
        .and_then(|directory| directory.sync_all());
    renamed.map_err(|source| LaunchError::File {
        path: file.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests;
