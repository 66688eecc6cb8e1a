//! From a configuration to an open authority.

use std::{io, path::Path, sync::Arc};

use tessera_authority::{Authority, Options, SetupError, check_realms, check_signing_keys};
use tessera_core::{
    Clock, LEEWAY_MAX, LastTimes, MachineClock, Realm, Seconds, SigningKey, SteadyClock, SystemClock,
    SystemUptime,
};
use tessera_policy::Policy;
use tessera_store::Store;
use tessera_store_sled::{SledOptions, SledStore, StartProgress};

use crate::{
    blocking::blocking,
    config::{Config, Engine},
    data_directory::{has_data, store_options},
    database,
    error::{BackupProblem, LaunchError},
    server_key::KeyPlaces,
    surroundings::{check_clock, check_place},
    unfinished::left_beside,
    witness::{Seen, Witness, witness},
};

/// Opens everything that `config` names, with the operator's statement on the machine's clock. `progress` reports how
/// far it is.
///
/// # Errors
/// See [`LaunchError`].
pub async fn open(
    config: &Config,
    machine_clock: MachineClock,
    progress: &StartProgress,
) -> Result<Arc<Authority>, LaunchError> {
    check_clock()?;
    check_place(config)?;
    let policy_path = config.policy.path.clone();
    // Settings that operators often mistype are checked cheaply before the data directory is touched.
    let policy = blocking({
        let path = policy_path.clone();
        move || Policy::load(&path)
    })
    .await
    .map_err(|source| LaunchError::Policy {
        path: policy_path,
        source,
    })?;
    let realms = config.realms();
    check_realms(realms.clone(), &policy)?;
    let places = KeyPlaces::of(config);
    let server_keys = Arc::new(blocking(move || places.for_start()).await?);
    let witness = witness(config);
    let opening = Opening {
        data: &config.store.path,
        witness: witness.as_ref(),
        options: store_options(config),
        progress,
    };
    let store = match config.store.engine {
        Engine::Sled => {
            let (realms, server_keys) = (realms.clone(), Arc::clone(&server_keys));
            let opens = move |keys: &[SigningKey]| check_signing_keys(keys, &realms, &server_keys);
            opening.open(opens).await?
        }
        Engine::Postgres => open_database(config, witness.as_ref()).await?,
    };
    let authority = Authority::open(Options {
        clock: clock(store.as_ref(), &realms, machine_clock),
        store: Arc::clone(&store),
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
    let authority = authority.await?;
    if let Some(witness) = witness {
        witness.start(&store);
    }
    Ok(authority)
}

/// Makes an empty data directory where there was one before.
///
/// # Errors
/// Fails if one exists.
pub async fn init(config: &Config) -> Result<(), LaunchError> {
    check_place(config)?;
    if config.store.is_shared() {
        return Err(LaunchError::NotForDatabase {
            command: "tessera store init",
            instead: "name another schema or database in [store.postgres]",
        });
    }
    let path = config.store.path.clone();
    if has_data(&path) {
        return Err(LaunchError::NotEmpty { path });
    }
    // It has its own key: made now, or the one of the previous directory.
    let places = KeyPlaces::of(config);
    blocking(move || places.for_data(true)).await?;
    let witness = witness(config);
    if let Some(witness) = &witness {
        witness.remove().map_err(|source| LaunchError::File {
            path: witness.path().to_owned(),
            source,
        })?;
    }
    let opening = Opening {
        data: &path,
        witness: None,
        options: store_options(config),
        progress: &StartProgress::default(),
    };
    let store = opening.open(|_| Ok(())).await?;
    if let Some(witness) = witness {
        // If it can't be written, the server logs that at its start.
        drop(witness.write(store.as_ref()));
    }
    Ok(store.close().await.map_err(SetupError::from)?)
}

/// Frees the space of removed data; see [`SledStore::compact`].
///
/// # Errors
/// See [`LaunchError`]: if it fails, the directory is unchanged.
pub async fn compact(config: &Config) -> Result<(u64, u64), LaunchError> {
    check_place(config)?;
    if config.store.is_shared() {
        return Err(LaunchError::NotForDatabase {
            command: "tessera store compact",
            instead: "PostgreSQL gives back space by itself (autovacuum)",
        });
    }
    let (path, options) = (config.store.path.clone(), store_options(config));
    if !has_data(&path) {
        let source = io::Error::new(io::ErrorKind::NotFound, "there is no data directory");
        return Err(LaunchError::File { path, source });
    }
    Ok(blocking(move || SledStore::compact(&path, options)).await?)
}

/// Opens the store in `data`, unless the witness beside the server key says that it is not the latest one, or `opens`
/// refuses its signing keys.
///
/// # Errors
/// See [`LaunchError`].
pub async fn open_data(
    data: &Path,
    key: &Path,
    opens: impl FnOnce(&[SigningKey]) -> Result<(), SetupError> + Send + 'static,
) -> Result<Arc<dyn Store>, LaunchError> {
    check_clock()?;
    let witness = Witness::beside(key);
    let opening = Opening {
        data,
        witness: Some(&witness),
        options: SledOptions::default(),
        progress: &StartProgress::default(),
    };
    let store = opening.open(opens).await?;
    witness.start(&store);
    Ok(store)
}

/// Records the final state of a closed authority, beside the key of `config`.
pub fn note_end(config: &Config, authority: &Authority) {
    if let Some(witness) = witness(config) {
        note_end_in(&witness, config.store.is_shared(), authority);
    }
}

/// The same, beside this key.
pub fn note_end_beside(key: &Path, authority: &Authority) {
    note_end_in(&Witness::beside(key), false, authority);
}

/// Without it, a restored older copy may go unnoticed; there is no other effect.
fn note_end_in(witness: &Witness, is_shared: bool, authority: &Authority) {
    let Some(group) = authority.group() else { return };
    let seen = Seen::new(is_shared, authority.position().log, group);
    if let Err(error) = witness.write_seen(&seen, ".end") {
        tracing::debug!(path = %witness.path().display(), %error, "no witness can be written");
    }
}

/// Opens the store in the database, unless this node has seen a later state of it: an older copy was restored, or a
/// failover lost commits.
pub(crate) async fn open_database(
    config: &Config,
    witness: Option<&Witness>,
) -> Result<Arc<dyn Store>, LaunchError> {
    let seen = read_witness(witness).await?;
    let store = database::open(config).await?;
    let Some(witness) = witness else {
        return Ok(store);
    };
    if seen.is_some_and(|seen| Witness::contradicts(&seen, store.as_ref())) {
        store.close().await.map_err(SetupError::from)?;
        return Err(LaunchError::DatabaseWentBack {
            witness: witness.path().to_owned(),
        });
    }
    Ok(store)
}

/// The state that the witness has seen, if there is a witness.
pub(crate) async fn read_witness(witness: Option<&Witness>) -> Result<Option<Seen>, LaunchError> {
    let Some(witness) = witness.cloned() else {
        return Ok(None);
    };
    blocking(move || {
        witness.read().map_err(|source| LaunchError::Witness {
            witness: witness.path().to_owned(),
            source,
        })
    })
    .await
}

/// The options for opening a data directory.
pub(crate) struct Opening<'a> {
    pub(crate) data: &'a Path,
    pub(crate) witness: Option<&'a Witness>,
    pub(crate) options: SledOptions,
    pub(crate) progress: &'a StartProgress,
}

impl Opening<'_> {
    /// Opens it, unless the witness says that it is not the latest one, or its signing keys are refused: then it stays
    /// unchanged.
    pub(crate) async fn open(
        self,
        opens: impl FnOnce(&[SigningKey]) -> Result<(), SetupError> + Send + 'static,
    ) -> Result<Arc<dyn Store>, LaunchError> {
        let data = self.data.to_owned();
        let seen = seen_of(&data, self.witness).await?;
        if let Some(witness) = self.witness.filter(|_| seen.is_none() && has_data(&data)) {
            tracing::warn!(
                path = %witness.path().display(),
                "there is no witness beside the server key, and nothing else tells an older copy: if the data directory was restored from one, stop, and run `tessera restore`"
            );
        }
        let witness = self.witness.map_or(Path::new(""), Witness::path).to_owned();
        let (options, progress) = (self.options, self.progress.clone());
        let store = blocking(move || {
            SledStore::open_checked(&data, options, &progress, |found| {
                let Some(found) = found else {
                    // It was made and is empty: the state that was seen is missing.
                    let missing = LaunchError::DataMissing {
                        data: data.clone(),
                        witness,
                    };
                    return if seen.is_some() { Err(missing) } else { Ok(()) };
                };
                let now = Seen::new(false, found.log, found.group);
                if seen.is_some_and(|seen| now.is_older_or_other(&seen)) {
                    let data = data.clone();
                    return Err(LaunchError::RolledBack { data, witness });
                }
                Ok(opens(&found.signing_keys)?)
            })
        });
        Ok(Arc::new(store.await??))
    }
}

