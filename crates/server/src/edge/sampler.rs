//! How many lines of one kind are logged.

use std::num::NonZeroU32;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

const FIVE: NonZeroU32 = NonZeroU32::MIN.saturating_add(4);

/// This number of lines per second, in bursts of five times as many.
pub(super) fn sampler(per_second: NonZeroU32) -> DefaultDirectRateLimiter {
    RateLimiter::direct(Quota::per_second(per_second).allow_burst(per_second.saturating_mul(FIVE)))
}
