//! The options of a store.

/// The resources that a [`SledStore`](crate::SledStore) uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SledOptions {
    /// How much of the rows is held in memory, in bytes.
    pub cache_capacity_bytes: u64,
    /// How many audit records the rows keep at most after a purge; earlier ones are in separate files.
    pub audit_rows_max: u64,
}

impl Default for SledOptions {
    fn default() -> Self {
        Self {
            cache_capacity_bytes: 128 * 1024 * 1024,
            audit_rows_max: 4096,
        }
    }
}