/// What the witness has seen of a data directory. If the directory does not exist, but was seen, or was about to be
/// restored, it is refused: otherwise a new one would be served instead.
pub(crate) async fn seen_of(data: &Path, witness: Option<&Witness>) -> Result<Option<Seen>, LaunchError> {
    let seen = read_witness(witness).await?;
    if let Some(path) = left_beside(data).filter(|_| !has_data(data)) {
        return Err(BackupProblem::CutOff { path }.into());
    }
    match witness {
        Some(witness) if seen.is_some() && !has_data(data) => Err(LaunchError::DataMissing {
            data: data.to_owned(),
            witness: witness.path().to_owned(),
        }),
        _ => Ok(seen),
    }
}

/// The clock of an authority of `realms` on `store`: it continues from the time that the store knows.
#[must_use]
pub fn clock(store: &dyn Store, realms: &[Realm], machine_clock: MachineClock) -> Arc<dyn Clock> {
    let lives = realms.iter().map(|realm| realm.limits.access_ttl_max);
    let token_life = Seconds(lives.max().unwrap_or(Seconds::DAY).0.saturating_add(LEEWAY_MAX.0));
    let times = store.log().times();
    let last = times.alive.map(|now| LastTimes {
        now,
        settled: times.settled.unwrap_or(now).min(now),
    });
    Arc::new(SteadyClock::resume(
        Arc::new(SystemClock),
        Arc::new(SystemUptime),
        last,
        machine_clock,
        token_life,
    ))
}
