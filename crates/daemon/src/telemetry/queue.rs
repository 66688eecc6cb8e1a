//! The queue of log lines for stderr: a separate thread writes them, so that no task waits for the log.
//!
//! The target of stderr may be full, or a pipe that no process reads. Then lines are lost and counted, and the
//! authority keeps working: the audit trail is stored elsewhere.

use std::{
    io::{self, Write},
    mem,
    sync::Arc,
    thread,
    time::Duration,
};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tracing_subscriber::fmt::MakeWriter;

/// Waiting lines beyond this number of bytes are lost.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// The lines that wait to be written.
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    /// Whether a thread is writing lines that waited before.
    is_writing: bool,
    lost: u64,
}

impl Queue {
    /// A queue whose lines a thread writes to `to`.
    ///
    /// # Errors
    /// Fails if no thread can be made.
    pub(super) fn start(to: impl Write + Send + 'static) -> io::Result<Arc<Self>> {
        let queue = Arc::new(Self {
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let written = Arc::clone(&queue);
        thread::Builder::new()
            .name("tessera-log".to_owned())
            .spawn(move || written.write_all_to(to))?;
        Ok(queue)
    }

    /// Waits until the logged lines are written, for at most `longest`.
    pub(super) fn flush(&self, longest: Duration) {
        let is_busy = |state: &mut State| state.is_writing || !state.waiting.is_empty();
        self.changed.wait_while_for(&mut self.lock(), is_busy, longest);
    }

    fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.waiting.len().saturating_add(line.len()) > BYTES_MAX {
            state.lost = state.lost.saturating_add(1);
            return;
        }
        state.waiting.extend_from_slice(line);
        drop(state);
        self.changed.notify_all();
    }

    fn write_all_to(&self, mut to: impl Write) {
        loop {
            let lines = self.next();
            let wrote = to.write_all(&lines).and_then(|()| to.flush());
            let mut state = self.lock();
            state.is_writing = false;
            let lost = match wrote {
                Ok(()) => mem::take(&mut state.lost),
                Err(_) => {
                    let count = lines.iter().filter(|byte| **byte == b'\n').count();
                    state.lost = state
                        .lost
                        .saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
                    0
                }
            };
            drop(state);
            self.changed.notify_all();
            if lost > 0 {
                tracing::warn!(
                    lines = lost,
                    "log lines were lost, as they could not be written, or not as fast as they came"
                );
            }
        }
    }

    /// All waiting lines, once there are any.
    fn next(&self) -> Vec<u8> {
        let is_idle = |state: &mut State| state.waiting.is_empty();
        let mut state = self.lock();
        self.changed.wait_while(&mut state, is_idle);
        state.is_writing = true;
        mem::take(&mut state.waiting)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

/// Puts lines into a queue.
#[derive(Clone)]
pub(super) struct Lines(pub(super) Arc<Queue>);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for Lines {
    /// Takes a whole line: a formatter writes each in one piece.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver, Sender};

    use super::*;

    /// How a test writer handles its input, and its report.
    struct Told {
        outcomes: Receiver<io::Result<()>>,
        given: Sender<Vec<u8>>,
    }

    impl Write for Told {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.given.send(bytes.to_vec()).unwrap();
            self.outcomes.recv().unwrap()?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn queue() -> (Arc<Queue>, Sender<io::Result<()>>, Receiver<Vec<u8>>) {
        let (tell, outcomes) = mpsc::channel();
        let (given, seen) = mpsc::channel();
        (Queue::start(Told { outcomes, given }).unwrap(), tell, seen)
    }

    const SOON: Duration = Duration::from_secs(30);

    #[test]
    fn nobody_waits_for_a_log_that_stands_still_and_what_is_lost_is_counted() {
        let (queue, tell, seen) = queue();
        queue.push(b"first\n");
        assert_eq!(seen.recv_timeout(SOON).unwrap(), b"first\n");
        // It is not written yet. Other tasks continue, and the memory is bounded.
        let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
        for _ in 0..2 * BYTES_MAX / line.len() {
            queue.push(&line);
        }
        assert_eq!(queue.lock().waiting.len(), BYTES_MAX);
        assert_eq!(queue.lock().lost, u64::try_from(BYTES_MAX / line.len()).unwrap());
        tell.send(Ok(())).unwrap();
        assert_eq!(seen.recv_timeout(SOON).unwrap().len(), BYTES_MAX);
        tell.send(Ok(())).unwrap();
        queue.flush(SOON);
        assert_eq!(queue.lock().lost, 0);
    }

    #[test]
    fn a_line_that_cannot_be_written_is_lost_and_ends_nothing() {
        let (queue, tell, seen) = queue();
        queue.push(b"first\n");
        tell.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        queue.flush(SOON);
        assert_eq!(seen.recv_timeout(SOON).unwrap(), b"first\n");
        assert_eq!(queue.lock().lost, 1);
        queue.push(b"second\n");
        tell.send(Ok(())).unwrap();
        assert_eq!(seen.recv_timeout(SOON).unwrap(), b"second\n");
        queue.flush(SOON);
        assert_eq!(queue.lock().lost, 0);
    }
}
