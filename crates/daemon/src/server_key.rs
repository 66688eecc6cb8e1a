//! Reading and making the server key.

use std::{
    env,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tessera_core::read_small_text;
use tessera_token::{ServerKey, ServerKeys};
use zeroize::Zeroizing;

use crate::{
    config::{Config, KeysConfig, SealerConfig},
    error::LaunchError,
    key_file::{KeyText, KeyTextError, SealedKey},
    sealer::{secret_of, with_sealer},
};

/// The variable with the server key, which takes precedence over every file.
pub const SERVER_KEY_VARIABLE: &str = "TESSERA_SERVER_KEY";
/// The variable that names a file with the server key, which is read instead of `[keys] file`. A service manager or a
/// container puts secrets there. The file is never made.
pub const SERVER_KEY_FILE_VARIABLE: &str = "TESSERA_SERVER_KEY_FILE";

/// The server key of a data directory that has its own key, which is not sealed: `tessera dev --data-dir`.
///
/// # Errors
/// See [`LaunchError`].
pub fn server_key_beside(data: &Path, file: &Path) -> Result<ServerKey, LaunchError> {
    if !file.exists() {
        if data.join("seal").exists() {
            return Err(LaunchError::ServerKeyMissing {
                key: file.to_owned(),
                data: data.to_owned(),
            });
        }
        make_key(file, None)?;
    }
    let kept = Kept::in_file(file)?;
    match kept.parse()? {
        KeyText::Plain(key) => Ok(*key),
        KeyText::Sealed(sealed) => Err(kept.no_sealer(sealed.by)),
    }
}

/// The variable with the server key; an empty one counts as not set.
pub(crate) fn server_key_in_environment() -> Option<Zeroizing<String>> {
    let text = Zeroizing::new(env::var_os(SERVER_KEY_VARIABLE)?.to_string_lossy().into_owned());
    (!text.trim().is_empty()).then_some(text)
}

/// The file that the environment names; an empty variable counts as not set.
pub(crate) fn server_key_file_in_environment() -> Option<PathBuf> {
    let path = env::var_os(SERVER_KEY_FILE_VARIABLE)?;
    (!path.is_empty()).then(|| path.into())
}

/// Makes a key file that only its owner can read, and that is on the disk before anything needs it; sealed, if there is
/// a sealer. Returns the id of the key.
///
/// # Errors
/// Fails if the file exists or can't be written, or if the sealer can't be used.
pub fn new_server_key(path: &Path, sealer: Option<&SealerConfig>) -> Result<String, LaunchError> {
    make_key(path, sealer)
}

/// The locations of a configuration's server keys.
#[derive(Clone, Debug)]
pub(crate) struct KeyPlaces {
    keys: KeysConfig,
    data: PathBuf,
    /// Whether other nodes have the same keys.
    is_shared: bool,
}

impl KeyPlaces {
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            keys: config.keys.clone(),
            data: config.store.path.clone(),
            is_shared: config.store.is_shared(),
        }
    }

    /// The server keys for serving an authority. A key is made if there is none and never was one.
    pub(crate) fn for_start(&self) -> Result<ServerKeys, LaunchError> {
        if !self.is_shared {
            return self.for_data(false);
        }
        // None is made here: it would differ from that of the other nodes.
        self.at_hand()?
            .ok_or_else(|| LaunchError::ServerKeyOfNodesMissing {
                key: self.keys.file.clone(),
            })
    }

    /// The server keys; a new one is made if there is none and never was one, or if the data is new.
    pub(crate) fn for_data(&self, is_new: bool) -> Result<ServerKeys, LaunchError> {
        if !self.is_at_hand() {
            if !is_new && self.data.join("seal").exists() {
                return Err(LaunchError::ServerKeyMissing {
                    key: self.keys.file.clone(),
                    data: self.data.clone(),
                });
            }
            make_key(&self.keys.file, self.keys.sealer.as_ref())?;
        }
        self.read()
    }

    /// The existing server keys, without making one; `None` if there is none.
    pub(crate) fn at_hand(&self) -> Result<Option<ServerKeys>, LaunchError> {
        self.is_at_hand().then(|| self.read()).transpose()
    }

    /// Whether there is a current key.
    pub(crate) fn is_at_hand(&self) -> bool {
        server_key_in_environment().is_some()
            || server_key_file_in_environment().is_some()
            || self.keys.file.exists()
    }

    /// The server keys that the configuration names now; none is made.
    pub(crate) fn read(&self) -> Result<ServerKeys, LaunchError> {
        self.kept()?.open()
    }

    /// The same, in their stored form.
    pub(crate) fn kept(&self) -> Result<KeptKeys, LaunchError> {
        let current = match server_key_in_environment() {
            Some(text) => Kept {
                place: format!("in {SERVER_KEY_VARIABLE}"),
                text,
            },
            None => Kept::in_file(&server_key_file_in_environment().unwrap_or(self.keys.file.clone()))?,
        };
        let mut kept = vec![current];
        for path in &self.keys.previous {
            kept.push(Kept::in_file(path)?);
        }
        Ok(KeptKeys {
            kept,
            sealer: self.keys.sealer.clone(),
        })
    }

    /// Checks only the earlier keys, if there is no current one yet.
    pub(crate) fn check_previous(&self) -> Result<(), LaunchError> {
        let kept: Result<Vec<_>, _> = self
            .keys
            .previous
            .iter()
            .map(|path| Kept::in_file(path))
            .collect();
        open_all(kept?, self.keys.sealer.as_ref()).map(drop)
    }
}

