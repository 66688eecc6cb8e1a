//! The common parts of restoring into a directory and into a database.

use std::{fs::File, io::BufReader, path::Path, sync::Arc};

use tessera_authority::{Restored, Restoring, SetupError, end_everything};
use tessera_backup::BackupHead;
use tessera_core::{KeyStatus, MachineClock, SigningKey};
use tessera_store::Store;
use tessera_token::{ServerKeys, SigningKeyPair};

use crate::{
    config::Config,
    error::{BackupProblem, LaunchError},
    launch::clock,
    witness::{Seen, witness},
};

/// Ends everything in a store.
pub(super) async fn end_in(
    store: &Arc<dyn Store>,
    config: &Config,
    server_keys: &ServerKeys,
    revoke_api_keys: bool,
) -> Result<Restored, SetupError> {
    let realms = config.realms();
    let now = clock(store.as_ref(), &realms, MachineClock::Unknown).now();
    // Server keys that can't open the content of the copy would leave an authority that does not start.
    check_keys(&store.signing_keys().await?, server_keys)?;
    let restoring = Restoring {
        realms: &realms,
        server_keys,
        revoke_api_keys,
        now,
    };
    end_everything(store, &restoring).await
}

/// Records the state outside the directory.
pub(super) fn note(config: &Config, seen: Option<Seen>) -> Result<(), LaunchError> {
    let (Some(witness), Some(seen)) = (witness(config), seen) else {
        return Ok(());
    };
    let written = witness.write_seen(&seen, ".new");
    written.map_err(|source| LaunchError::File {
        path: witness.path().to_owned(),
        source,
    })
}

/// Whether the server keys open the signing keys of the copy.
pub(super) fn check_keys(keys: &[SigningKey], server_keys: &ServerKeys) -> Result<(), SetupError> {
    for key in keys.iter().filter(|key| key.status == KeyStatus::Active) {
        SigningKeyPair::unseal(key, server_keys).map_err(SetupError::WrongServerKey)?;
    }
    Ok(())
}

pub(super) fn open(path: &Path) -> Result<BufReader<File>, BackupProblem> {
    let opened = File::open(path).map_err(|source| BackupProblem::File {
        path: path.to_owned(),
        source: source.into(),
    })?;
    Ok(BufReader::with_capacity(256 * 1024, opened))
}

pub(super) fn ids_of(keys: Option<&ServerKeys>) -> Vec<String> {
    let ids = keys.map(|keys| keys.ids().map(str::to_owned).collect());
    ids.unwrap_or_default()
}

pub(super) fn server_key_missing(head: &BackupHead, at_hand: &[String], file: &Path) -> BackupProblem {
    let missing = head.server_keys.iter().filter(|id| !at_hand.contains(id));
    let missing: Vec<_> = missing.map(String::as_str).collect();
    let issuers = head.realms.iter().map(|(_, issuer)| issuer.as_str());
    BackupProblem::ServerKeyMissing {
        missing: missing.join(", "),
        file: file.to_owned(),
        at_hand: match at_hand {
            [] => "none is at hand".to_owned(),
            ids => format!("at hand is {}", ids.join(", ")),
        },
        issuers: issuers.collect::<Vec<_>>().join(", "),
    }
}
