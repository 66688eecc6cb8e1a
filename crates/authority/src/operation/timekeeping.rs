//! Watching the clock, and telling the store the time.
//!
//! The clock that the authority is given does not jump with the machine's ([`SteadyClock`](tessera_core::SteadyClock)),
//! but it must be compared with the machine's regularly. How long the authority was stopped can only be known from what
//! it wrote before: when it last served.

use std::{sync::Arc, time::Duration};

use tessera_core::{ClockState, RealmLimits, Seconds, Timestamp};
use tessera_store::{SettingChange, StoreError};

use crate::{
    shared::{Shared, setting::setting},
    signing_key::signing_keys::SigningKeys,
};

/// How often the clock is checked.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How old the last sign of life may be while a client's retry depends on it.
const ALIVE_MAX: Seconds = Seconds(5);
/// And while no retry does. After a crash, a clock that was set back by less than this is accepted.
const IDLE_ALIVE_MAX: Seconds = Seconds(60);

/// When the store must be told that the authority serves.
struct Heartbeat {
    /// The time that this process wrote last.
    written: Option<Timestamp>,
    /// Until then a grace window may be open.
    busy_until: Timestamp,
}

/// Watches the clock, and does what is due at a time.
pub struct Timekeeping {
    shared: Arc<Shared>,
    signing_keys: Arc<SigningKeys>,
}

impl Timekeeping {
    pub(crate) fn new(shared: &Arc<Shared>, signing_keys: &Arc<SigningKeys>) -> Self {
        Self {
            shared: Arc::clone(shared),
            signing_keys: Arc::clone(signing_keys),
        }
    }

    /// The state of the clock, compared with the machine's.
    #[must_use]
    pub fn clock_state(&self) -> ClockState {
        self.shared.clock.observe()
    }

    /// Checks the clock, and records that the authority serves, for as long as it is polled.
    pub(crate) async fn keep_time(&self) {
        let mut heartbeat = Heartbeat {
            written: None,
            busy_until: Timestamp::EPOCH,
        };
        let mut before = ClockState::default();
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let state = self.clock_state();
            report(before, state);
            before = state;
            if let Err(error) = self.signing_keys.advance_signing_keys().await {
                tracing::warn!(%error, "what is due with the signing keys can't be done");
            }
            if heartbeat.is_due(self.shared.store.log().times().alive, self.shared.clock.now()) {
                match self.note_alive().await {
                    Ok(now) => heartbeat.written = Some(now),
                    Err(error) => tracing::warn!(%error, "the time of the last service can't be kept"),
                }
            }
        }
    }

    /// Records that the authority serves now.
    pub(crate) async fn note_alive(&self) -> Result<Timestamp, StoreError> {
        let (now, settled) = (self.shared.clock.now(), self.shared.clock.settled());
        self.shared
            .store
            .write(setting(SettingChange::Alive { now, settled }))
            .await?;
        Ok(now)
    }

    /// Records that the authority serves again, after a time in which it did not.
    pub(crate) async fn note_start(&self) -> Result<(), StoreError> {
        let (now, settled) = (self.shared.clock.now(), self.shared.clock.settled());
        self.shared
            .store
            .write(setting(SettingChange::Started { now, settled }))
            .await?;
        Ok(())
    }
}

impl Heartbeat {
    /// Commits are signs of life, too.
    fn is_due(&mut self, alive: Option<Timestamp>, now: Timestamp) -> bool {
        let Some(alive) = alive else { return true };
        if self.written != Some(alive) {
            self.busy_until = alive.plus(RealmLimits::GRACE_MAX).plus(ALIVE_MAX);
        }
        let longest = if now < self.busy_until {
            ALIVE_MAX
        } else {
            IDLE_ALIVE_MAX
        };
        now.millis_since(alive).abs() >= i64::from(longest.0) * 1000
    }
}

/// Logs if the machine's clock stepped, is right again, or is accepted.
fn report(before: ClockState, now: ClockState) {
    let offset_seconds = now.offset_millis / 1000;
    if now.steps > before.steps {
        tracing::error!(
            offset_seconds,
            "the machine's clock stepped: time goes on as before, and nothing is removed, until that clock is right again or has said the same for a tenth of the step. Look at the machine's time service; where the clock is right, a restart with `--accept-clock` accepts it at once"
        );
    } else if before.is_stepped && !now.is_stepped {
        tracing::warn!(offset_seconds, "the machine's clock is believed again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u32) -> Timestamp {
        Timestamp::from_seconds(1_795_000_000).plus(Seconds(second))
    }

    #[test]
    fn signs_of_life_are_written_each_minute_and_often_while_a_window_may_be_open() {
        let mut heartbeat = Heartbeat {
            written: None,
            busy_until: Timestamp::EPOCH,
        };
        let (mut alive, mut written) = (at(0), Vec::new());
        for second in 0..4000 {
            if heartbeat.is_due(Some(alive), at(second)) {
                alive = at(second);
                heartbeat.written = Some(alive);
                written.push(second);
            }
        }
        assert_eq!(written.iter().filter(|second| **second <= 65).count(), 12);
        let idle = written.iter().filter(|second| **second > 65).count();
        assert_eq!(idle, (4000 - 65) / 60, "{written:?}");
    }
}
