//! Starting again with an older state: a data directory that was copied, or one that is made from a backup.

mod anew;
mod database;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use tessera_authority::{Restored, SetupError};
use tessera_backup::{BackupHead, CompleteBackup, FileError, Item};
use tessera_core::RealmName;
use tessera_store::{BackupRecord, Store, StoreError};
use tessera_store_sled::{SledOptions, SledRestore, SledStore};
use tessera_token::{BackupKey, ServerKeys};

use self::anew::{end_in, ids_of, note, open, server_key_missing};
use crate::{
    blocking::blocking,
    config::Config,
    data_directory::{is_in_use, store_options},
    error::{BackupProblem, LaunchError},
    server_key::KeyPlaces,
    surroundings::{check_clock, check_place},
    unfinished::Unfinished,
    witness::Seen,
};

/// A backup that was restored.
#[derive(Debug)]
pub struct RestoredBackup {
    /// The content of the backup.
    pub made: CompleteBackup,
    /// The result of the restore.
    pub restored: Restored,
}

/// Starts again with the data directory of `config`, or with its database, which was restored from a copy: see
/// [`end_everything`](tessera_authority::end_everything).
///
/// # Errors
/// See [`LaunchError`]: nothing is changed if it fails.
pub async fn restore_copy(config: &Config, revoke_api_keys: bool) -> Result<Restored, LaunchError> {
    check_clock()?;
    check_place(config)?;
    if config.store.is_shared() {
        let places = KeyPlaces::of(config);
        let server_keys = blocking(move || places.for_start()).await?;
        return database::begin_anew(config, &server_keys, revoke_api_keys).await;
    }
    let path = config.store.path.clone();
    if !path.join("seal").exists() {
        // Opening would make an empty one.
        let source = io::Error::new(io::ErrorKind::NotFound, "there is no data directory");
        return Err(LaunchError::File { path, source });
    }
    let places = KeyPlaces::of(config);
    let server_keys = blocking(move || places.for_start()).await?;
    let (restored, seen) = begin_anew(config, &path, &server_keys, revoke_api_keys).await?;
    note(config, seen)?;
    Ok(restored)
}

/// Reads a complete backup, and changes nothing.
///
/// # Errors
/// See [`BackupProblem`].
pub async fn verify_backup(file: &Path, key: BackupKey) -> Result<CompleteBackup, LaunchError> {
    let path = file.to_owned();
    let read = blocking(move || {
        let from = open(&path)?;
        let read = tessera_backup::read(from, &key, |_| Ok::<_, FileError>(()));
        read.map_err(|source| BackupProblem::File { path, source })
    });
    Ok(read.await?)
}

/// Makes the data directory of `config` from a backup, or fills the empty schema of its database, and starts again with
/// it: see [`end_everything`](tessera_authority::end_everything). The directory appears once that is done, and no node
/// serves the schema before.
///
/// # Errors
/// See [`LaunchError`]: there is no data directory if it fails.
pub async fn restore_backup(
    config: &Config,
    file: &Path,
    key: BackupKey,
    revoke_api_keys: bool,
) -> Result<RestoredBackup, LaunchError> {
    check_clock()?;
    check_place(config)?;
    if config.store.is_shared() {
        let restored = database::restore_backup(config, file, key, revoke_api_keys).await;
        return restored.map(|(made, restored)| RestoredBackup { made, restored });
    }
    let path = config.store.path.clone();
    check_empty(&path)?;
    let unfinished = Unfinished::at(&path)?;
    let places = KeyPlaces::of(config);
    let at_hand = blocking(move || places.at_hand()).await?;
    let ids = at_hand
        .as_ref()
        .map(|keys| keys.ids().map(str::to_owned).collect());
    let reading = Reading {
        file: file.to_owned(),
        key,
        into: unfinished.path().to_owned(),
        options: store_options(config),
        key_file: config.keys.file.clone(),
        at_hand: ids.unwrap_or_default(),
        issuers: config
            .realms
            .iter()
            .map(|(name, realm)| (name.clone(), realm.issuer.clone()))
            .collect(),
    };
    let key_file = reading.key_file.clone();
    let made = blocking(move || reading.read()).await?;
    let missing = || server_key_missing(&made.head, &ids_of(at_hand.as_ref()), &key_file);
    let server_keys = at_hand.as_ref().ok_or_else(missing)?;
    let anew = begin_anew(config, unfinished.path(), server_keys, revoke_api_keys).await;
    let (restored, seen) = match anew {
        Err(LaunchError::Setup(SetupError::WrongServerKey(_))) => return Err(missing().into()),
        anew => anew?,
    };
    unfinished.becomes(&path)?;
    note(config, seen)?;
    Ok(RestoredBackup { made, restored })
}