/// Server keys in their stored form: plain or sealed.
pub(crate) struct KeptKeys {
    /// The current one first.
    kept: Vec<Kept>,
    sealer: Option<SealerConfig>,
}

impl KeptKeys {
    /// Opens them.
    pub(crate) fn open(self) -> Result<ServerKeys, LaunchError> {
        let mut keys = open_all(self.kept, self.sealer.as_ref())?.into_iter();
        // There is one for each stored key.
        let current = keys
            .next()
            .ok_or(LaunchError::Entropy(tessera_token::NoEntropy))?;
        Ok(ServerKeys::new(current, keys.collect()))
    }

    /// The ids of the keys if all are sealed, the current one first. The sealer is not used.
    pub(crate) fn sealed_ids(&self) -> Option<Vec<String>> {
        let id = |kept: &Kept| match kept.parse().ok()? {
            KeyText::Sealed(sealed) => Some(sealed.id),
            KeyText::Plain(_) => None,
        };
        self.kept.iter().map(id).collect()
    }

    /// Everything that determines the result of opening them, except the HSM: only for comparison, and never shown.
    pub(crate) fn inputs(&self) -> Zeroizing<String> {
        let mut inputs = Zeroizing::new(format!("{:?}", self.sealer));
        if let Some(secret) = self.sealer.as_ref().and_then(secret_of) {
            inputs.push_str(&secret);
        }
        for kept in &self.kept {
            inputs.push_str(&kept.text);
        }
        inputs
    }
}

/// A key file, or the variable that replaces it.
pub(crate) struct Kept {
    /// For example `in server.key`.
    pub(crate) place: String,
    text: Zeroizing<String>,
}

impl Kept {
    pub(crate) fn in_file(path: &Path) -> Result<Self, LaunchError> {
        let file_error = |source| LaunchError::File {
            path: path.to_owned(),
            source,
        };
        let text = Zeroizing::new(read_small_text(path).map_err(file_error)?);
        let mode = fs::metadata(path).map_err(file_error)?.permissions().mode();
        if mode & 0o007 != 0 {
            tracing::warn!(path = %path.display(), "the server key can be read by everybody on this machine: chmod 600");
        }
        Ok(Self {
            place: format!("in `{}`", path.display()),
            text,
        })
    }

    pub(crate) fn parse(&self) -> Result<KeyText, LaunchError> {
        KeyText::parse(&self.text).map_err(|source| unusable(&self.place, source))
    }

    pub(crate) fn no_sealer(&self, by: String) -> LaunchError {
        LaunchError::NoSealer {
            place: self.place.clone(),
            by,
        }
    }
}

/// A stored key can't be used.
pub(crate) fn unusable(place: &str, source: KeyTextError) -> LaunchError {
    LaunchError::ServerKey {
        place: place.to_owned(),
        source,
    }
}

/// Opens all of them, in one session of the sealer. With a sealer, no key may be in plain text: the HSM must really
/// protect all keys.
fn open_all(kept: Vec<Kept>, sealer: Option<&SealerConfig>) -> Result<Vec<ServerKey>, LaunchError> {
    let (mut plain, mut sealed) = (Vec::new(), Vec::new());
    for kept in kept {
        match (kept.parse()?, sealer) {
            (KeyText::Plain(key), None) => plain.push(*key),
            (KeyText::Sealed(key), Some(_)) => sealed.push((kept.place, key)),
            (KeyText::Sealed(key), None) => return Err(kept.no_sealer(key.by)),
            (KeyText::Plain(_), Some(_)) => return Err(LaunchError::NotSealed { place: kept.place }),
        }
    }
    let Some(sealer) = sealer.filter(|_| !sealed.is_empty()) else {
        return Ok(plain);
    };
    with_sealer(sealer, move |sealer| {
        let opened = sealed
            .iter()
            .map(|(place, key)| key.open(sealer).map_err(|source| unusable(place, source)));
        opened.collect()
    })
}

fn make_key(path: &Path, sealer: Option<&SealerConfig>) -> Result<String, LaunchError> {
    let key = ServerKey::generate()?;
    let id = key.id().to_owned();
    let text = match sealer {
        None => Zeroizing::new(format!("{}\n", *key.to_paserk())),
        Some(sealer) => {
            let place = format!("for `{}`", path.display());
            let sealed = with_sealer(sealer, move |sealer| {
                SealedKey::seal(&key, sealer).map_err(|source| unusable(&place, source))
            })?;
            Zeroizing::new(sealed.to_string())
        }
    };
    write_new(path, &text)?;
    tracing::info!(path = %path.display(), id, "made a new server key: keep a copy of it, apart from the data");
    Ok(id)
}

/// A new file that only its owner can read. An existing file is not written to.
pub(crate) fn private_file(path: &Path) -> io::Result<File> {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// Writes a secret to a new file that only its owner can read, and that is on the disk afterwards.
pub(crate) fn write_new(path: &Path, text: &str) -> Result<(), LaunchError> {
    let file_error = |source| LaunchError::File {
        path: path.to_owned(),
        source,
    };
    let directory = match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    fs::create_dir_all(directory).map_err(file_error)?;
    let mut file = private_file(path).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => LaunchError::KeyFileExists {
            path: path.to_owned(),
        },
        _ => file_error(source),
    })?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        // Otherwise a power loss could leave data without the key that opens it.
        .and_then(|()| File::open(directory)?.sync_all());
    if written.is_err() {
        // A partial key would block the creation of a complete one.
        let _ = fs::remove_file(path);
    }
    written.map_err(file_error)
}
