//! A cache of recently read API keys, decoded: nearly every call reads one.

use std::{collections::HashMap, sync::Arc};

use parking_lot::RwLock;
use tessera_core::{ApiKey, ApiKeyId};
use tessera_store::StoreError;

/// How many are kept at most, about 1 KiB each.
const KEPT_MAX: usize = 4096;

/// A bounded cache of rows. Each group that changes a key empties it before anyone is told that the group is durable.
/// So a caller that knows of a change never finds the earlier state.
#[derive(Default)]
pub(super) struct ApiKeys(RwLock<Kept>);

#[derive(Default)]
struct Kept {
    keys: HashMap<ApiKeyId, Arc<ApiKey>>,
    /// How often it was emptied. A key that was read before the last emptying is not kept.
    emptied: u64,
}

impl ApiKeys {
    /// A key, as it was `read` now or before.
    pub(super) fn get(
        &self,
        id: &ApiKeyId,
        read: impl FnOnce() -> Result<Option<ApiKey>, StoreError>,
    ) -> Result<Option<Arc<ApiKey>>, StoreError> {
        let emptied = {
            let kept = self.0.read();
            if let Some(key) = kept.keys.get(id) {
                return Ok(Some(Arc::clone(key)));
            }
            kept.emptied
        };
        let Some(key) = read()?.map(Arc::new) else {
            // An unknown key is not kept, so that strangers can't fill the cache.
            return Ok(None);
        };
        let mut kept = self.0.write();
        if kept.emptied == emptied {
            if kept.keys.len() >= KEPT_MAX {
                kept.keys.clear();
            }
            kept.keys.insert(*id, Arc::clone(&key));
        }
        Ok(Some(key))
    }

    /// Empties the cache: a row has changed.
    pub(super) fn clear(&self) {
        let mut kept = self.0.write();
        kept.keys.clear();
        kept.emptied = kept.emptied.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests;
