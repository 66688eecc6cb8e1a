//! From a configuration to an open authority.

use std::{
    env, fs, io,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use tessera_authority::{Authority, Options, Restored, Restoring, SetupError, end_everything};
use tessera_core::{
    Clock, KeyStatus, LEEWAY_MAX, Realm, Seconds, SigningKey, SteadyClock, SystemClock, SystemUptime,
};
use tessera_policy::{Policy, PolicyError};
use tessera_store::Store;
use tessera_store_sled::{OpenError, SledOptions, SledStore};
use tessera_token::{KeyError, NoEntropy, ServerKey, ServerKeys, SigningKeyPair};

use crate::{
    config::Config,
    tls::TlsError,
    witness::{Seen, Witness},
};

mod check;
mod surroundings;

pub use check::check;

use self::surroundings::{check_clock, check_place};

/// The variable that takes precedence over the key file.
pub const SERVER_KEY_VARIABLE: &str = "TESSERA_SERVER_KEY";

/// The authority can't be launched. Each message says where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The data directory can't be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The policy is wrong.
    #[error("the policy in `{path}` is refused:\n{source}")]
    Policy {
        /// The directory.
        path: PathBuf,
        /// Every finding.
        source: PolicyError,
    },
    /// A server key can't be used.
    #[error("the server key {place} can't be used: {source}")]
    ServerKey {
        /// The file or the variable.
        place: String,
        /// Why; never the key.
        source: KeyError,
    },
    /// The key file is gone, and the data directory needs it.
    #[error(
        "the server key `{key}` is missing, and `{data}` was made with it: restore the file. Without it no signing key and no refresh token in that directory can be used"
    )]
    ServerKeyMissing {
        /// The key file.
        key: PathBuf,
        /// The data directory.
        data: PathBuf,
    },
    /// The clock says what can't be written.
    #[error("the machine's clock is {where_it_is}, which {why}: set it")]
    Clock {
        /// What is wrong with it.
        where_it_is: &'static str,
        /// Why that is.
        why: &'static str,
    },
    /// The data directory is gone, and there was one.
    #[error(
        "there is nothing in the data directory `{data}`, and `{witness}` says that there was: put a copy back and run `tessera restore`, mount the right disk, or begin anew with `tessera store init`. Begun anew, every session and API key is gone"
    )]
    DataMissing {
        /// The data directory.
        data: PathBuf,
        /// What says so.
        witness: PathBuf,
    },
    /// The data directory is not the one that was served last.
    #[error(
        "the data directory `{data}` is older than what was served last, or is another one, as `{witness}` says: revocations and sessions since are not in it. Run `tessera restore` before it is served, or use the last one"
    )]
    RolledBack {
        /// The data directory.
        data: PathBuf,
        /// What says so.
        witness: PathBuf,
    },
    /// What tells an older copy can't be read.
    #[error(
        "`{witness}` can't be read: {source}. It tells whether the data directory is the last one: if that was put back from a copy, remove this file and run `tessera restore`; if it surely was not, only remove the file"
    )]
    Witness {
        /// The file.
        witness: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The data directory is at a place that is for something else.
    #[error("[store] path `{path}` is {what}: choose a directory for the data alone")]
    Place {
        /// The place.
        path: PathBuf,
        /// What it is for.
        what: &'static str,
    },
    /// There is a data directory, where one was to be begun.
    #[error("there is a data directory in `{path}`: move it away first")]
    NotEmpty {
        /// The place.
        path: PathBuf,
    },
    /// The certificate or its key can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A file can't be read or written.
    #[error("`{path}` can't be used: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The authority can't be set up on what was opened.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The operating system gives no random numbers.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
}

/// Opens everything that `config` names.
///
/// # Errors
/// See [`LaunchError`].
pub async fn open(config: &Config) -> Result<Arc<Authority>, LaunchError> {
    check_clock()?;
    check_place(config)?;
    let policy_path = config.policy.path.clone();
    // Cheap things that people mistype come before the data directory is touched.
    let policy = blocking({
        let path = policy_path.clone();
        move || Policy::load(&path)
    })
    .await
    .map_err(|source| LaunchError::Policy {
        path: policy_path,
        source,
    })?;
    let server_keys = server_keys(config)?;
    let witness = witness(config);
    let store = open_store(&config.store.path, witness, store_options(config)).await?;
    let realms = config.realms();
    let authority = Authority::open(Options {
        clock: clock(store.as_ref(), &realms),
        store,
        policy,
        policy_directory: Some(config.policy.path.clone()),
        realms,
        server_keys,
        key_rotation: config.key_rotation(),
        token_bytes_max: config.server.token_bytes_max.get(),
        verified_tokens_max: config.server.verified_tokens_max.number().into(),
        watch_stall_max: Options::WATCH_STALL_MAX,
        staleness_bound_max: config.server.staleness_bound_max.get(),
    });
    Ok(authority.await?)
}

