//! The server key watcher keeps the server keys in step with `[keys]` of the configuration and the files that it names: by
//! looking now and then, and on SIGHUP. What can't be used changes nothing.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tessera_authority::Authority;
use tokio::{
    signal::unix::Signal,
    time::{MissedTickBehavior, interval},
};

use crate::{
    blocking::blocking, certificate_watcher::hung_up, config::Config, launch::note_end,
    server_key::read_server_keys,
};

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// Follows the files until it is dropped.
pub(crate) async fn keep(authority: Arc<Authority>, config: PathBuf, mut hangup: Option<Signal>) {
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watcher = ServerKeyWatcher {
        authority,
        config,
        refused: None,
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
    /// Why the files were refused when they were last looked at.
    refused: Option<String>,
}

impl ServerKeyWatcher {
    async fn look(&mut self, is_asked: bool) {
        match self.replace().await {
            Ok(resealed) => {
                if let Some(resealed) = resealed {
                    let key = self.authority.server_key_status().current;
                    tracing::info!(server_key = %key, signing_keys_sealed_anew = resealed, "the server keys are replaced");
                } else if self.refused.is_some() || is_asked {
                    tracing::info!("the files of [keys] have the server keys that are in use");
                }
                self.refused = None;
            }
            Err(refused) => {
                if is_asked || self.refused.as_ref() != Some(&refused) {
                    tracing::error!(error = %refused, "the server keys can't be replaced: those of before stay in use");
                }
                self.refused = Some(refused);
            }
        }
        self.authority.note_server_keys_refused(self.refused.is_some());
    }

    /// How many signing keys were sealed anew; none where the server keys are the same.
    async fn replace(&self) -> Result<Option<usize>, String> {
        let path = self.config.clone();
        let read = move || {
            let config = Config::read(&path).map_err(|error| error.to_string())?;
            let keys = read_server_keys(&config).map_err(|error| error.to_string())?;
            Ok::<_, String>((config, keys))
        };
        let (config, keys) = blocking(read).await?;
        if self.authority.has_server_keys(&keys) {
            return Ok(None);
        }
        let replaced = self.authority.replace_server_keys(keys).await;
        let replaced = replaced.map_err(|error| error.to_string())?;
        // The next start looks for it beside the key that is the current one now.
        let authority = Arc::clone(&self.authority);
        blocking(move || {
            note_end(&config, &authority);
            Ok::<_, String>(())
        })
        .await?;
        Ok(Some(replaced))
    }
}
