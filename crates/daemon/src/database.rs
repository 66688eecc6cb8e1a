//! The store in a database: connecting to it, and handling its schema.

use std::{env, path::Path, sync::Arc};

use tessera_authority::SetupError;
use tessera_core::read_small;
use tessera_store::{BackupRecord, OtherNode, Store, StoreError};
use tessera_store_postgres::{Migrate, PostgresOptions, PostgresRestore, PostgresStore};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::{
    config::{Config, PostgresConfig, PostgresUrl},
    error::LaunchError,
    surroundings::check_clock,
};

/// The variable with the connection string. It takes precedence over `[store.postgres] url`, and may have a password.
pub const POSTGRES_URL_VARIABLE: &str = "TESSERA_POSTGRES_URL";
/// How many records wait between the store that is read and the one that is written.
pub(crate) const RECORDS_WAITING: usize = 1024;

/// The connection options for the database of `config`.
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
    if let Some(url) = url_from_environment() {
        return Ok(PostgresOptions::new(&url));
    }
    let url = settings.url.as_ref().ok_or(LaunchError::NoDatabase)?;
    Ok(PostgresOptions::new(&url.0))
}

fn url_from_environment() -> Option<Zeroizing<String>> {
    let url = env::var_os(POSTGRES_URL_VARIABLE).filter(|url| !url.is_empty())?;
    Some(Zeroizing::new(url.to_string_lossy().into_owned()))
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

/// Opens the store in the database at `url`, unless the environment names another one, with the default settings.
///
/// # Errors
/// See [`LaunchError`].
pub async fn open_at(url: &PostgresUrl) -> Result<Arc<dyn Store>, LaunchError> {
    check_clock()?;
    let options = match url_from_environment() {
        Some(url) => PostgresOptions::new(&url),
        None => PostgresOptions::new(&url.0),
    };
    Ok(Arc::new(PostgresStore::open(options).await?))
}

/// Opens the store, and never changes its schema.
pub(crate) async fn open_as_it_is(mut options: PostgresOptions) -> Result<Arc<dyn Store>, LaunchError> {
    options.migrate = Migrate::Refuse;
    Ok(Arc::new(PostgresStore::open(options).await?))
}

/// Brings the schema of the database of `config` up to date. Returns its version before and now.
///
/// # Errors
/// See [`LaunchError`].
pub async fn migrate(config: &Config) -> Result<(i32, i32), LaunchError> {
    Ok(PostgresStore::migrate(options(config)?).await?)
}

/// Commits of another node in the meantime would be missing in the copy.
pub(crate) async fn check_unserved(source: &dyn Store) -> Result<(), LaunchError> {
    if serving(source).await?.is_none() {
        return Ok(());
    }
    // A node that was stopped just now is no longer seen then; one that serves is.
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

/// What the reader sends to the writer.
pub(crate) enum Step {
    Record(Box<BackupRecord>),
    End(Box<tessera_store::BackupEnd>),
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

/// The reader reports the reason.
pub(crate) fn cut_off() -> LaunchError {
    failed(&"the copy was cut off")
}

pub(crate) fn failed(error: &impl std::fmt::Display) -> LaunchError {
    LaunchError::Setup(SetupError::Store(StoreError::Failed {
        detail: error.to_string(),
    }))
}
