//! The store in a database: how it is reached, and what is done with its schema.

use std::{env, ops::ControlFlow, path::Path, sync::Arc};

use tessera_authority::SetupError;
use tessera_core::{LogId, read_small};
use tessera_store::{BackupRecord, OtherNode, Store, StoreError};
use tessera_store_postgres::{Migrate, PostgresOptions, PostgresRestore, PostgresStore};
use tessera_store_sled::{SledRestore, SledStore};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::{
    blocking::blocking,
    config::{Config, Engine, PostgresConfig},
    data_directory::{has_data, store_options},
    error::LaunchError,
    witness::{Seen, witness},
};

/// The variable with the connection string, which takes precedence over `[store.postgres] url`, and may have a password.
pub const POSTGRES_URL_VARIABLE: &str = "TESSERA_POSTGRES_URL";
/// How many records wait between the store that is read and the one that is written.
pub(crate) const RECORDS_WAITING: usize = 1024;

/// What was copied.
#[derive(Clone, Copy, Debug)]
pub struct Copied {
    /// How many records.
    pub records: u64,
    /// The position of the log that the copy has.
    pub position: u64,
}

/// How the database of `config` is reached.
pub(crate) fn options(config: &Config) -> Result<PostgresOptions, LaunchError> {
    let settings = config.store.postgres.as_ref().ok_or(LaunchError::NoDatabase)?;
    let mut options = url(settings)?;
    options.schema.clone_from(&settings.schema);
    options.durability = settings.durability.into();
    options.migrate = settings.migrate.into();
    if let Some(file) = &settings.password_file {
        let password = Zeroizing::new(String::from_utf8_lossy(&read(file)?).trim_end().to_owned());
        options.set_password(&password);
    }
    if let Some(file) = &settings.ca {
        options.roots = Some(read(file)?);
    }
    if let Some(node) = &settings.node {
        options.node.clone_from(node);
    }
    Ok(options)
}

fn url(settings: &PostgresConfig) -> Result<PostgresOptions, LaunchError> {
    let from_environment = env::var_os(POSTGRES_URL_VARIABLE).filter(|url| !url.is_empty());
    if let Some(url) = from_environment {
        return Ok(PostgresOptions::new(&Zeroizing::new(
            url.to_string_lossy().into_owned(),
        )));
    }
    let url = settings.url.as_ref().ok_or(LaunchError::NoDatabase)?;
    Ok(PostgresOptions::new(&url.0))
}

fn read(path: &Path) -> Result<Vec<u8>, LaunchError> {
    read_small(path).map_err(|source| LaunchError::File {
        path: path.to_owned(),
        source,
    })
}

/// Opens the store in the database of `config`.
pub(crate) async fn open(config: &Config) -> Result<Arc<dyn Store>, LaunchError> {
    Ok(Arc::new(PostgresStore::open(options(config)?).await?))
}

/// Opens the store, and never changes its schema.
pub(crate) async fn open_as_it_is(mut options: PostgresOptions) -> Result<Arc<dyn Store>, LaunchError> {
    options.migrate = Migrate::Refuse;
    Ok(Arc::new(PostgresStore::open(options).await?))
}

/// Brings the schema of the database of `config` up to date. Answers its version before and now.
///
/// # Errors
/// See [`LaunchError`].
pub async fn migrate(config: &Config) -> Result<(i32, i32), LaunchError> {
    Ok(PostgresStore::migrate(options(config)?).await?)
}

/// Copies everything from the store of one configuration into that of another, which is empty: sessions, keys, the log with
/// its name, and the audit trail with its links, so that tokens, cursors and checkpoints go on. Nobody may serve either.
///
/// # Errors
/// See [`LaunchError`]: what is copied into stays empty where it fails.
pub async fn copy(from: &Config, to: &Config) -> Result<Copied, LaunchError> {
    let source = source(from).await?;
    if let Err(error) = check_unserved(source.as_ref()).await {
        source.close().await.map_err(SetupError::from)?;
        return Err(error);
    }
    let (send, receive) = mpsc::channel(RECORDS_WAITING);
    let writing = match to.store.engine {
        Engine::Postgres => tokio::spawn(into_database(options(to)?, receive)),
        Engine::Sled => {
            let (path, options) = (to.store.path.clone(), store_options(to));
            if has_data(&path) {
                return Err(LaunchError::NotEmpty { path });
            }
            let restoring = tokio::task::spawn_blocking(move || into_directory(&path, &options, receive));
            tokio::spawn(async move { restoring.await.unwrap_or_else(|error| Err(failed(&error))) })
        }
    };
    let records = send.clone();
    let show = move |record| match records.blocking_send(Step::Record(Box::new(record))) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    };
    let read = source.back_up(Box::new(show)).await;
    let position = match read {
        Ok(end) => {
            let position = (end.log, end.last.0);
            // Whoever writes says why it ended, where it has.
            drop(send.send(Step::End(Box::new(end))).await);
            Ok(position)
        }
        Err(error) => Err(LaunchError::Copy(error)),
    };
    drop(send);
    let written = writing.await.unwrap_or_else(|error| Err(failed(&error)));
    source.close().await.map_err(SetupError::from)?;
    match (position, written) {
        (Ok((log, position)), Ok(records)) => {
            note_copy(to, log)?;
            Ok(Copied { records, position })
        }
        (_, Err(error)) | (Err(error), Ok(_)) => Err(error),
    }
}

