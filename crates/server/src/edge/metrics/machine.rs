//! The machine: its clock, and the removal of data by it.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};
use tessera_authority::Authority;

use super::register;

/// The metrics of the machine's clock.
pub(super) struct MachineMetrics {
    steps: Counter<u64, AtomicU64>,
    offset: Gauge<f64, AtomicU64>,
    stepped: Gauge,
    purges: Counter<u64, AtomicU64>,
}

impl MachineMetrics {
    pub(super) fn register(ours: &mut Registry) -> Self {
        Self {
            steps: register::new(
                ours,
                "clock_steps",
                "Steps of the machine's clock since the start",
            ),
            offset: register::new(
                ours,
                "clock_offset_seconds",
                "How far the machine's clock is ahead of the time that is used",
            ),
            stepped: register::new(
                ours,
                "clock_stepped",
                "1 where the machine's clock stepped and is not believed yet",
            ),
            purges: register::new(
                ours,
                "purges",
                "How often everything that was dead has been removed since the start",
            ),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a float holds every time exactly")]
    pub(super) fn set(&self, authority: &Authority) {
        let state = authority.timekeeping().clock_state();
        self.purges
            .inner()
            .store(authority.purging().purges(), Ordering::Relaxed);
        self.steps.inner().store(state.steps, Ordering::Relaxed);
        self.offset.set(state.offset_millis as f64 / 1000.0);
        self.stepped.set(state.is_stepped.into());
    }
}
