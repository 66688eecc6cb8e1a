//! Errors of a store.

/// An operation failed. Whether work that was not acknowledged was done is not known.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The backend failed to read or write. The store takes no more writes until it is reopened.
    #[error("the store failed: {detail}")]
    Failed {
        /// For the log, not for callers.
        detail: String,
    },
    /// A row can't be decoded. The store takes no more writes until it is reopened.
    #[error("the store is damaged: {detail}")]
    Damaged {
        /// For the log, not for callers.
        detail: String,
    },
    /// The store failed before, or is closed.
    #[error("the store is closed")]
    Closed,
    /// The backend can't be reached, or can't prove that it is current. Whether the work was done is not known. It can
    /// be tried again, and the store takes writes again once its backend is back.
    #[error("the store is away: {detail}")]
    Unavailable {
        /// For the log, not for callers.
        detail: String,
    },
    /// The backend has less than it acknowledged, or another log. The store answers nothing until it is reopened.
    #[error("the store went back (STORE_WENT_BACK): {detail}")]
    WentBack {
        /// For the log, not for callers.
        detail: String,
    },
    /// The requested events are no longer kept.
    #[error("the log no longer has the events after that position")]
    EventsForgotten,
}
