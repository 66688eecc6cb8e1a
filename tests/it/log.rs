//! Collects the output of a server or a command.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::support::soon;

/// The destination of a log. Clones are one log.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    /// Its length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Waits until the log has this text after its first `after` bytes.
    pub(crate) async fn says(&self, after: usize, expected: &str) {
        soon(expected, async {
            while !String::from_utf8_lossy(&self.bytes()[after..]).contains(expected) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }
}
