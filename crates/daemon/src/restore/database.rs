//! The same in a database: a schema that was restored from a copy of PostgreSQL's own, or an empty one for a backup.

use std::{path::Path, sync::Arc};

use tessera_authority::{Restored, SetupError};
use tessera_backup::{CompleteBackup, FileError, Item};
use tessera_store::Store;
use tessera_store_postgres::{PostgresOptions, PostgresStore};
use tessera_token::{BackupKey, ServerKeys};
use tokio::sync::mpsc;

use super::anew::{check_keys, end_in, ids_of, note, open, server_key_missing};
use crate::{
    blocking::blocking,
    config::Config,
    database::{self, RECORDS_WAITING, Step, check_unserved, into_database},
    error::{BackupProblem, LaunchError},
    server_key::KeyPlaces,
    witness::{Seen, witness},
};

/// Ends everything in the database of `config`, as one commit, and begins a new log. If it is cut off in between, a
/// start is refused until it has run to its end.
pub(super) async fn begin_anew(
    config: &Config,
    server_keys: &ServerKeys,
    revoke_api_keys: bool,
) -> Result<Restored, LaunchError> {
    let options = restoring(config)?;
    let store: Arc<dyn Store> = Arc::new(PostgresStore::open(options.clone()).await?);
    let restored = end_all(&store, &options, config, server_keys, revoke_api_keys).await;
    let closed = store.close().await;
    let restored = restored?;
    closed.map_err(SetupError::from)?;
    let (log, group) = PostgresStore::begin_new_log(&options).await?;
    if let Some(witness) = witness(config) {
        // It may belong to the log before.
        witness.remove().map_err(|source| LaunchError::File {
            path: witness.path().to_owned(),
            source,
        })?;
    }
    note(config, Some(Seen::new(true, log, group)))?;
    Ok(restored)
}

async fn end_all(
    store: &Arc<dyn Store>,
    options: &PostgresOptions,
    config: &Config,
    server_keys: &ServerKeys,
    revoke_api_keys: bool,
) -> Result<Restored, LaunchError> {
    check_unserved(store.as_ref()).await?;
    let keys = store.signing_keys().await.map_err(SetupError::from)?;
    check_keys(&keys, server_keys)?;
    PostgresStore::mark_restoring(options).await?;
    Ok(end_in(store, config, server_keys, revoke_api_keys).await?)
}

/// Fills the empty schema of `config` with a backup, and starts again with it.
pub(super) async fn restore_backup(
    config: &Config,
    file: &Path,
    key: BackupKey,
    revoke_api_keys: bool,
) -> Result<(CompleteBackup, Restored), LaunchError> {
    let places = KeyPlaces::of(config);
    let at_hand = blocking(move || places.at_hand()).await?;
    let ids = ids_of(at_hand.as_ref());
    let made = read_into(config, file, key, ids.clone()).await?;
    let missing = || server_key_missing(&made.head, &ids, &config.keys.file);
    let server_keys = at_hand.as_ref().ok_or_else(missing)?;
    let restored = begin_anew(config, server_keys, revoke_api_keys).await?;
    Ok((made, restored))
}

/// Reads a backup into the schema, as one transaction.
async fn read_into(
    config: &Config,
    file: &Path,
    key: BackupKey,
    at_hand: Vec<String>,
) -> Result<CompleteBackup, LaunchError> {
    let (send, receive) = mpsc::channel(RECORDS_WAITING);
    let writing = tokio::spawn(into_database(restoring(config)?, receive));
    let (path, key_file, records) = (file.to_owned(), config.keys.file.clone(), send.clone());
    let reading = blocking(move || {
        let from = open(&path).map_err(Stopped::Problem)?;
        let read = tessera_backup::read(from, &key, |item| match item {
            Item::Head(head) if !head.server_keys.iter().any(|id| at_hand.contains(id)) => {
                Err(Stopped::Problem(server_key_missing(&head, &at_hand, &key_file)))
            }
            Item::Record(record) => records
                .blocking_send(Step::Record(Box::new(record)))
                .map_err(|_| Stopped::NotTaken),
            // Only the data after it proves that everything is as it was written.
            Item::Head(_) | Item::Tail(_) => Ok(()),
        });
        read.map_err(|stopped| match stopped {
            Stopped::File(source) => Stopped::Problem(BackupProblem::File { path, source }),
            stopped => stopped,
        })
    });
    let read = reading.await;
    if let Ok(made) = &read {
        let end = Step::End(Box::new(made.tail.end.clone()));
        // If the writer has ended, it reports the reason.
        drop(send.send(end).await);
    }
    drop(send);
    let written = writing
        .await
        .unwrap_or_else(|error| Err(database::failed(&error)));
    match read {
        Ok(made) => written.map(|_| made),
        Err(Stopped::Problem(problem)) => Err(problem.into()),
        Err(Stopped::NotTaken | Stopped::File(_)) => Err(written
            .err()
            .unwrap_or_else(|| database::failed(&"the restore was cut off"))),
    }
}

/// Why reading a backup stopped.
enum Stopped {
    File(FileError),
    Problem(BackupProblem),
    /// The writer has ended, and reports the reason.
    NotTaken,
}

impl From<FileError> for Stopped {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

fn restoring(config: &Config) -> Result<PostgresOptions, LaunchError> {
    let mut options = database::options(config)?;
    options.restores = true;
    Ok(options)
}
