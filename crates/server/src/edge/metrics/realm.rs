//! The label for a realm: it has as many values as realms are configured.

use prometheus_client::encoding::EncodeLabelSet;
use tessera_core::RealmName;

/// A realm.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RealmLabel {
    realm: String,
}

impl RealmLabel {
    pub(super) fn of(realm: &RealmName) -> Self {
        Self {
            realm: realm.to_string(),
        }
    }
}