/// What another node commits meanwhile would not be in the copy.
pub(crate) async fn check_unserved(source: &dyn Store) -> Result<(), LaunchError> {
    if serving(source).await?.is_none() {
        return Ok(());
    }
    // One that was stopped just now is seen no more then; one that serves is.
    tokio::time::sleep(OtherNode::FRESH_FOR).await;
    match serving(source).await? {
        Some(node) => Err(LaunchError::Served { node }),
        None => Ok(()),
    }
}

/// The name of a node that was seen a moment ago.
async fn serving(source: &dyn Store) -> Result<Option<String>, LaunchError> {
    let others = source.other_nodes().await.map_err(SetupError::from)?;
    let mut seen = others.into_iter().filter(OtherNode::answers);
    Ok(seen.next().map(|node| node.name))
}

/// The copy is the last state from now on: its groups are counted from the first again.
fn note_copy(to: &Config, log: LogId) -> Result<(), LaunchError> {
    let Some(witness) = witness(to) else { return Ok(()) };
    let noted = witness
        .remove()
        .and_then(|()| witness.write_seen(&Seen::new(log, 1), ".new"));
    noted.map_err(|source| LaunchError::File {
        path: witness.path().to_owned(),
        source,
    })
}

/// What goes from the one that reads to the one that writes.
pub(crate) enum Step {
    Record(Box<BackupRecord>),
    End(Box<tessera_store::BackupEnd>),
}

async fn source(config: &Config) -> Result<Arc<dyn Store>, LaunchError> {
    match config.store.engine {
        Engine::Postgres => open(config).await,
        Engine::Sled => {
            let (path, options) = (config.store.path.clone(), store_options(config));
            if !has_data(&path) {
                let source = std::io::Error::new(std::io::ErrorKind::NotFound, "there is no data directory");
                return Err(LaunchError::File { path, source });
            }
            Ok(Arc::new(blocking(move || SledStore::open(&path, options)).await?))
        }
    }
}

pub(crate) async fn into_database(
    options: PostgresOptions,
    mut records: mpsc::Receiver<Step>,
) -> Result<u64, LaunchError> {
    let mut restore = PostgresRestore::begin(&options).await?;
    let mut count = 0;
    while let Some(step) = records.recv().await {
        match step {
            Step::Record(record) => {
                restore.add(*record).await.map_err(SetupError::from)?;
                count += 1;
            }
            Step::End(end) => {
                restore.finish(*end).await.map_err(SetupError::from)?;
                return Ok(count);
            }
        }
    }
    Err(cut_off())
}

fn into_directory(
    path: &Path,
    options: &tessera_store_sled::SledOptions,
    mut records: mpsc::Receiver<Step>,
) -> Result<u64, LaunchError> {
    let restore = SledRestore::begin(path, options)?;
    let written = into(restore, &mut records);
    if written.is_err() {
        // It is of no use to anybody.
        drop(std::fs::remove_dir_all(path));
    }
    written
}

fn into(mut restore: SledRestore, records: &mut mpsc::Receiver<Step>) -> Result<u64, LaunchError> {
    let mut count = 0;
    while let Some(step) = records.blocking_recv() {
        match step {
            Step::Record(record) => {
                restore.add(*record).map_err(SetupError::from)?;
                count += 1;
            }
            Step::End(end) => {
                restore.finish(*end).map_err(SetupError::from)?;
                return Ok(count);
            }
        }
    }
    Err(cut_off())
}

/// The one that reads says why.
fn cut_off() -> LaunchError {
    failed(&"the copy was cut off")
}

pub(crate) fn failed(error: &impl std::fmt::Display) -> LaunchError {
    LaunchError::Setup(SetupError::Store(StoreError::Failed {
        detail: error.to_string(),
    }))
}
