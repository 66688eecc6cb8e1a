//! API keys that end, and the keys that sign and seal.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};
use tessera_authority::Authority;
use tessera_core::KeyStatus;

use super::{realm::RealmLabel, register};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndingLabels {
    realm: String,
    within: String,
}

/// The metrics of keys.
pub(super) struct KeyMetrics {
    ending: Family<EndingLabels, Gauge>,
    server_keys_refused: Gauge,
    signing_key_age: Family<RealmLabel, Gauge>,
}

impl KeyMetrics {
    pub(super) fn register(ours: &mut Registry) -> Self {
        Self {
            ending: register::new(
                ours,
                "api_keys_ending",
                "API keys that work, end within the time, and have no successor",
            ),
            server_keys_refused: register::new(
                ours,
                "server_keys_last_change_refused",
                "1 where the server keys of [keys] have changed and can't be used",
            ),
            signing_key_age: register::new(
                ours,
                "signing_key_age_seconds",
                "For how long the signing key of the realm has signed",
            ),
        }
    }

    pub(super) fn set(&self, authority: &Authority) {
        for count in authority.credentials().ending_api_keys().iter() {
            let labels = EndingLabels {
                realm: count.realm.to_string(),
                within: count.within.to_string(),
            };
            let keys = i64::try_from(count.keys).unwrap_or(i64::MAX);
            self.ending.get_or_create(&labels).set(keys);
        }
        let is_refused = authority
            .signing_keys()
            .server_key_status()
            .is_last_change_refused;
        self.server_keys_refused.set(is_refused.into());
        let now = authority.now().as_seconds();
        for key in authority.signing_keys().published_keys(None) {
            if key.status == KeyStatus::Active {
                let age = now.saturating_sub(key.not_before.as_seconds()).max(0);
                let label = RealmLabel::of(&key.realm);
                self.signing_key_age.get_or_create(&label).set(age);
            }
        }
    }
}
