//! The default policy, compiled in, so that `tessera dev` needs no files.

use crate::policy::Policy;

impl Policy {
    /// The files of the default policy, as [`Policy::from_files`] takes them.
    #[must_use]
    pub fn default_files() -> &'static [(&'static str, &'static [u8])] {
        &[
            ("model.conf", include_bytes!("../../../policies/model.conf")),
            (
                "catalogue.toml",
                include_bytes!("../../../policies/catalogue.toml"),
            ),
            ("policy.csv", include_bytes!("../../../policies/policy.csv")),
            (
                "tests/dev.toml",
                include_bytes!("../../../policies/tests/dev.toml"),
            ),
        ]
    }
}