/// Ends everything in a directory, as one commit of a new log. Returns the state of the directory from then on.
async fn begin_anew(
    config: &Config,
    path: &Path,
    server_keys: &ServerKeys,
    revoke_api_keys: bool,
) -> Result<(Restored, Option<Seen>), LaunchError> {
    let (path, options) = (path.to_owned(), store_options(config));
    let store = blocking(move || SledStore::open_restored(&path, options)).await?;
    let store: Arc<dyn Store> = Arc::new(store);
    let restored = end_in(&store, config, server_keys, revoke_api_keys).await;
    let seen = Seen::of(store.as_ref());
    let closed = store.close().await;
    let restored = restored?;
    closed.map_err(SetupError::from)?;
    Ok((restored, seen))
}

/// Reading a backup into a directory.
struct Reading {
    file: PathBuf,
    key: BackupKey,
    into: PathBuf,
    options: SledOptions,
    key_file: PathBuf,
    /// The ids of the available server keys.
    at_hand: Vec<String>,
    /// The issuers of the configuration.
    issuers: BTreeMap<RealmName, String>,
}

/// Why reading fails.
enum ReadError {
    File(FileError),
    Launch(LaunchError),
}

impl From<FileError> for ReadError {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> Self {
        Self::Launch(SetupError::from(error).into())
    }
}

impl Reading {
    fn read(self) -> Result<CompleteBackup, LaunchError> {
        let from = open(&self.file)?;
        let mut restore = None;
        let read = tessera_backup::read(from, &self.key, |item| match item {
            Item::Head(head) => {
                self.check_server_keys(&head).map_err(ReadError::Launch)?;
                self.check_issuers(&head).map_err(ReadError::Launch)?;
                let begun = SledRestore::begin(&self.into, &self.options);
                restore = Some(begun.map_err(|error| ReadError::Launch(error.into()))?);
                Ok(())
            }
            Item::Record(record) => add(restore.as_mut(), record),
            // Only the data after it proves that everything is as it was written.
            Item::Tail(_) => Ok(()),
        });
        let made = read.map_err(|error| match error {
            ReadError::File(source) => LaunchError::from(BackupProblem::File {
                path: self.file.clone(),
                source,
            }),
            ReadError::Launch(error) => error,
        })?;
        if let Some(restore) = restore {
            let finished = restore.finish(made.tail.end.clone());
            finished.map_err(SetupError::from)?;
        }
        Ok(made)
    }

    /// Fails before anything is written if none of the backup's server keys is available.
    fn check_server_keys(&self, head: &BackupHead) -> Result<(), LaunchError> {
        if head.server_keys.iter().any(|id| self.at_hand.contains(id)) {
            return Ok(());
        }
        Err(server_key_missing(head, &self.at_hand, &self.key_file).into())
    }

    /// Fails before anything is written if a realm has another issuer here: the tokens of the restored sessions name the
    /// old one, and it is likely the backup of another authority.
    fn check_issuers(&self, head: &BackupHead) -> Result<(), LaunchError> {
        for (realm, backup) in &head.realms {
            if let Some(configured) = self.issuers.get(realm).filter(|configured| *configured != backup) {
                let (backup, configured) = (backup.clone(), configured.clone());
                return Err(BackupProblem::OtherIssuer { backup, configured }.into());
            }
        }
        Ok(())
    }
}

fn add(restore: Option<&mut SledRestore>, record: BackupRecord) -> Result<(), ReadError> {
    match restore {
        Some(restore) => Ok(restore.add(record)?),
        None => Ok(()),
    }
}

/// Existing files are not touched.
fn check_empty(path: &Path) -> Result<(), LaunchError> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|source| LaunchError::File {
            path: path.to_owned(),
            source,
        })?,
    };
    if entries.count() == 0 {
        return Ok(());
    }
    if is_in_use(path) {
        return Err(BackupProblem::InUse {
            path: path.to_owned(),
        }
        .into());
    }
    Err(BackupProblem::NotEmpty {
        path: path.to_owned(),
    }
    .into())
}
