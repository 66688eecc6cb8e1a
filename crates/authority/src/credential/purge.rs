//! Removing API keys that nothing needs any more.

use tessera_core::{ApiKey, Seconds, Timestamp};
use tessera_store::{Changes, PageRequest, SessionIndex};

use crate::{Authority, error::Unavailable};

/// How long a key that does not work any more is listed.
const DEAD_KEYS_KEPT: Seconds = Seconds::days(30);

impl Authority {
    /// Removes API keys that have been dead for long and that no session needs. `horizon` is a time that has
    /// passed for certain.
    pub(crate) async fn purge_api_keys(&self, horizon: Timestamp) -> Result<usize, Unavailable> {
        let mut purged = 0;
        for realm in self.realms.keys() {
            let mut after = None;
            loop {
                let page = self
                    .store
                    .api_keys(realm, PageRequest { after, limit: 100 })
                    .await?;
                for key in page.items {
                    let dead_since = key.dead_since(horizon);
                    let is_old = dead_since.is_some_and(|since| since.plus(DEAD_KEYS_KEPT) < horizon);
                    if is_old && !self.has_sessions_of(&key).await? {
                        let removed = Changes {
                            removed_api_keys: vec![key],
                            ..Changes::default()
                        };
                        self.store.write(removed).await?;
                        purged += 1;
                    }
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(purged)
    }

    async fn has_sessions_of(&self, key: &ApiKey) -> Result<bool, Unavailable> {
        let index = SessionIndex::Credential(key.realm.clone(), key.id.clone().into());
        let one = PageRequest {
            after: None,
            limit: 1,
        };
        Ok(!self.store.sessions(index, one).await?.items.is_empty())
    }
}
