//! Showing every session to somebody, without being in anybody's way.

use std::{ops::ControlFlow, sync::Arc, thread, time::Instant};

use tokio::sync::oneshot;

use tessera_store::{SessionVisitor, StoreError};

use super::{error::failed, read, shared::Shared};

/// How many sessions are read at once: for so long, some 50 µs, whoever wants the core waits.
const STEP: usize = 16;
/// How many times what it took to read them others are given at most, where they go on writing.
const GIVEN: u32 = 30;

/// Shows all sessions to `visit`, in the order of their ids, until it breaks off, or nobody waits any more.
pub(super) async fn start(shared: Arc<Shared>, visit: SessionVisitor) -> Result<(), StoreError> {
    let (answer, visited) = oneshot::channel();
    thread::Builder::new()
        .name("store-walk".to_owned())
        .spawn(move || {
            let result = visit_all(&shared, visit, || answer.is_closed());
            // Nobody may wait for it any more.
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
        // Without the visitor, who may wait for the writer himself.
        let took = began.elapsed();
        // Not within `read`, which takes a panic for one of the database.
        if sessions.iter().try_for_each(&mut visit) == ControlFlow::Break(()) {
            return Ok(());
        }
        match sessions.last() {
            Some(last) if sessions.len() == STEP => {
                after = Some(last.id);
                shared.give_way(took * GIVEN);
                // The kernel lets a thread that computes have its core for milliseconds.
                thread::yield_now();
            }
            _ => return Ok(()),
        }
    }
    Ok(())
}
