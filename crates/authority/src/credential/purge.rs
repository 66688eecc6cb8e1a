//! Removing API keys that are no longer needed.

use tessera_core::{ApiKey, RealmName, Seconds, Timestamp};
use tessera_store::{Changes, PageRequest, Reads, SessionIndex};

use crate::{credential::credentials::Credentials, error::Unavailable};

/// How long a key that no longer works is listed.
const DEAD_KEYS_KEPT: Seconds = Seconds::days(30);

impl Credentials {
    /// Removes API keys that ended long ago, that no session needs, and that have no remaining descendant: revoking a
    /// key ends its descendants. `horizon` is a time that has certainly passed.
    pub(crate) async fn purge_api_keys(&self, horizon: Timestamp) -> Result<usize, Unavailable> {
        let mut purged = 0;
        loop {
            let mut removed = 0;
            for realm in self.shared.realms.keys() {
                removed += self.purge_api_keys_of(realm, horizon).await?;
            }
            if removed == 0 {
                return Ok(purged);
            }
            // The keys from which they descend may no longer be needed.
            purged += removed;
        }
    }

    async fn purge_api_keys_of(&self, realm: &RealmName, horizon: Timestamp) -> Result<usize, Unavailable> {
        let (mut removed, mut after) = (0, None);
        loop {
            let page = PageRequest { after, limit: 100 };
            let page = self.shared.store.api_keys(realm, page).await?;
            for key in page.items {
                let dead_since = key.dead_since(horizon);
                let is_old = dead_since.is_some_and(|since| since.plus(DEAD_KEYS_KEPT) < horizon);
                if is_old && !self.is_needed(&key).await? {
                    let changes = Changes {
                        removed_api_keys: vec![key],
                        ..Changes::default()
                    };
                    self.shared.store.write(changes).await?;
                    removed += 1;
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(removed);
            }
        }
    }

    async fn is_needed(&self, key: &ApiKey) -> Result<bool, Unavailable> {
        let reads = Reads::default().made_with([key.id]).api_keys(key.successor);
        let state = self.shared.store.read(reads).await?;
        let has_children = !state.api_keys.is_empty() || state.made.iter().any(|(_, made)| !made.is_empty());
        Ok(has_children || self.has_sessions_of(key).await?)
    }

    async fn has_sessions_of(&self, key: &ApiKey) -> Result<bool, Unavailable> {
        let index = SessionIndex::Credential(key.realm.clone(), key.id.into());
        let one = PageRequest {
            after: None,
            limit: 1,
        };
        Ok(!self.shared.store.sessions(&index, one).await?.items.is_empty())
    }
}
