//! Detecting that the data directory is older than what it gave.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether something was presented that only a later state of the data directory can have given.
#[derive(Debug, Default)]
pub(crate) struct RollbackDetection {
    is_noted: AtomicBool,
    is_proven: AtomicBool,
}

impl RollbackDetection {
    /// Logs it, and refuses to issue from now on. Only for values that only this authority can make.
    pub(crate) fn prove(&self, what: &str) {
        self.note(what);
        self.is_proven.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_proven(&self) -> bool {
        self.is_proven.load(Ordering::Relaxed)
    }

    /// Logs it once: there may be many such tokens.
    pub(crate) fn note(&self, what: &str) {
        if !self.is_noted.swap(true, Ordering::Relaxed) {
            tracing::error!(
                what,
                "the data directory is older than what it gave: it was restored from a copy. Stop, and run `tessera restore`, or revocations miss what was issued since"
            );
        }
    }
}
