//! A unit that waits for a writer.

use std::time::Instant;

use tessera_store::{Placed, StoreError, UnitOfWork};
use tokio::sync::oneshot;

/// A unit, and its caller.
pub(crate) struct Waiting {
    pub(crate) unit: UnitOfWork,
    pub(crate) answer: oneshot::Sender<Result<Placed, StoreError>>,
    /// After this the caller no longer waits.
    pub(crate) deadline: Instant,
}

impl Waiting {
    /// Whether nobody waits for it any longer. It must not run then: its caller may have repeated its call at another
    /// node meanwhile, and gone on from there.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }
}
