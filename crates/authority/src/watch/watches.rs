//! The watches of the revocation log.

use std::{sync::Arc, time::Duration};

use crate::{
    credential::credentials::Credentials,
    log::{fence::Fence, subscribers::StalenessBound},
    shared::Shared,
    signing_key::signing_keys::SigningKeys,
};

/// Watching the revocation log.
pub struct Watches {
    pub(super) shared: Arc<Shared>,
    pub(super) credentials: Arc<Credentials>,
    pub(super) signing_keys: Arc<SigningKeys>,
    pub(super) fence: Arc<Fence>,
    /// How long a watcher's full queue may make no progress before its subscriber is ended.
    pub(super) stall_max: Duration,
    /// How long a required subscriber may keep answering without receiving revocations.
    pub(super) bound_max: StalenessBound,
}

impl Watches {
    /// `stall_max` is how long a subscriber may take nothing, `bound_max` the longest bound of a required one.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        credentials: &Arc<Credentials>,
        signing_keys: &Arc<SigningKeys>,
        fence: &Arc<Fence>,
        stall_max: Duration,
        bound_max: StalenessBound,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            credentials: Arc::clone(credentials),
            signing_keys: Arc::clone(signing_keys),
            fence: Arc::clone(fence),
            stall_max,
            bound_max,
        }
    }
}
