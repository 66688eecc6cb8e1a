//! Retries that come together count as one.
//!
//! A session allows five replays of its last refresh. Fifty threads of one client that refresh at once
//! must all be answered, although their calls reach the server one after the other: so a replay waits
//! for a moment, and those of the same token that arrive meanwhile are counted with it. Retries that
//! follow each other's answers are counted one by one.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tessera_core::SessionId;
use tokio::time::{Instant, sleep_until};

/// How long a replay waits for others.
const MOMENT: Duration = Duration::from_millis(50);

/// The replays that wait now, with the end of their moment.
#[derive(Default)]
pub(crate) struct ReplayCoalescer(Mutex<HashMap<(SessionId, u64), Instant>>);

impl ReplayCoalescer {
    /// Waits for the end of the moment, and answers whether this replay began it, and so counts for all.
    pub(crate) async fn join(&self, session: SessionId, generation: u64) -> bool {
        let (end, began) = self.enter(session, generation);
        sleep_until(end).await;
        began
    }

    fn enter(&self, session: SessionId, generation: u64) -> (Instant, bool) {
        let now = Instant::now();
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, end| *end > now);
        let mut began = false;
        let end = *open.entry((session, generation)).or_insert_with(|| {
            began = true;
            now + MOMENT
        });
        (end, began)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn replays_that_come_together_count_once_and_later_ones_again() {
        let replays = ReplayCoalescer::default();
        let (one, other) = (SessionId::from_bytes([1; 16]), SessionId::from_bytes([2; 16]));
        let (a, b, c, d) = tokio::join!(
            replays.join(one, 1),
            replays.join(one, 1),
            replays.join(other, 1),
            replays.join(one, 2)
        );
        assert_eq!([a, b, c, d], [true, false, true, true]);
        assert!(replays.join(one, 1).await, "the one before was answered");
    }
}
