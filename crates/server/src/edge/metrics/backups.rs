//! Backups.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};
use tessera_authority::BackupState;

use super::register;

/// The metrics of backups.
pub(super) struct BackupMetrics {
    timestamp: Gauge<i64>,
    sequence: Gauge<u64, AtomicU64>,
    running: Gauge,
    failed: Counter<u64, AtomicU64>,
}

impl BackupMetrics {
    pub(super) fn register(ours: &mut Registry) -> Self {
        Self {
            timestamp: register::new(
                ours,
                "last_backup_timestamp_seconds",
                "When the last backup was made, as Unix time; 0 where none ever was",
            ),
            sequence: register::new(
                ours,
                "last_backup_sequence",
                "Last event of the revocation log that the last backup has",
            ),
            running: register::new(ours, "backup_running", "1 while a backup is being made"),
            failed: register::new(
                ours,
                "backups_failed",
                "Backups since the start that were not finished",
            ),
        }
    }

    pub(super) fn set(&self, state: &BackupState) {
        if let Some(last) = state.last {
            self.timestamp.set(last.at.as_seconds());
            self.sequence.set(last.position.0);
        }
        self.running.set(state.is_running.into());
        self.failed.inner().store(state.failed, Ordering::Relaxed);
    }
}
