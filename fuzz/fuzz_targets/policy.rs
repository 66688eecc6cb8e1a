//! What the targets share.

use std::{panic, sync::Once};

use tessera_policy::{Policy, format_rules};

static HOOK: Once = Once::new();

/// Loads the default policy with another file in the place of `name`.
pub fn load_with(name: &str, bytes: &[u8]) {
    // The fuzzer's own hook ends the process at any panic, also at one inside Casbin that the policy catches
    // and makes a denial of. A panic that is not caught still ends it.
    HOOK.call_once(|| panic::set_hook(Box::new(|info| eprintln!("{info}"))));
    let files: Vec<(&str, &[u8])> = Policy::default_files()
        .iter()
        .map(|(known, content)| (*known, if *known == name { bytes } else { *content }))
        .collect();
    if let Err(error) = Policy::from_files(&files) {
        assert!(!error.diagnostics.is_empty());
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let formatted = format_rules(text);
        assert_eq!(format_rules(&formatted), formatted);
    }
}
