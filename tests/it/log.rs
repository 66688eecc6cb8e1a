//! What a server or a command writes, collected.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::support::soon;

/// Where a log goes. Clones are one log.
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

    /// How much is in it.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Waits until this is in it, behind what was in it when it had this length.
    pub(crate) async fn says(&self, after: usize, expected: &str) {
        soon(expected, async {
            while !String::from_utf8_lossy(&self.bytes()[after..]).contains(expected) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }
}
