//! API keys that were accepted a moment ago.
//!
//! With several nodes, whether a key still works is in the database only, and asking costs every call a round trip.
//! A call that reads its key again as it commits need not ask before.

use std::sync::Arc;

use quick_cache::sync::Cache;
use tessera_core::{ApiKey, ApiKeyId, Timestamp};

/// How many keys are remembered, less than 1 KiB each.
const KEYS_MAX: usize = 10_000;
/// For how long.
const REMEMBERED_MILLIS: i64 = 5_000;

/// Keys, with the time at which each was read.
pub(crate) struct RecentApiKeys(Cache<ApiKeyId, (Arc<ApiKey>, Timestamp)>);

impl Default for RecentApiKeys {
    fn default() -> Self {
        Self(Cache::new(KEYS_MAX))
    }
}

impl RecentApiKeys {
    pub(crate) fn note(&self, key: Arc<ApiKey>, now: Timestamp) {
        self.0.insert(key.id, (key, now));
    }

    /// The key as it was read a moment ago.
    pub(crate) fn get(&self, id: &ApiKeyId, now: Timestamp) -> Option<Arc<ApiKey>> {
        let (key, at) = self.0.get(id)?;
        // A clock that was set back says nothing about how old it is.
        let is_recent = at <= now && now < at.plus_millis(REMEMBERED_MILLIS);
        is_recent.then_some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{api_key, at, key_id};

    #[test]
    fn a_key_is_remembered_for_some_seconds() {
        let recent = RecentApiKeys::default();
        recent.note(Arc::new(api_key(1)), at(0));
        for (second, is_known) in [(-1, false), (0, true), (4, true), (5, false)] {
            assert_eq!(recent.get(&key_id(1), at(second)).is_some(), is_known, "{second}");
        }
        assert_eq!(recent.get(&key_id(2), at(0)), None);
    }
}
