//! Syncing one file on a separate thread, while another is written and synced.

use std::{
    fs::File,
    io,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, JoinHandle},
};

/// A thread that syncs a file on request. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Syncing {
    /// `None` only while it is dropped.
    asks: Option<SyncSender<()>>,
    synced: Receiver<io::Result<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Syncing {
    pub(super) fn of(file: File) -> io::Result<Self> {
        let (asks, asked) = sync_channel::<()>(1);
        let (answer, synced) = sync_channel(1);
        let thread = thread::Builder::new()
            .name("tessera-seal".to_owned())
            .spawn(
                move || {
                    while asked.recv().is_ok() && answer.send(file.sync_data()).is_ok() {}
                },
            )?;
        Ok(Self {
            asks: Some(asks),
            synced,
            thread: Some(thread),
        })
    }

    /// Begins to sync what has been written.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        let asks = self.asks.as_ref().ok_or_else(ended)?;
        asks.send(()).map_err(|_| ended())
    }

    /// Waits until everything written before [`begin`](Self::begin) is on the disk.
    pub(super) fn wait(&mut self) -> io::Result<()> {
        self.synced.recv().unwrap_or_else(|_| Err(ended()))
    }
}

impl Drop for Syncing {
    /// Waits for the thread, so that it does not have the file open afterwards.
    fn drop(&mut self) {
        self.asks = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("syncing the seal panicked");
        }
    }
}

fn ended() -> io::Error {
    io::Error::other("the thread that syncs has ended")
}
