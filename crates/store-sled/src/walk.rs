//! Showing every session to a visitor, without delaying other work.

use std::{ops::ControlFlow, sync::Arc, thread, time::Instant};

use tokio::sync::oneshot;

use tessera_store::{SessionVisitor, StoreError};

use super::{error::failed, read, shared::Shared};

/// How many sessions are read at once, which takes some 50 µs: other threads wait for the core for that long.
const STEP: usize = 16;
/// How long to wait for the writer after a read, at most, as a multiple of the time that the read took.
const GIVEN: u32 = 30;

/// Shows all sessions to `visit`, in the order of their ids, until it breaks off or no caller waits any longer.
pub(super) async fn start(shared: Arc<Shared>, visit: SessionVisitor) -> Result<(), StoreError> {
    let (answer, visited) = oneshot::channel();
    thread::Builder::new()
        .name("store-walk".to_owned())
        .spawn(move || {
            let result = visit_all(&shared, visit, || answer.is_closed());
            // The caller may have stopped waiting.
            let _ = answer.send(result);
        })
        .map_err(failed)?;
    visited
        .await
        .unwrap_or_else(|_| Err(failed("a visitor panicked")))
}

fn visit_all(
    shared: &Shared,
    mut visit: SessionVisitor,
    is_abandoned: impl Fn() -> bool,
) -> Result<(), StoreError> {
    let mut after = None;
    while !is_abandoned() {
        let began = Instant::now();
        let sessions = shared.read(|db| read::sessions_after(db, after, STEP))?;
        // Without the time of the visitor, which may wait for the writer.
        let took = began.elapsed();
        // Outside `read`, which would treat a panic as one of the database.
        if sessions.iter().try_for_each(&mut visit) == ControlFlow::Break(()) {
            return Ok(());
        }
        match sessions.last() {
            Some(last) if sessions.len() == STEP => {
                after = Some(last.id);
                shared.give_way(took * GIVEN);
                // The kernel lets a computing thread keep its core for milliseconds.
                thread::yield_now();
            }
            _ => return Ok(()),
        }
    }
    Ok(())
}
