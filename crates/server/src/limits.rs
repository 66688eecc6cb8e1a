//! Bounds that keep one caller, or too many, from taking the server from the others.

use std::{net::IpAddr, num::NonZeroU32, sync::Arc, time::Duration};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter, clock::Clock as _, clock::DefaultClock};
use tessera_core::{ClientName, RealmName};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use crate::status;

/// How much is served at once, and how often one caller is.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Calls under way at once, watches not counted.
    pub calls_in_flight_max: usize,
    /// Connections at once; more wait to be accepted.
    pub connections_max: usize,
    /// Calls a second of one client, in bursts of twice as many; none: no limit.
    pub calls_per_second_per_client: Option<NonZeroU32>,
    /// Refused credentials a second from one address, in bursts of five times as many.
    pub refusals_per_second_per_address: NonZeroU32,
    /// The longest that a call may take, whatever its caller's deadline.
    pub call_time_max: Duration,
    /// How long calls under way may go on once the server stops.
    pub drain_time_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            calls_in_flight_max: 4096,
            connections_max: 4096,
            calls_per_second_per_client: None,
            refusals_per_second_per_address: NonZeroU32::MIN.saturating_add(9),
            call_time_max: Duration::from_secs(30),
            drain_time_max: Duration::from_secs(10),
        }
    }
}

/// The limits at work.
pub(crate) struct Limiter {
    in_flight: Arc<Semaphore>,
    per_client: Option<DefaultKeyedRateLimiter<(RealmName, ClientName)>>,
    refusals: DefaultKeyedRateLimiter<IpAddr>,
}

impl Limiter {
    pub(crate) fn new(limits: &Limits) -> Self {
        let per_client = limits
            .calls_per_second_per_client
            .map(|rate| RateLimiter::keyed(Quota::per_second(rate).allow_burst(rate.saturating_mul(two()))));
        let refusals = limits.refusals_per_second_per_address;
        let burst = refusals.saturating_mul(two().saturating_add(3));
        Self {
            in_flight: Arc::new(Semaphore::new(limits.calls_in_flight_max)),
            per_client,
            refusals: RateLimiter::keyed(Quota::per_second(refusals).allow_burst(burst)),
        }
    }

    /// A place among the calls under way.
    pub(crate) fn admit(&self) -> Result<OwnedSemaphorePermit, Status> {
        Arc::clone(&self.in_flight)
            .try_acquire_owned()
            .map_err(|_| status::overloaded())
    }

    /// Counts a call of a client.
    pub(crate) fn count_call(&self, realm: &RealmName, client: &ClientName) -> Result<(), Status> {
        let Some(per_client) = &self.per_client else {
            return Ok(());
        };
        per_client
            .check_key(&(realm.clone(), client.clone()))
            .map_err(|not_until| {
                status::rate_limited(not_until.wait_time_from(DefaultClock::default().now()))
            })
    }

    /// Counts a refused credential: who guesses is soon told to wait.
    pub(crate) fn count_refusal(&self, address: IpAddr) -> Result<(), Status> {
        self.refusals.check_key(&address).map_err(|not_until| {
            status::rate_limited(not_until.wait_time_from(DefaultClock::default().now()))
        })
    }

    /// Forgets callers that have not called for a while.
    pub(crate) fn forget_idle(&self) {
        if let Some(per_client) = &self.per_client {
            per_client.retain_recent();
        }
        self.refusals.retain_recent();
    }
}

fn two() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(1)
}
