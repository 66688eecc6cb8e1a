//! The process, as the client libraries of Prometheus name it; read from `/proc`, if it exists.

use std::{
    fs,
    sync::atomic::{AtomicU64, Ordering},
};

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};
use rustix::{
    param::{clock_ticks_per_second, page_size},
    process::{Resource, getrlimit},
};

use super::register;

/// The metrics of the process.
pub(super) struct ProcessMetrics {
    cpu: Counter<f64, AtomicU64>,
    resident: Gauge<u64, AtomicU64>,
    open_fds: Gauge<u64, AtomicU64>,
    max_fds: Gauge<u64, AtomicU64>,
    started: Gauge<f64, AtomicU64>,
}

/// The content of `/proc/self/stat`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    /// Since the start of the machine.
    started_seconds: f64,
    resident_bytes: u64,
}

impl ProcessMetrics {
    pub(super) fn register(all: &mut Registry) -> Self {
        Self {
            cpu: register::new(
                all,
                "process_cpu_seconds",
                "CPU time of the process, of the user and the system",
            ),
            resident: register::new(
                all,
                "process_resident_memory_bytes",
                "Resident memory of the process",
            ),
            open_fds: register::new(all, "process_open_fds", "Open file descriptors"),
            max_fds: register::new(all, "process_max_fds", "Most file descriptors that may be open"),
            started: register::new(
                all,
                "process_start_time_seconds",
                "When the process started, as Unix time",
            ),
        }
    }

    pub(super) fn set(&self) {
        let read = |path| fs::read_to_string(path).ok();
        if let Some(stat) = read("/proc/self/stat").as_deref().and_then(Stat::parse) {
            self.cpu
                .inner()
                .store(stat.cpu_seconds.to_bits(), Ordering::Relaxed);
            self.resident.set(stat.resident_bytes);
            if let Some(booted) = read("/proc/stat").as_deref().and_then(booted_at) {
                self.started.set(booted + stat.started_seconds);
            }
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // The directory itself is open while it is read.
            self.open_fds.set((open.count() as u64).saturating_sub(1));
        }
        let most = getrlimit(Resource::Nofile).current;
        self.max_fds.set(most.unwrap_or(u64::MAX));
    }
}

impl Stat {
    /// The fields are counted after the name in brackets, which may have spaces: proc(5).
    #[expect(
        clippy::cast_precision_loss,
        reason = "ticks of years are far below what a float holds"
    )]
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(") ")?;
        let fields: Vec<_> = rest.split_ascii_whitespace().collect();
        // The first of these is field 3.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let ticks = clock_ticks_per_second() as f64;
        Some(Self {
            cpu_seconds: field(14)?.checked_add(field(15)?)? as f64 / ticks,
            started_seconds: field(22)? as f64 / ticks,
            resident_bytes: field(24)?.saturating_mul(page_size() as u64),
        })
    }
}

/// When the machine started, as Unix time.
fn booted_at(stat: &str) -> Option<f64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_moves_no_field() {
        let ticks = clock_ticks_per_second();
        let text = format!(
            "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 {} {} 0 0 20 0 3 0 {} 1000000 42 18446744073709551615",
            2 * ticks,
            ticks,
            9 * ticks
        );
        let stat = Stat::parse(&text).unwrap();
        assert_eq!((stat.cpu_seconds, stat.started_seconds), (3.0, 9.0));
        assert_eq!(stat.resident_bytes, 42 * page_size() as u64);
        assert_eq!(Stat::parse("7 (a) S 1"), None);
        assert_eq!(booted_at("cpu 1\nbtime 1700000000\n"), Some(1_700_000_000.0));
    }
}
