//! How many calls may be made in a second, and how much may be written in an hour: by one client, or by all clients of
//! a sandbox.

use std::{num::NonZeroU32, time::Duration};

use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
};

use super::limits::RateLimits;

/// Longer than each rate takes to refill; that of the disk is the slowest.
pub(super) const REFILLED_AFTER: Duration = Duration::from_secs(DISK_BURST_SECONDS as u64 + 30);
const DISK_BURST_SECONDS: u32 = 30;
const TWO: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);

/// The remaining allowance of both rates.
pub(super) struct Rates {
    calls: Option<Rate>,
    /// In KiB.
    disk: Option<Rate>,
}

struct Rate {
    limiter: DefaultDirectRateLimiter,
    /// The maximum count of one call: a call that costs more than a burst would never fit.
    burst: u32,
}

impl Rates {
    pub(super) fn new(limits: &RateLimits) -> Self {
        Self {
            calls: limits.calls_per_second.map(|rate| {
                let burst = rate.saturating_mul(TWO);
                Rate::new(Quota::per_second(rate), burst)
            }),
            disk: limits.disk_mib_per_hour.and_then(disk),
        }
    }

    /// Counts a call, or a part of one. If too little is left, nothing is taken, and the error is the time until there
    /// is enough.
    pub(super) fn spend(&self, cost: u32) -> Result<(), Duration> {
        self.calls.as_ref().map_or(Ok(()), |calls| calls.take(cost))
    }

    /// The same for the amount that a call is about to write.
    pub(super) fn write(&self, kib: u32) -> Result<(), Duration> {
        self.disk.as_ref().map_or(Ok(()), |disk| disk.take(kib))
    }
}

impl Rate {
    fn new(quota: Quota, burst: NonZeroU32) -> Self {
        Self {
            limiter: RateLimiter::direct(quota.allow_burst(burst)),
            burst: burst.get(),
        }
    }

    fn take(&self, cost: u32) -> Result<(), Duration> {
        let Some(cost) = NonZeroU32::new(cost.min(self.burst)) else {
            return Ok(());
        };
        match self.limiter.check_n(cost) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_until)) => Err(not_until.wait_time_from(DefaultClock::default().now())),
            // It costs more than a burst, which is excluded above.
            Err(_) => Err(Duration::from_secs(60)),
        }
    }
}

/// In bursts of half a minute's.
fn disk(mib_per_hour: NonZeroU32) -> Option<Rate> {
    let kib_per_hour = mib_per_hour.get().saturating_mul(1024);
    let burst = NonZeroU32::new(kib_per_hour / (3600 / DISK_BURST_SECONDS)).unwrap_or(NonZeroU32::MIN);
    let each = Duration::from_secs(3600) / kib_per_hour;
    Some(Rate::new(Quota::with_period(each)?, burst))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates() -> Rates {
        Rates::new(&RateLimits {
            calls_per_second: NonZeroU32::new(10),
            disk_mib_per_hour: NonZeroU32::new(4),
        })
    }

    #[test]
    fn a_call_counts_for_what_it_costs() {
        let some = rates();
        some.spend(15).unwrap();
        some.spend(5).unwrap();
        assert!(some.spend(1).is_err());
        some.spend(0).unwrap();
        let others = rates();
        others.spend(500).unwrap();
        assert!(
            others.spend(1).is_err(),
            "what is dearer than a burst takes all of it"
        );
    }

    #[test]
    fn half_a_minutes_disk_may_be_written_at_once() {
        let rates = rates();
        rates.write(4 * 1024 / 120).unwrap();
        assert!(rates.write(1).is_err());
    }

    #[test]
    fn no_limit_is_none() {
        let rates = Rates::new(&RateLimits {
            calls_per_second: None,
            disk_mib_per_hour: None,
        });
        rates.spend(u32::MAX).unwrap();
        rates.spend(u32::MAX).unwrap();
        rates.write(u32::MAX).unwrap();
    }
}