/// Begins anew with the data directory of `config`, which was restored from a copy: see [`end_everything`].
///
/// # Errors
/// See [`LaunchError`]: nothing is changed where it fails.
pub async fn restore(config: &Config, revoke_api_keys: bool) -> Result<Restored, LaunchError> {
    check_clock()?;
    check_place(config)?;
    let (path, options) = (config.store.path.clone(), store_options(config));
    if !path.join("seal").exists() {
        // Opening would make an empty one.
        let source = io::Error::new(io::ErrorKind::NotFound, "there is no data directory");
        return Err(LaunchError::File { path, source });
    }
    let server_keys = server_keys(config)?;
    let store = blocking(move || SledStore::open_restored(&path, options)).await?;
    let store: Arc<dyn Store> = Arc::new(store);
    let realms = config.realms();
    let now = clock(store.as_ref(), &realms).now();
    // One that can't open what the copy holds would leave an authority behind that does not start.
    let keys = store.signing_keys().await.map_err(SetupError::from)?;
    check_keys(&keys, &server_keys)?;
    let restoring = Restoring {
        realms: &realms,
        server_keys: &server_keys,
        revoke_api_keys,
        now,
    };
    let restored = end_everything(&store, &restoring).await;
    let witness = witness(config).filter(|_| restored.is_ok());
    let noted = witness.map_or(Ok(()), |witness| {
        let path = witness.path().to_owned();
        let written = witness.write(store.as_ref());
        written.map_err(|source| LaunchError::File { path, source })
    });
    let closed = store.close().await;
    let restored = restored?;
    closed.map_err(SetupError::from)?;
    noted?;
    Ok(restored)
}

/// Begins an empty data directory where there was one before.
///
/// # Errors
/// Fails where there is one.
pub async fn init(config: &Config) -> Result<(), LaunchError> {
    check_place(config)?;
    let path = config.store.path.clone();
    if has_data(&path) {
        return Err(LaunchError::NotEmpty { path });
    }
    // It brings its key: made now, or the one that the directory before had.
    server_keys_for(config, &path, true)?;
    let witness = witness(config);
    if let Some(witness) = &witness {
        witness.remove().map_err(|source| LaunchError::File {
            path: witness.path().to_owned(),
            source,
        })?;
    }
    let store = open_store(&path, None, store_options(config)).await?;
    if let Some(witness) = witness {
        // Where it can't be written, the server says so at its start.
        drop(witness.write(store.as_ref()));
    }
    Ok(store.close().await.map_err(SetupError::from)?)
}

/// Gives back the space of what is gone; see [`SledStore::compact`].
///
/// # Errors
/// See [`LaunchError`]: the directory is as it was where it fails.
pub async fn compact(config: &Config) -> Result<(u64, u64), LaunchError> {
    check_place(config)?;
    let (path, options) = (config.store.path.clone(), store_options(config));
    if !has_data(&path) {
        let source = io::Error::new(io::ErrorKind::NotFound, "there is no data directory");
        return Err(LaunchError::File { path, source });
    }
    Ok(blocking(move || SledStore::compact(&path, options)).await?)
}

/// Opens the store in `data`, unless the witness beside the server key says that it is not the last one.
///
/// # Errors
/// See [`LaunchError`].
pub async fn open_data(data: &Path, key: &Path) -> Result<Arc<dyn Store>, LaunchError> {
    check_clock()?;
    open_store(data, Some(Witness::beside(key)), SledOptions::default()).await
}

/// Writes down what an authority that was closed left behind, beside the key of `config`.
pub fn note_end(config: &Config, authority: &Authority) {
    if let Some(witness) = witness(config) {
        note_end_in(&witness, authority);
    }
}

/// The same, beside this key.
pub fn note_end_beside(key: &Path, authority: &Authority) {
    note_end_in(&Witness::beside(key), authority);
}

/// Without it an older copy that is restored may go unnoticed, and no more.
fn note_end_in(witness: &Witness, authority: &Authority) {
    let Some(group) = authority.group() else { return };
    let seen = Seen::new(authority.position().log, group);
    if let Err(error) = witness.write_seen(&seen, ".end") {
        tracing::debug!(path = %witness.path().display(), %error, "no witness can be written");
    }
}

