//! Work that may never end.

use std::{
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// The time is over.
    Late,
    /// The work ended without one.
    Failed,
}

/// Runs `work` in a separate thread, and waits for its answer for `time` at most. A thread that does not end is left
/// running: code that hangs in a foreign library can't be ended.
///
/// # Errors
/// Fails if the time passes, or if the work ends without an answer.
pub(super) fn within<T: Send + 'static>(
    time: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, NoAnswer> {
    let (send, receive) = mpsc::sync_channel(1);
    let thread = thread::Builder::new().name("sealer".to_owned());
    let begun = thread.spawn(move || {
        // No receiver is left for a late answer.
        drop(send.send(work()));
    });
    begun.map_err(|_| NoAnswer::Failed)?;
    receive.recv_timeout(time).map_err(|error| match error {
        RecvTimeoutError::Timeout => NoAnswer::Late,
        RecvTimeoutError::Disconnected => NoAnswer::Failed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_end_is_not_waited_for() {
        assert_eq!(within(Duration::from_secs(60), || 7), Ok(7));
        let (release, held) = mpsc::channel::<()>();
        let late = within(Duration::from_millis(1), move || held.recv());
        assert_eq!(late, Err(NoAnswer::Late));
        drop(release);
        let failed = within::<()>(Duration::from_secs(60), || panic!("on purpose"));
        assert_eq!(failed, Err(NoAnswer::Failed));
    }
}
