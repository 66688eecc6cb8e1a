//! The number of API keys that end soon.

use tessera_core::{RealmName, Seconds};

/// How many keys of a realm end soon and have no successor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndingApiKeys {
    /// The realm.
    pub realm: RealmName,
    /// How soon.
    pub within: Seconds,
    /// How many.
    pub keys: usize,
}
