//! What can go wrong with a store.

/// An operation failed. Nothing that was not acknowledged may be relied upon, in either direction.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The backend failed to read or write. The store takes no more writes until it is reopened.
    #[error("the store failed: {detail}")]
    Failed {
        /// For the log, not for callers.
        detail: String,
    },
    /// A row can't be understood. The store takes no more writes until it is reopened.
    #[error("the store is damaged: {detail}")]
    Damaged {
        /// For the log, not for callers.
        detail: String,
    },
    /// The store failed before, or is closed.
    #[error("the store is closed")]
    Closed,
    /// The events asked for are no longer kept.
    #[error("the log no longer has the events after that position")]
    EventsForgotten,
}
