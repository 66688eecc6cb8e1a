//! Changes of what the store keeps for the whole authority.

use tessera_store::{Changes, SettingChange};

/// Changes that consist of one setting.
pub(crate) fn setting(change: SettingChange) -> Changes {
    Changes {
        settings: vec![change],
        ..Changes::default()
    }
}
