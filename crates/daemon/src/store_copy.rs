//! Copying a whole store to another one: from a data directory to a database, and back.

use std::{io, ops::ControlFlow, path::Path, sync::Arc};

use tessera_authority::{SetupError, check_signing_keys};
use tessera_core::{Clock, LogId, SystemClock};
use tessera_store::Store;
use tessera_store_sled::{SledOptions, SledRestore, StartProgress};
use tokio::sync::mpsc;

use crate::{
    blocking::blocking,
    config::{Config, Engine},
    data_directory::{has_data, store_options},
    database::{self, RECORDS_WAITING, Step, check_unserved, cut_off, failed, into_database},
    error::LaunchError,
    launch::{Opening, open_database},
    server_key::KeyPlaces,
    unfinished::Unfinished,
    witness::{Seen, witness},
};

/// The result of a copy.
#[derive(Clone, Copy, Debug)]
pub struct Copied {
    /// How many records.
    pub records: u64,
    /// The position of the log in the copy.
    pub position: u64,
}

/// Copies everything from the store of one configuration to the empty store of another: sessions, keys, the log with
/// its name, and the audit trail with its links, so that tokens, cursors and checkpoints stay valid. No node may serve
/// either store.
///
/// The witness of the source must not contradict it: in an older copy, credentials that were revoked since would be
/// valid.
///
/// # Errors
/// See [`LaunchError`]: the target stays empty if it fails.
pub async fn copy(from: &Config, to: &Config) -> Result<Copied, LaunchError> {
    if !to.store.is_shared() && has_data(&to.store.path) {
        let path = to.store.path.clone();
        return Err(LaunchError::NotEmpty { path });
    }
    let source = source(from).await?;
    let first = first_group(source.health().group);
    if let Err(error) = check_source(source.as_ref(), to).await {
        source.close().await.map_err(SetupError::from)?;
        return Err(error);
    }
    let (send, receive) = mpsc::channel(RECORDS_WAITING);
    let writing = match to.store.engine {
        Engine::Postgres => tokio::spawn(into_database(database::options(to)?, receive)),
        Engine::Sled => {
            let (path, options) = (to.store.path.clone(), store_options(to));
            let restoring =
                tokio::task::spawn_blocking(move || into_directory(&path, &options, first, receive));
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
            // If the writer has ended, it reports the reason.
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
            note_copy(to, log, first)?;
            Ok(Copied { records, position })
        }
        (_, Err(error)) | (Err(error), Ok(_)) => Err(error),
    }
}

/// Checks that no node serves it, and that the server keys of the other configuration open its signing keys, if there
/// are any yet.
async fn check_source(source: &dyn Store, to: &Config) -> Result<(), LaunchError> {
    check_unserved(source).await?;
    let places = KeyPlaces::of(to);
    let at_hand = blocking(move || places.at_hand()).await?;
    let records = source.signing_keys().await.map_err(SetupError::from)?;
    match at_hand {
        Some(keys) => Ok(check_signing_keys(&records, &to.realms(), &keys)?),
        None => Ok(()),
    }
}

/// The first group number of a target directory. It is higher than those of the source, and of each directory that this
/// store was in before: those of a database count from one, and no store has committed a group each millisecond
/// since 1970.
fn first_group(of_source: Option<u64>) -> u64 {
    let now = u64::try_from(SystemClock.now().as_millis()).unwrap_or(0);
    of_source.unwrap_or(0).saturating_add(1).max(now)
}

async fn source(config: &Config) -> Result<Arc<dyn Store>, LaunchError> {
    let witness = witness(config);
    if config.store.is_shared() {
        return open_database(config, witness.as_ref()).await;
    }
    let data = &config.store.path;
    if !has_data(data) {
        let source = io::Error::new(io::ErrorKind::NotFound, "there is no data directory");
        return Err(LaunchError::File {
            path: data.clone(),
            source,
        });
    }
    let opening = Opening {
        data,
        witness: witness.as_ref(),
        options: store_options(config),
        progress: &StartProgress::default(),
    };
    opening.open(|_| Ok(())).await
}

/// From now on the copy is the latest state, and the source an older one. A directory continues the group numbers of
/// the source; a database counts from the first, and its witness belongs to a database.
fn note_copy(to: &Config, log: LogId, first: u64) -> Result<(), LaunchError> {
    let Some(witness) = witness(to) else { return Ok(()) };
    let group = if to.store.is_shared() { 1 } else { first };
    let noted = witness
        .remove()
        .and_then(|()| witness.write_seen(&Seen::new(to.store.is_shared(), log, group), ".new"));
    noted.map_err(|source| LaunchError::File {
        path: witness.path().to_owned(),
        source,
    })
}

fn into_directory(
    path: &Path,
    options: &SledOptions,
    first: u64,
    mut records: mpsc::Receiver<Step>,
) -> Result<u64, LaunchError> {
    let unfinished = Unfinished::at(path)?;
    let restore = SledRestore::begin(unfinished.path(), options)?.counting_from(first);
    let written = into(restore, &mut records)?;
    unfinished.becomes(path)?;
    Ok(written)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::witness::Witness;

    /// A copy that was cut off leaves an empty directory.
    #[tokio::test]
    async fn a_directory_that_was_begun_and_is_empty_is_not_a_new_one() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let witness = Witness::beside(&directory.path().join("server.key"));
        let log = LogId::from_bytes([1; 16]);
        witness.write_seen(&Seen::new(false, log, 3), ".new").unwrap();
        drop(SledRestore::begin(&data, &SledOptions::default()).unwrap());
        let open = async || {
            let opening = Opening {
                data: &data,
                witness: Some(&witness),
                options: SledOptions::default(),
                progress: &StartProgress::default(),
            };
            opening.open(|_| Ok(())).await
        };
        assert!(matches!(open().await, Err(LaunchError::DataMissing { .. })));
        witness.remove().unwrap();
        open().await.unwrap().close().await.unwrap();
    }

    fn again_group() -> u64 {
        first_group(None).saturating_add(1_000_000)
    }

    /// With any number of groups: those of the database are counted from the beginning.
    #[test]
    fn a_directory_that_was_copied_into_a_database_is_another_store() {
        let log = LogId::from_bytes([1; 16]);
        let (directory, database) = (Seen::new(false, log, 72), Seen::new(true, log, 1));
        assert!(directory.is_older_or_other(&database) && database.is_older_or_other(&directory));
        // Back in a directory, its number is higher than the first one, and than that of a source that was copied just
        // now.
        let again = Seen::new(false, log, first_group(Some(6)));
        assert!(directory.is_older_or_other(&again) && !again.is_older_or_other(&directory));
        assert!(first_group(Some(again_group())) > again_group());
    }
}
