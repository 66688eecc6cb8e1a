//! The server key watcher keeps the server keys in step with `[keys]` of the configuration and the files that it names:
//! it checks them regularly, and on SIGHUP. Keys that can't be used change nothing.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tessera_authority::Authority;
use tokio::{
    signal::unix::Signal,
    time::{MissedTickBehavior, interval},
};
use zeroize::Zeroizing;

use crate::{
    blocking::blocking, certificate_watcher::hung_up, config::Config, launch::note_end, server_key::KeyPlaces,
};

/// How often the files are checked.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// Follows the files until it is dropped.
pub(crate) async fn keep(authority: Arc<Authority>, config: PathBuf, mut hangup: Option<Signal>) {
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watcher = ServerKeyWatcher {
        authority,
        config,
        refused: None,
        tried: None,
    };
    loop {
        let is_asked = tokio::select! {
            () = hung_up(&mut hangup) => true,
            _ = looks.tick() => false,
        };
        watcher.look(is_asked).await;
    }
}

struct ServerKeyWatcher {
    authority: Arc<Authority>,
    config: PathBuf,
    /// Why the files were refused at the last check.
    refused: Option<String>,
    /// The sealed keys that were opened last. The sealer is not used again for the same keys.
    tried: Option<Tried>,
}

/// The result of opening sealed keys.
struct Tried {
    /// Everything that determines it: see `KeptKeys::inputs`.
    inputs: Zeroizing<String>,
    /// Why they did not open.
    refused: Option<String>,
}

/// The result of a check.
enum Looked {
    /// The server keys are already in use.
    InUse,
    /// They replaced the previous ones; how many signing keys were sealed again.
    Replaced(usize),
}

impl ServerKeyWatcher {
    async fn look(&mut self, is_asked: bool) {
        match self.replace(is_asked).await {
            Ok(looked) => {
                if let Looked::Replaced(resealed) = looked {
                    let key = self.authority.signing_keys().server_key_status().current;
                    tracing::info!(server_key = %key, signing_keys_sealed_anew = resealed, "the server keys are replaced");
                } else if self.refused.is_some() || is_asked {
                    tracing::info!("the files of [keys] have the server keys that are in use");
                }
                self.refused = None;
            }
            Err(refused) => {
                if is_asked || self.refused.as_ref() != Some(&refused) {
                    tracing::error!(error = %refused, "the server keys can't be replaced: the old keys stay in use");
                }
                self.refused = Some(refused);
            }
        }
        self.authority
            .signing_keys()
            .note_server_keys_refused(self.refused.is_some());
    }

    async fn replace(&mut self, is_asked: bool) -> Result<Looked, String> {
        let path = self.config.clone();
        let read = move || {
            let config = Config::read(&path).map_err(|error| error.to_string())?;
            let kept = KeyPlaces::of(&config).kept().map_err(|error| error.to_string())?;
            Ok::<_, String>((config, kept))
        };
        let (config, kept) = blocking(read).await?;
        let sealed = kept.sealed_ids().map(|ids| (ids, kept.inputs()));
        if let Some((ids, inputs)) = sealed.as_ref().filter(|_| !is_asked) {
            self.note_first(ids, inputs);
            let tried = self.tried.as_ref().filter(|tried| tried.inputs == *inputs);
            if let Some(tried) = tried {
                return tried.refused.clone().map_or(Ok(Looked::InUse), Err);
            }
        }
        let opened = blocking(move || kept.open().map_err(|error| error.to_string())).await;
        self.tried = sealed.map(|(_, inputs)| Tried {
            inputs,
            refused: opened.as_ref().err().cloned(),
        });
        let keys = opened?;
        if self.authority.signing_keys().has_server_keys(&keys) {
            return Ok(Looked::InUse);
        }
        let replaced = self.authority.signing_keys().replace_server_keys(keys).await;
        let replaced = replaced.map_err(|error| {
            // The failure may be temporary.
            self.tried = None;
            error.to_string()
        })?;
        // The next start searches for it beside the current key.
        let authority = Arc::clone(&self.authority);
        blocking(move || {
            note_end(&config, &authority);
            Ok::<_, String>(())
        })
        .await?;
        Ok(Looked::Replaced(replaced))
    }

    /// The first check finds the keys of the start. An HSM is used only if something changes, and not every ten
    /// seconds: it may be disconnected, and a wrong PIN must not be retried automatically.
    fn note_first(&mut self, ids: &[String], inputs: &Zeroizing<String>) {
        let ids = ids.iter().map(String::as_str);
        if self.tried.is_none() && self.authority.signing_keys().has_server_keys_of(ids) {
            self.tried = Some(Tried {
                inputs: inputs.clone(),
                refused: None,
            });
        }
    }
}
