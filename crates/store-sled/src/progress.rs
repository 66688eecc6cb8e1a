//! The progress of a start.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use parking_lot::Mutex;

/// A start that takes longer than this logs its progress.
const QUIET: Duration = Duration::from_secs(2);
/// How often it does so from then on.
const EVERY: Duration = Duration::from_secs(5);

/// The progress of a start. Clones report the same start.
#[derive(Clone, Debug, Default)]
pub struct StartProgress(Arc<State>);

#[derive(Debug, Default)]
struct State {
    step: Mutex<Step>,
    done: AtomicU64,
}

/// The current step of a start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Step {
    /// Before and after the work on the rows.
    #[default]
    Other,
    /// The rows are copied; their number of bytes.
    Copy { bytes: u64 },
    /// sled reads its log.
    Recovery,
    /// The rows are read and compared with the seal; their number.
    Check { rows: u64 },
    /// The opened rows are written to the disk.
    Sync,
}

impl StartProgress {
    /// The start begins this step.
    pub(super) fn enter(&self, step: Step) {
        let mut current = self.0.step.lock();
        *current = step;
        self.0.done.store(0, Ordering::Relaxed);
    }

    /// Adds to what is done of the step.
    pub(super) fn add(&self, done: u64) {
        self.0.done.fetch_add(done, Ordering::Relaxed);
    }

    /// Does `work`, and logs the progress if it takes long.
    pub(super) fn told<T>(&self, work: impl FnOnce() -> T) -> T {
        self.told_to(QUIET, work, |progress| tracing::info!("starting: {progress}"))
    }

    fn told_to<T>(&self, quiet: Duration, work: impl FnOnce() -> T, tell: impl Fn(&Self) + Send) -> T {
        let (end, ended) = mpsc::channel::<()>();
        let wait_and_tell = move || {
            let mut wait = quiet;
            while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                tell(self);
                wait = EVERY;
            }
        };
        thread::scope(move |scope| {
            // It is dropped however the work ends: the scope waits for the thread.
            let _end = end;
            let teller = thread::Builder::new().name("store-start".to_owned());
            if let Err(error) = teller.spawn_scoped(scope, wait_and_tell) {
                tracing::debug!(%error, "nobody tells how far the start is");
            }
            work()
        })
    }
}

impl fmt::Display for StartProgress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = self.0.step.lock();
        let done = self.0.done.load(Ordering::Relaxed);
        let percent = |whole: u64| {
            done.saturating_mul(100)
                .checked_div(whole)
                .unwrap_or(100)
                .min(100)
        };
        match *step {
            Step::Other => formatter.write_str("opening"),
            Step::Copy { bytes } => {
                let (done, whole) = (done >> 20, bytes >> 20);
                write!(
                    formatter,
                    "copying the rows, {done} of {whole} MiB ({} %)",
                    percent(bytes)
                )
            }
            Step::Recovery => formatter.write_str("recovering the rows"),
            Step::Check { rows } => {
                write!(
                    formatter,
                    "checking the rows, {done} of {rows} ({} %)",
                    percent(rows)
                )
            }
            Step::Sync => formatter.write_str("writing the rows to the disk"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_told_with_what_is_done_of_it() {
        let progress = StartProgress::default();
        assert_eq!(progress.to_string(), "opening");
        progress.enter(Step::Copy { bytes: 8 << 20 });
        progress.add(2 << 20);
        assert_eq!(
            progress.clone().to_string(),
            "copying the rows, 2 of 8 MiB (25 %)"
        );
        progress.enter(Step::Check { rows: 3 });
        progress.add(2);
        assert_eq!(progress.to_string(), "checking the rows, 2 of 3 (66 %)");
        // A row that the seal does not know of is found only after all are read.
        progress.add(2);
        assert_eq!(progress.to_string(), "checking the rows, 4 of 3 (100 %)");
        progress.enter(Step::Check { rows: 0 });
        assert_eq!(progress.to_string(), "checking the rows, 0 of 0 (100 %)");
    }

    #[test]
    fn only_what_takes_long_is_told() {
        let progress = StartProgress::default();
        let (told, was_told) = mpsc::channel();
        let tell = |progress: &StartProgress| drop(told.send(progress.to_string()));
        let result = progress.told_to(
            Duration::from_millis(1),
            || {
                progress.enter(Step::Recovery);
                was_told.recv().unwrap()
            },
            tell,
        );
        assert!(
            ["opening", "recovering the rows"].contains(&result.as_str()),
            "{result}"
        );
        assert_eq!(progress.told_to(Duration::from_secs(600), || 7, tell), 7);
        assert!(was_told.try_recv().is_err());
    }

    #[test]
    fn work_that_panics_is_waited_for_by_nobody() {
        let progress = StartProgress::default();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            progress.told(|| panic!("a test"))
        }));
        assert!(panicked.is_err());
    }
}
