//! How many API keys end soon.

use std::{sync::Arc, time::Duration};

use tessera_core::{ApiKey, Seconds, Timestamp};
use tessera_store::PageRequest;
use tokio::time::Instant;

use crate::{
    credential::{credentials::Credentials, ending_count::EndingApiKeys},
    error::Unavailable,
};

/// The times within which ending keys are counted, shortest first.
const WITHIN: [Seconds; 3] = [Seconds::DAY, Seconds::days(7), Seconds::days(30)];
/// The shortest time between two counts.
const INTERVAL: Duration = Duration::from_secs(10);
/// The pause after a count, as a multiple of its duration: many keys are counted less often.
const REST: u32 = 200;
const STEP: usize = 500;

impl Credentials {
    /// How many keys of each realm end soon, according to the last count.
    #[must_use]
    pub fn ending_api_keys(&self) -> Arc<Vec<EndingApiKeys>> {
        self.ending_api_keys.load_full()
    }

    /// Counts the keys that end soon, for as long as it is polled.
    pub(crate) async fn keep_counting_ending_api_keys(&self) {
        loop {
            let began = Instant::now();
            if let Err(error) = self.count_ending_api_keys().await {
                tracing::debug!(%error, "the API keys that end soon can't be counted");
            }
            tokio::time::sleep(INTERVAL.max(began.elapsed() * REST)).await;
        }
    }

    /// Counts the keys that end soon.
    ///
    /// # Errors
    /// Fails if the store can't be read.
    pub async fn count_ending_api_keys(&self) -> Result<(), Unavailable> {
        let mut counts = Vec::new();
        for realm in self.shared.realms.keys() {
            let (mut counted, mut after) = ([0; WITHIN.len()], None);
            loop {
                let page = PageRequest { after, limit: STEP };
                let page = self.shared.store.api_keys(realm, page).await?;
                count(&page.items, self.shared.clock.now(), &mut counted);
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            counts.extend(
                WITHIN
                    .into_iter()
                    .zip(counted)
                    .map(|(within, keys)| EndingApiKeys {
                        realm: realm.clone(),
                        within,
                        keys,
                    }),
            );
        }
        self.ending_api_keys.store(Arc::new(counts));
        Ok(())
    }
}

fn count(keys: &[ApiKey], now: Timestamp, counted: &mut [usize; WITHIN.len()]) {
    for (within, count) in WITHIN.into_iter().zip(counted) {
        *count += keys.iter().filter(|key| key.ends_within(within, now)).count();
    }
}
