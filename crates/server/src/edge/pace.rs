//! How often an address may request public content. Requests beyond that wait, so that many connections of one host
//! don't take the time of all others.

use std::{future::poll_fn, net::IpAddr, num::NonZeroU32, task::Poll, time::Duration};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::{exchange::Exchange, refusals::network_of};
use crate::error::ApiError;

/// How long a request waits.
const WAIT: Duration = Duration::from_millis(250);

/// How often each address requested lately.
pub(crate) struct Pace {
    rate: Option<DefaultKeyedRateLimiter<IpAddr>>,
}

impl Pace {
    /// `per_second` in bursts of five times as many; `None`: no limit.
    pub(crate) fn new(per_second: Option<NonZeroU32>) -> Self {
        let burst = NonZeroU32::MIN.saturating_add(4);
        Self {
            rate: per_second.map(|rate| {
                RateLimiter::keyed(Quota::per_second(rate).allow_burst(rate.saturating_mul(burst)))
            }),
        }
    }

    /// Waits if the exchange's address made too many requests. Meanwhile the exchange can be evicted for another.
    ///
    /// # Errors
    /// Fails if it was evicted.
    pub(crate) async fn keep(&self, exchange: &Exchange) -> Result<(), ApiError> {
        if self.admits(exchange.address) {
            return Ok(());
        }
        let gives_way = poll_fn(|cx| match exchange.stranger() {
            Some(stranger) if stranger.poll_evicted(cx.waker()) => Poll::Ready(stranger.eviction()),
            _ => Poll::Pending,
        });
        tokio::select! {
            () = tokio::time::sleep(WAIT.min(exchange.time_left())) => Ok(()),
            eviction = gives_way => Err(eviction),
        }
    }

    fn admits(&self, address: IpAddr) -> bool {
        let rate = self.rate.as_ref();
        rate.is_none_or(|rate| rate.check_key(&network_of(address)).is_ok())
    }

    pub(crate) fn forget_idle(&self) {
        if let Some(rate) = &self.rate {
            rate.retain_recent();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_a_burst_of_its_own() {
        let pace = Pace::new(NonZeroU32::new(2));
        let one: IpAddr = [192, 0, 2, 1].into();
        assert!((0..10).all(|_| pace.admits(one)));
        assert!(!pace.admits(one));
        assert!(pace.admits([192, 0, 2, 2].into()));
        let none = Pace::new(None);
        assert!((0..1000).all(|_| none.admits(one)));
    }
}
