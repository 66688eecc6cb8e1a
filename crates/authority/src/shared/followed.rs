//! How far this node has followed the changes of the other nodes of a shared store.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tessera_core::Sequence;
use tessera_store::StoreError;
use tokio::{sync::watch as signal, time::timeout};

use crate::error::Unavailable;

/// How long a call waits until everything committed before it is followed.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(2);

/// How far this node has followed the log.
pub(crate) struct Followed {
    through: signal::Sender<Sequence>,
    /// Whether the last check failed: the store is unreachable, or the policy in force can't be used here.
    is_stuck: AtomicBool,
}

impl Followed {
    /// The state that was read includes everything up to `through`.
    pub(crate) fn from(through: Sequence) -> Self {
        Self {
            through: signal::Sender::new(through),
            is_stuck: AtomicBool::default(),
        }
    }

    /// The position up to which this node has followed the log.
    pub(crate) fn position(&self) -> Sequence {
        *self.through.borrow()
    }

    /// Everything up to `through` is followed.
    pub(crate) fn reach(&self, through: Sequence) {
        self.through.send_replace(through);
    }

    /// Waits until a position is followed.
    pub(crate) async fn wait_for(&self, position: Sequence) -> Result<(), Unavailable> {
        if self.position() >= position {
            return Ok(());
        }
        let mut through = self.through.subscribe();
        let reached = through.wait_for(|through| *through >= position);
        match timeout(FOLLOWED_WITHIN, reached).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Unavailable::Store(StoreError::Unavailable {
                detail: "what another node did is not followed yet".to_owned(),
            })),
        }
    }

    /// Whether the last attempt to follow failed.
    pub(crate) fn is_stuck(&self) -> bool {
        self.is_stuck.load(Ordering::Relaxed)
    }

    /// Notes whether an attempt to follow failed.
    pub(crate) fn set_stuck(&self, is_stuck: bool) {
        self.is_stuck.store(is_stuck, Ordering::Relaxed);
    }
}
