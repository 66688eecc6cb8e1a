//! Heavy work for callers: reading, comparing and explaining policies takes up to seconds of a core.
//!
//! Little of it runs at once, each client has at most one piece of it running, and few calls wait. The work itself
//! holds a slot, not the caller that waits for it: when the caller leaves, the work is cancelled, and its slot is free
//! when the work has ended.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use tessera_policy::{Stopped, Work};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::{
    error::Unavailable,
    principal::Principal,
    turns::{Turn, Turns},
};

/// How much runs at once, of all clients.
const RUNNING_MAX: usize = 2;
/// How many calls of one client may run or wait.
const OF_ONE_CLIENT_MAX: usize = 8;
/// How many calls of all clients may run or wait.
const OF_ALL_MAX: usize = 64;
/// How much the scheduler lowers the priority of heavy work when calls need the processor, too.
const NICE: i32 = 15;
/// How long one call's work may take, with any deadline.
const BUDGET: Duration = Duration::from_secs(60);
/// How long the authority's own reading of its policy may take.
pub(crate) const OWN_BUDGET: Duration = Duration::from_secs(600);

/// The slots for heavy work.
pub(crate) struct Heavy {
    places: Arc<Semaphore>,
    turns: Arc<Turns>,
    running: Arc<AtomicUsize>,
}

impl Heavy {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            places: Arc::new(Semaphore::new(RUNNING_MAX)),
            turns: Turns::new(OF_ONE_CLIENT_MAX, OF_ALL_MAX),
            running: Arc::default(),
        })
    }

    /// How many pieces of work run, including those that no caller waits for.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// Waits for a slot. Once the result is dropped, the work is cancelled.
    pub(crate) async fn enter(self: &Arc<Self>, principal: &Principal) -> Result<Entered, Unavailable> {
        // The calls of one client wait for each other, so that they take no more slots than one call.
        let turn = self.turn(principal).await?;
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.map_err(|_| Unavailable::Overloaded)?;
        Ok(Entered(Arc::new(Place {
            work: Work::within(BUDGET),
            running: Arc::clone(&self.running),
            _held: (place, turn),
        })))
    }

    /// Waits until the client has no other work running.
    pub(crate) async fn turn(self: &Arc<Self>, principal: &Principal) -> Result<Turn, Unavailable> {
        self.turns
            .turn(principal.whose())
            .await
            .ok_or(Unavailable::Overloaded)
    }
}

/// Gives priority to the threads that answer calls. If the system does not allow it, they share.
fn give_way() {
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "heavy work runs at the priority of calls");
    }
}

/// A slot, held by the call and by the work for it.
pub(crate) struct Place {
    work: Work,
    running: Arc<AtomicUsize>,
    _held: (OwnedSemaphorePermit, Turn),
}

/// Counts as running until it is dropped.
pub(crate) struct Running {
    place: Arc<Place>,
}

impl Running {
    pub(crate) fn work(&self) -> &Work {
        &self.place.work
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.place.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A call that has a slot: dropping it cancels its work.
pub(crate) struct Entered(Arc<Place>);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.work.cancel();
    }
}

impl Entered {
    /// Work for the call, which holds the slot while it runs.
    pub(crate) fn start(&self) -> Running {
        self.0.running.fetch_add(1, Ordering::Relaxed);
        Running {
            place: Arc::clone(&self.0),
        }
    }

    /// Runs work away from the async threads. A panic is an error.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Work) -> T + Send + 'static,
    ) -> Result<T, Unavailable> {
        let running = self.start();
        let (answer, answered) = oneshot::channel();
        // A separate thread: its priority can't be raised again.
        let started = thread::Builder::new()
            .name("tessera-heavy".to_owned())
            .spawn(move || {
                give_way();
                let worked = work(running.work());
                drop(running);
                // There is no receiver if the caller has left.
                let _ = answer.send(worked);
            });
        started.map_err(|error| {
            tracing::error!(%error, "no thread for work on a policy");
            Unavailable::Overloaded
        })?;
        // A panic message may repeat the files.
        answered.await.map_err(|_| {
            tracing::error!("work on a policy panicked");
            Unavailable::Defect("work on a policy panicked")
        })
    }

    /// Fails if the work was stopped, so that its result is incomplete.
    pub(crate) fn check(&self) -> Result<(), Unavailable> {
        self.0.work.check().map_err(|Stopped| Unavailable::OutOfTime)
    }
}
