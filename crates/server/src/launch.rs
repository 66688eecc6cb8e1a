//! From a configuration to an open authority.

use std::{
    collections::BTreeMap,
    env, fs, io,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use tessera_authority::{Authority, Options, SetupError, end_everything};
use tessera_core::{Clock, LEEWAY_MAX, Realm, RealmName, Seconds, SteadyClock, SystemClock, SystemUptime};
use tessera_policy::{Policy, PolicyError};
use tessera_store::{OpenError, SledOptions, SledStore, Store};
use tessera_token::{KeyError, NoEntropy, ServerKey, ServerKeys};

use crate::config::Config;

/// The variable that goes before the key file.
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
        /// The folder.
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
    let (policy_path, store_path) = (config.policy.path.clone(), config.store.path.clone());
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
    let options = store_options(config);
    let store: Arc<dyn Store> = Arc::new(blocking(move || SledStore::open(&store_path, options)).await?);
    let realms = config.realms();
    let authority = Authority::open(Options {
        clock: clock(store.as_ref(), &realms),
        store,
        policy,
        policy_folder: Some(config.policy.path.clone()),
        realms,
        server_keys,
        verified_tokens_max: config.server.verified_tokens_max.number().into(),
        watch_stall_max: Options::WATCH_STALL_MAX,
    });
    Ok(authority.await?)
}

/// Begins anew with the data directory of `config`, which was put back from a copy, and tells how many
/// sessions ended in each realm: see [`end_everything`].
///
/// # Errors
/// See [`LaunchError`]: nothing is changed where it fails.
pub async fn restored(config: &Config) -> Result<BTreeMap<RealmName, u64>, LaunchError> {
    let (path, options) = (config.store.path.clone(), store_options(config));
    if !path.join("seal").exists() {
        // Opening would make an empty one.
        let source = io::Error::new(io::ErrorKind::NotFound, "there is no data directory");
        return Err(LaunchError::File { path, source });
    }
    let store = blocking(move || SledStore::open_restored(&path, options)).await?;
    let store: Arc<dyn Store> = Arc::new(store);
    let realms = config.realms();
    let now = clock(store.as_ref(), &realms).now();
    let ended = end_everything(&store, &realms, now).await;
    let closed = store.close().await;
    let ended = ended.and_then(|ended| closed.map(|()| ended));
    Ok(ended.map_err(SetupError::from)?)
}

/// The clock of an authority of `realms` on `store`: it goes on from what the store knows of time.
#[must_use]
pub fn clock(store: &dyn Store, realms: &[Realm]) -> Arc<dyn Clock> {
    let lives = realms.iter().map(|realm| realm.limits.access_ttl_max);
    let token_life = Seconds(lives.max().unwrap_or(Seconds::DAY).0.saturating_add(LEEWAY_MAX.0));
    let wall = Arc::new(SystemClock);
    // Of a store of an earlier version, what it swept by. That may have been a clock that was wrong.
    let swept = || store.swept_through().filter(|swept| *swept <= wall.now());
    let mark = store.times().settled.or_else(swept);
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

fn server_keys(config: &Config) -> Result<ServerKeys, LaunchError> {
    let current = match env::var(SERVER_KEY_VARIABLE) {
        Ok(text) => {
            let text = zeroize::Zeroizing::new(text);
            ServerKey::parse(&text).map_err(|source| LaunchError::ServerKey {
                place: format!("in {SERVER_KEY_VARIABLE}"),
                source,
            })?
        }
        Err(_) => server_key_beside(&config.store.path, &config.keys.file)?,
    };
    let previous = config
        .keys
        .previous
        .iter()
        .map(|path| read_key(path))
        .collect::<Result<_, _>>()?;
    Ok(ServerKeys::new(current, previous))
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
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(file_error)?;
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
