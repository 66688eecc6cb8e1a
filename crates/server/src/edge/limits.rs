//! Bounds that keep one caller, or too many callers, from taking the server from the others.

use std::{num::NonZeroU32, time::Duration};

use tessera_core::AddressRange;

/// How much is served at once, and how much of it one caller may take. `tessera.example.toml` says why each has its
/// default.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Calls at work at once.
    pub calls_in_flight_max: usize,
    /// Further calls at work, for administrators when the others are taken.
    pub calls_reserved: usize,
    /// Exchanges at once with callers that have no credential, or have not sent it yet.
    pub unauthenticated_calls_max: usize,
    /// Calls that wait for something, including watches.
    pub waiting_calls_max: usize,
    /// Bytes of requests that are read and not yet decoded; a quarter of them for callers without a
    /// credential.
    pub request_bytes_max: usize,
    /// Bytes of answers that are given and not yet taken by the peer.
    pub answer_bytes_max: usize,
    /// Connections at once.
    pub connections_max: usize,
    /// Connections of one address at once.
    pub connections_per_address_max: usize,
    /// Streams of one connection at once.
    pub streams_per_connection_max: u32,
    /// How long a connection may be without a call.
    pub connection_idle_max: Duration,
    /// The same for a connection on which no client was authenticated, such as a proxy's or a browser's.
    pub stranger_idle_max: Duration,
    /// How long a message may take to arrive.
    pub message_time_max: Duration,
    /// How long the peer may take to take an answer.
    pub answer_time_max: Duration,
    /// The longest time of a call, with any deadline of its caller.
    pub call_time_max: Duration,
    /// How long running calls may continue once the server stops.
    pub drain_time_max: Duration,
    /// How long closing the store may take after that; then the process ends.
    pub close_time_max: Duration,
    /// What one client may take.
    pub per_client: ClientLimits,
    /// What all clients of a realm of the kind `sandbox` may take together.
    pub per_sandbox: SandboxLimits,
    /// Refused credentials a second from one address, in bursts of five times as many.
    pub refusals_per_second_per_address: NonZeroU32,
    /// Requests per second from one address for public content, in bursts of five times as many. Further ones wait;
    /// `None`: no limit.
    pub open_requests_per_second_per_address: Option<NonZeroU32>,
    /// Signatures a second that are checked for proxies, for tokens that were not seen before.
    pub proxy_checks_per_second: NonZeroU32,
    /// Proxies whose `x-forwarded-for` names the caller.
    pub trusted_proxies: Vec<AddressRange>,
}

/// What one client in one realm may take.
#[derive(Clone, Debug)]
pub struct ClientLimits {
    /// Its calls, and what they write.
    pub rates: RateLimits,
    /// Calls at work at once; further ones wait for their turn.
    pub calls_in_flight_max: usize,
    /// Calls that wait for their turn.
    pub calls_queued_max: usize,
    /// Calls that wait for something, and watches.
    pub waiting_calls_max: usize,
    /// Bytes of requests that are read and not yet decoded.
    pub request_bytes_max: usize,
}

/// What all clients of one sandbox realm may take together.
#[derive(Clone, Debug)]
pub struct SandboxLimits {
    /// Their calls, and what they write.
    pub rates: RateLimits,
    /// Calls at work at once; further ones are refused.
    pub calls_in_flight_max: usize,
}

/// Amounts per time.
#[derive(Clone, Debug)]
pub struct RateLimits {
    /// Calls per second, in bursts of twice as many; `None`: no limit. A call that costs more than an Issue counts for
    /// more than one.
    pub calls_per_second: Option<NonZeroU32>,
    /// MiB per hour that calls may write, audit records included, in bursts of half a minute's; `None`: no limit.
    pub disk_mib_per_hour: Option<NonZeroU32>,
}

const MIB: usize = 1024 * 1024;

impl Default for Limits {
    fn default() -> Self {
        Self {
            calls_in_flight_max: 4096,
            calls_reserved: 64,
            unauthenticated_calls_max: 1024,
            waiting_calls_max: 16_384,
            request_bytes_max: 64 * MIB,
            answer_bytes_max: 128 * MIB,
            connections_max: 4096,
            connections_per_address_max: 2048,
            streams_per_connection_max: 256,
            connection_idle_max: Duration::from_secs(300),
            stranger_idle_max: Duration::from_secs(90),
            message_time_max: Duration::from_secs(10),
            answer_time_max: Duration::from_secs(30),
            call_time_max: Duration::from_secs(30),
            drain_time_max: Duration::from_secs(8),
            close_time_max: Duration::from_secs(15),
            per_client: ClientLimits::default(),
            per_sandbox: SandboxLimits::default(),
            refusals_per_second_per_address: at_least_one(10),
            open_requests_per_second_per_address: Some(at_least_one(200)),
            proxy_checks_per_second: at_least_one(5000),
            trusted_proxies: Vec::new(),
        }
    }
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            rates: RateLimits::default(),
            calls_in_flight_max: 32,
            calls_queued_max: 1024,
            waiting_calls_max: 4096,
            request_bytes_max: 8 * MIB,
        }
    }
}

impl Default for SandboxLimits {
    fn default() -> Self {
        Self {
            rates: RateLimits::default(),
            calls_in_flight_max: 1024,
        }
    }
}

impl Default for RateLimits {
    fn default() -> Self {
        Self {
            calls_per_second: Some(at_least_one(5000)),
            disk_mib_per_hour: Some(at_least_one(8192)),
        }
    }
}

impl Limits {
    /// No limit on the rates of clients, for measurements and for tests of other things.
    #[must_use]
    pub fn without_rates(mut self) -> Self {
        self.per_client.rates = RateLimits::NONE;
        self.per_sandbox.rates = RateLimits::NONE;
        self
    }
}

impl RateLimits {
    const NONE: Self = Self {
        calls_per_second: None,
        disk_mib_per_hour: None,
    };
}

fn at_least_one(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN)
}
