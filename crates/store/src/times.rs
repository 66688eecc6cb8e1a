//! The times that a store keeps besides those in its rows.

use serde::{Deserialize, Serialize};
use tessera_core::{RealmLimits, Timestamp};

/// Times that are kept with the data, so that the clock is not the only source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// When something was committed last, or the authority last reported that it serves.
    pub alive: Option<Timestamp>,
    /// The settled time that the authority reported last: see [`Clock::settled`](tessera_core::Clock::settled).
    pub settled: Option<Timestamp>,
    /// The latest time of any change: no token has a later time of issue.
    pub latest: Option<Timestamp>,
    /// When the authority could not answer, oldest first. Outages that can't matter any longer are left out.
    pub outages: Vec<Outage>,
}

/// A period in which the authority could not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outage {
    /// When it answered last, as far as known.
    pub from: Timestamp,
    /// When it answered again.
    pub to: Timestamp,
}

/// How many outages are kept: an authority that restarts more often within a minute is not serving.
const OUTAGES_MAX: usize = 16;

impl Times {
    /// Notes that something is done at `at`.
    pub fn note(&mut self, at: Timestamp) {
        self.alive = Some(at);
        self.latest = self.latest.max(Some(at));
    }

    /// Notes that the authority serves at `now`.
    pub fn note_alive(&mut self, now: Timestamp, settled: Timestamp) {
        self.alive = Some(now);
        self.settled = Some(settled);
    }

    /// Notes that the authority answers again from `now` on.
    pub fn note_start(&mut self, now: Timestamp, settled: Timestamp) {
        if let Some(from) = self.alive.filter(|alive| *alive < now) {
            // After one window of service since the outage, no retry can depend on it.
            self.outages
                .retain(|outage| from <= outage.to.plus(RealmLimits::GRACE_MAX));
            let surplus = (self.outages.len() + 1).saturating_sub(OUTAGES_MAX);
            self.outages.drain(..surplus);
            self.outages.push(Outage { from, to: now });
        }
        self.note_alive(now, settled);
    }

    /// How many milliseconds between `from` and `to` the authority could not answer.
    #[must_use]
    pub fn away_millis(&self, from: Timestamp, to: Timestamp) -> i64 {
        let overlaps = self
            .outages
            .iter()
            .map(|outage| outage.to.min(to).millis_since(outage.from.max(from)).max(0));
        overlaps.fold(0, i64::saturating_add)
    }

    /// How many milliseconds `at` is before the latest issue of a token: the clock was ahead then, or is behind now.
    /// What must be kept until a token has ended must be kept for that much longer.
    #[must_use]
    pub fn lead_millis(&self, at: Timestamp) -> i64 {
        self.latest.map_or(0, |latest| latest.millis_since(at).max(0))
    }
}

#[cfg(test)]
mod tests {
    use tessera_core::Seconds;

    use super::*;

    fn at(second: u32) -> Timestamp {
        Timestamp::from_seconds(1_795_000_000).plus(Seconds(second))
    }

    #[test]
    fn only_the_time_between_the_last_commit_and_the_start_is_away() {
        let mut times = Times::default();
        times.note_start(at(0), at(0));
        assert!(times.outages.is_empty(), "a new store was never away");
        times.note(at(100));
        times.note_start(at(112), at(112));
        assert_eq!(times.away_millis(at(99), at(115)), 12_000);
        assert_eq!(times.away_millis(at(105), at(115)), 7_000);
        assert_eq!(times.away_millis(at(113), at(115)), 0);
    }

    #[test]
    fn a_second_crash_adds_up_and_a_window_of_service_forgets() {
        let mut times = Times::default();
        times.note(at(100));
        times.note_start(at(120), at(120));
        times.note(at(121));
        times.note_start(at(151), at(151));
        assert_eq!(times.away_millis(at(100), at(152)), 50_000);
        times.note(at(300));
        times.note_start(at(301), at(301));
        assert_eq!(times.away_millis(at(100), at(302)), 1_000);
        for second in 0..100 {
            times.note_start(at(400 + second), at(400));
        }
        assert_eq!(times.outages.len(), OUTAGES_MAX);
    }
}
