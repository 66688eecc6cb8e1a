//! Which events a subscriber sees.

use sha2::{Digest, Sha256};
use tessera_core::{Audience, ClientName, Event, EventKind, FilterDigest};

/// Which events are sent; an empty list hides nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchFilter {
    /// Only events that can concern tokens of these audiences.
    pub audiences: Vec<Audience>,
    /// Only events that can concern tokens of these clients.
    pub clients: Vec<ClientName>,
    /// Only these kinds.
    pub kinds: Vec<EventKind>,
}

impl WatchFilter {
    pub(crate) fn shows(&self, event: &Event) -> bool {
        let is_named = |names: bool, only: bool| names || only;
        is_named(self.kinds.is_empty(), self.kinds.contains(&event.body.kind()))
            && event
                .body
                .audience()
                .is_none_or(|a| self.audiences.is_empty() || self.audiences.contains(a))
            && event
                .body
                .client()
                .is_none_or(|c| self.clients.is_empty() || self.clients.contains(c))
    }

    /// A cursor of another filter belongs to another stream.
    pub(crate) fn digest(&self) -> FilterDigest {
        if *self == Self::default() {
            return FilterDigest::NONE;
        }
        FilterDigest(Sha256::digest(format!("{self:?}").as_bytes()).into())
    }
}
