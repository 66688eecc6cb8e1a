//! On which day each API key was last used.
//!
//! No call waits for it. A call notes in memory that its key was used, if the store does not have the day yet. The
//! noted keys are written soon, together with the commits of others. So there is one write for each key and day, and a
//! crash loses only what was noted within the last moments.

use std::collections::HashMap;

use parking_lot::Mutex;
use tessera_core::{ApiKey, ApiKeyId, Timestamp};

/// Keys that were used, with the day, if the store does not have it yet.
#[derive(Default)]
pub(crate) struct UsedApiKeys(Mutex<HashMap<ApiKeyId, Timestamp>>);

impl UsedApiKeys {
    /// A key was used at `now`; `key` is the key as the store has it.
    pub(crate) fn note(&self, key: &ApiKey, now: Timestamp) {
        let day = now.floor_to_day();
        if key.last_used_on.is_none_or(|noted| noted < day) {
            self.0.lock().insert(key.id, day);
        }
    }

    /// The key with the day of its last use, if the store does not have it yet.
    pub(crate) fn completed(&self, mut key: ApiKey) -> ApiKey {
        let noted = self.0.lock().get(&key.id).copied();
        key.last_used_on = key.last_used_on.max(noted);
        key
    }

    pub(crate) fn noted(&self) -> Vec<(ApiKeyId, Timestamp)> {
        let noted = self.0.lock();
        noted.iter().map(|(id, day)| (*id, *day)).collect()
    }

    pub(crate) fn forget(&self, written: &[(ApiKeyId, Timestamp)]) {
        let mut noted = self.0.lock();
        for (id, day) in written {
            if noted.get(id) == Some(day) {
                noted.remove(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{api_key, at, key_id};

    fn used_on(number: u64, day: Option<Timestamp>) -> ApiKey {
        ApiKey {
            last_used_on: day,
            ..api_key(number)
        }
    }

    #[test]
    fn a_day_is_noted_once_and_a_later_one_is_not_forgotten_with_it() {
        let used = UsedApiKeys::default();
        let today = at(0).floor_to_day();
        used.note(&used_on(1, Some(today)), at(0));
        assert!(used.noted().is_empty());
        used.note(&used_on(1, None), at(0));
        let written = used.noted();
        assert_eq!(written, [(key_id(1), today)]);
        assert_eq!(used.completed(used_on(1, None)).last_used_on, Some(today));
        used.note(&used_on(1, None), at(86_400));
        used.forget(&written);
        assert_eq!(used.noted(), [(key_id(1), at(86_400).floor_to_day())]);
    }
}
