//! Positions of the revocation log.

use serde::{Deserialize, Serialize};

/// A position in the log's total order, without gaps; 0 is the position before the first event. The first event is at
/// 1, or far higher in a log that was begun again with a data directory that was restored from a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The next position.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}
