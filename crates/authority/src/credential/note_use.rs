//! Recording which API keys were used.

use std::time::Duration;

use tessera_core::{ApiKey, ApiKeyId, Timestamp};
use tessera_store::{Changes, Decision, Priority, Reads, Snapshot};

use crate::{credential::credentials::Credentials, error::Unavailable};

/// How often the noted keys are written.
const INTERVAL: Duration = Duration::from_secs(20);
/// How long a write waits for the commit of others, to be part of it.
const DELAY_MAX: Duration = Duration::from_secs(5);
/// Keys in one write.
const STEP: usize = 200;

impl Credentials {
    /// Records which keys were used, for as long as it is polled.
    pub(crate) async fn keep_noting_use(&self) {
        let behind = Priority::Background { max_delay: DELAY_MAX };
        loop {
            tokio::time::sleep(INTERVAL).await;
            if let Err(error) = self.write_used_api_keys(behind).await {
                tracing::warn!(%error, "on which day API keys were last used can't be kept");
            }
        }
    }

    /// Records the day on which each key was last used, if the store does not have it yet.
    ///
    /// # Errors
    /// Fails if the store can't be written: the noted keys are kept for the next time.
    pub async fn write_used_api_keys(&self, priority: Priority) -> Result<(), Unavailable> {
        for step in self.used_api_keys.noted().chunks(STEP) {
            let used = step.to_vec();
            let reads = Reads::default().api_keys(used.iter().map(|(id, _)| *id));
            let decide = move |state: &Snapshot| note_use(state, &used);
            self.shared.store.commit_with(priority, reads, decide).await?;
            self.used_api_keys.forget(step);
        }
        Ok(())
    }
}

/// A removed key stays removed, and a key that was used on a later day keeps that day.
fn note_use(state: &Snapshot, used: &[(ApiKeyId, Timestamp)]) -> Decision<()> {
    let later = used.iter().filter_map(|(id, day)| {
        let key = state.api_key(id)?;
        key.last_used_on.is_none_or(|noted| noted < *day).then(|| ApiKey {
            last_used_on: Some(*day),
            ..key.clone()
        })
    });
    let api_keys: Vec<_> = later.collect();
    if api_keys.is_empty() {
        return Decision::Abort(());
    }
    let changes = Changes {
        api_keys,
        ..Changes::default()
    };
    Decision::Commit(changes, ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{api_key, at, key_id, state};

    fn used_on(number: u64, day: Option<Timestamp>) -> ApiKey {
        ApiKey {
            last_used_on: day,
            ..api_key(number)
        }
    }

    #[test]
    fn noting_a_use_as_a_table() {
        let (today, tomorrow) = (at(0).floor_to_day(), at(86_400).floor_to_day());
        let cases = [
            ("never used", vec![used_on(1, None)], Some(today)),
            (
                "used before",
                vec![used_on(1, Some(at(-86_400).floor_to_day()))],
                Some(today),
            ),
            ("used on that day", vec![used_on(1, Some(today))], None),
            ("used later", vec![used_on(1, Some(tomorrow))], None),
            ("removed", vec![], None),
        ];
        for (name, api_keys, expected) in cases {
            let state = Snapshot { api_keys, ..state() };
            let written = match note_use(&state, &[(key_id(1), today)]) {
                Decision::Commit(changes, ()) => changes.api_keys.first().and_then(|key| key.last_used_on),
                _ => None,
            };
            assert_eq!(written, expected, "{name}");
        }
    }
}
