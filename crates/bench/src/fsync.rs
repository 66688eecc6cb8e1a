//! The baseline for durable writes: one writer that appends a little and waits for the disk.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    failure::Failure,
    statistics::{Latencies, Percentiles},
};

/// The size of a small record.
const RECORD_BYTES: usize = 128;

/// The measurements of the disk.
pub(crate) struct Writes {
    /// Durable writes per second.
    pub(crate) rate: f64,
    /// How long they took, in microseconds.
    pub(crate) latency: Percentiles,
}

/// Appends and syncs in `directory` for `time`.
pub(crate) async fn append_and_sync(directory: &Path, time: Duration) -> Result<Writes, Failure> {
    let path = directory.join("append");
    let written = tokio::task::spawn_blocking(move || write_for(&path, time)).await;
    let what = "writing durably";
    written
        .map_err(|error| Failure::at(what, error))?
        .map_err(|error| Failure::at(what, error))
}

fn write_for(path: &Path, time: Duration) -> io::Result<Writes> {
    let mut file = File::options().create(true).append(true).open(path)?;
    let mut latencies = Latencies::default();
    let start = Instant::now();
    while start.elapsed() < time {
        let began = Instant::now();
        file.write_all(&[0; RECORD_BYTES])?;
        file.sync_data()?;
        latencies.add(began.elapsed());
    }
    let count = u32::try_from(latencies.count()).unwrap_or(u32::MAX);
    Ok(Writes {
        rate: f64::from(count) / start.elapsed().as_secs_f64(),
        latency: latencies.into_percentiles(),
    })
}
