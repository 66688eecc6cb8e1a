//! Reads of rows that callers name: all callers that wait share one trip to the database.

use std::sync::Arc;

use tessera_store::{Reads, Snapshot, StoreError};
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::{node::Node, read::snapshots};

/// How many trips may be in progress at once: the next one is gathered and decoded while the database answers another.
pub(crate) const READERS: usize = 2;
/// How many callers share a trip.
const CALLERS_MAX: usize = 1024;

/// A caller that waits for its rows.
pub(crate) struct Reading {
    pub(crate) reads: Reads,
    pub(crate) answer: oneshot::Sender<Result<Snapshot, StoreError>>,
}

/// The callers that wait.
pub(crate) type Callers = Arc<Mutex<mpsc::Receiver<Reading>>>;

/// Reads until no caller is left. A trip begins after all of its callers have asked, so each of them sees everything
/// that was committed before its call.
pub(crate) async fn serve(node: Arc<Node>, callers: Callers) {
    loop {
        let mut group = Vec::new();
        if callers.lock().await.recv_many(&mut group, CALLERS_MAX).await == 0 {
            return;
        }
        // Nobody waits for these any more.
        group.retain(|reading| !reading.answer.is_closed());
        answer(&node, group).await;
    }
}

async fn answer(node: &Node, mut group: Vec<Reading>) {
    if group.is_empty() {
        return;
    }
    let found = snapshots(node, group.iter().map(|reading| &reading.reads)).await;
    match found {
        Ok(found) => {
            for (reading, snapshot) in group.into_iter().zip(found) {
                // The caller may have stopped waiting.
                let _ = reading.answer.send(Ok(snapshot));
            }
        }
        // A row that can't be read must not harm those who did not ask for it, nor cost each of them a trip.
        Err(StoreError::Damaged { .. }) if group.len() > 1 => {
            let others = group.split_off(group.len() / 2);
            Box::pin(answer(node, group)).await;
            Box::pin(answer(node, others)).await;
        }
        Err(error) => {
            for reading in group {
                let _ = reading.answer.send(Err(error.clone()));
            }
        }
    }
}