async fn open_store(
    data: &Path,
    witness: Option<Witness>,
    options: SledOptions,
) -> Result<Arc<dyn Store>, LaunchError> {
    let seen = match &witness {
        Some(witness) => witness.read().map_err(|source| LaunchError::Witness {
            witness: witness.path().to_owned(),
            source,
        })?,
        None => None,
    };
    let place = |witness: &Option<Witness>| {
        let witness = witness.as_ref().map_or(Path::new(""), Witness::path);
        (data.to_owned(), witness.to_owned())
    };
    if seen.is_some() && !has_data(data) {
        let (data, witness) = place(&witness);
        return Err(LaunchError::DataMissing { data, witness });
    }
    if let Some(witness) = witness.as_ref().filter(|_| seen.is_none() && has_data(data)) {
        tracing::warn!(
            path = %witness.path().display(),
            "there is no witness beside the server key, and nothing else tells an older copy: if the data directory was put back from one, stop, and run `tessera restore`"
        );
    }
    let path = data.to_owned();
    let store: Arc<dyn Store> = Arc::new(blocking(move || SledStore::open(&path, options)).await?);
    if seen.is_some_and(|seen| Witness::contradicts(&seen, store.as_ref())) {
        store.close().await.map_err(SetupError::from)?;
        let (data, witness) = place(&witness);
        return Err(LaunchError::RolledBack { data, witness });
    }
    if let Some(witness) = witness {
        witness.start(&store);
    }
    Ok(store)
}

/// Whether there is anything of a data directory.
fn has_data(data: &Path) -> bool {
    ["seal", "rows", "rows.before"]
        .iter()
        .any(|name| data.join(name).exists())
}

/// The witness of `config`: beside the key file, unless the key comes from the environment.
fn witness(config: &Config) -> Option<Witness> {
    server_key_in_environment()
        .is_none()
        .then(|| Witness::beside(&config.keys.file))
}

/// Whether the server keys open the signing keys of the copy.
fn check_keys(keys: &[SigningKey], server_keys: &ServerKeys) -> Result<(), SetupError> {
    for key in keys.iter().filter(|key| key.status == KeyStatus::Active) {
        SigningKeyPair::unseal(key, server_keys).map_err(SetupError::WrongServerKey)?;
    }
    Ok(())
}

/// The clock of an authority of `realms` on `store`: it goes on from what the store knows of time.
#[must_use]
pub fn clock(store: &dyn Store, realms: &[Realm]) -> Arc<dyn Clock> {
    let lives = realms.iter().map(|realm| realm.limits.access_ttl_max);
    let token_life = Seconds(lives.max().unwrap_or(Seconds::DAY).0.saturating_add(LEEWAY_MAX.0));
    let wall = Arc::new(SystemClock);
    // Of a store of an earlier version, what it purged by. That may have been a clock that was wrong.
    let purged = || {
        store
            .log()
            .purged_through()
            .filter(|purged| *purged <= wall.now())
    };
    let mark = store.log().times().settled.or_else(purged);
    Arc::new(SteadyClock::resume(
        wall.clone(),
        Arc::new(SystemUptime),
        mark,
        token_life,
    ))
}

fn store_options(config: &Config) -> SledOptions {
    SledOptions {
        cache_capacity_bytes: u64::from(config.store.cache_mib.number()) * 1024 * 1024,
        ..SledOptions::default()
    }
}

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
fn server_key_in_environment() -> Option<zeroize::Zeroizing<String>> {
    let text = zeroize::Zeroizing::new(env::var_os(SERVER_KEY_VARIABLE)?.to_string_lossy().into_owned());
    (!text.trim().is_empty()).then_some(text)
}

fn server_keys(config: &Config) -> Result<ServerKeys, LaunchError> {
    server_keys_for(config, &config.store.path, false)
}

/// The server keys; a new one is made where none is and none was, or where the data begins anew.
fn server_keys_for(config: &Config, data: &Path, is_new: bool) -> Result<ServerKeys, LaunchError> {
    let current = match server_key_from_environment()? {
        Some(key) => key,
        None if is_new && !config.keys.file.exists() => make_key(&config.keys.file)?,
        None => server_key_beside(data, &config.keys.file)?,
    };
    let previous = config
        .keys
        .previous
        .iter()
        .map(|path| read_key(path))
        .collect::<Result<_, _>>()?;
    Ok(ServerKeys::new(current, previous))
}

/// The server key in the environment, if there is one.
fn server_key_from_environment() -> Result<Option<ServerKey>, LaunchError> {
    let Some(text) = server_key_in_environment() else {
        return Ok(None);
    };
    let key = ServerKey::parse(&text).map_err(|source| LaunchError::ServerKey {
        place: format!("in {SERVER_KEY_VARIABLE}"),
        source,
    })?;
    Ok(Some(key))
}

fn read_key(path: &Path) -> Result<ServerKey, LaunchError> {
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

/// Runs what blocks away from the async threads.
async fn blocking<T, E, F>(work: F) -> Result<T, E>
where
    F: FnOnce() -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
