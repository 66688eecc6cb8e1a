//! The options of a verifier.

use std::{fmt, sync::Arc, time::Duration};

use tessera_core::{Audience, Clock, LEEWAY_MAX, RealmName, Seconds, SubscriberName, SystemClock};
use tessera_token::Expectation;

use crate::{
    ClientOptions,
    connection::{Connection, ConnectionError},
};

/// How long a request waits for the answer about its token: a caller waits for it, and when a verifier is stale, the
/// authority usually can't be reached.
const INTROSPECT_DEADLINE: Duration = Duration::from_secs(2);

/// The tokens that a verifier accepts, and how it follows the authority.
#[derive(Clone, Debug)]
pub struct VerifierOptions {
    pub(super) connection: Connection,
    pub(super) realm: RealmName,
    pub(super) audience: Audience,
    pub(super) bound: Duration,
    pub(super) leeway: Seconds,
    pub(super) subscriber: Option<SubscriberName>,
    pub(super) required: bool,
    pub(super) cache_capacity: u64,
    pub(super) calls: ClientOptions,
    pub(super) clock: Arc<dyn Clock>,
}

impl VerifierOptions {
    /// A verifier of tokens of `realm` for `audience`. The connection's API key must belong to that realm, and to a
    /// client that policy permits to watch (`tessera/revocations:watch`).
    ///
    /// # Errors
    /// Fails if a name is not valid.
    pub fn new(connection: Connection, realm: &str, audience: &str) -> Result<Self, ConnectionError> {
        Ok(Self {
            connection,
            realm: RealmName::parse(realm).map_err(option)?,
            audience: Audience::parse(audience).map_err(option)?,
            bound: Duration::from_secs(10),
            leeway: Expectation::LEEWAY_DEFAULT,
            subscriber: None,
            required: false,
            cache_capacity: 10_000,
            calls: ClientOptions {
                deadline: INTROSPECT_DEADLINE,
                ..ClientOptions::default()
            },
            clock: Arc::new(SystemClock),
        })
    }

    /// How stale it may be and still allow tokens, 100 ms to 1 h. 10 s.
    #[must_use]
    pub fn staleness_bound(mut self, bound: Duration) -> Self {
        self.bound = bound;
        self
    }

    /// How far this machine's clock may differ from the authority's, at most a minute. 30 s.
    #[must_use]
    pub fn leeway(mut self, leeway: Seconds) -> Self {
        self.leeway = leeway;
        self
    }

    /// A name for logs and metrics. Two verifiers that run at the same time must not share it.
    ///
    /// # Errors
    /// Fails if it is not a valid name.
    pub fn subscriber(mut self, name: &str) -> Result<Self, ConnectionError> {
        self.subscriber = Some(SubscriberName::parse(name).map_err(option)?);
        Ok(self)
    }

    /// Whether `AwaitPropagation` waits for this verifier; it then needs a name.
    #[must_use]
    pub fn required(mut self, required: bool) -> Self {
        self.required = required;
        self
    }

    /// How many verified tokens are kept, about 2 KiB each. 10,000.
    #[must_use]
    pub fn cache_capacity(mut self, tokens: u64) -> Self {
        self.cache_capacity = tokens;
        self
    }

    /// How [`Mode::Introspect`](crate::Mode::Introspect) calls. The default [`ClientOptions`], except for a deadline of
    /// 2 s: a request waits for at most so long while this verifier is stale.
    #[must_use]
    pub fn calls(mut self, calls: ClientOptions) -> Self {
        self.calls = calls;
        self
    }

    /// The source of the time with which tokens are compared; the machine's clock unless a test sets it. Staleness
    /// never uses this clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    pub(super) fn check(&self) -> Result<(), ConnectionError> {
        if !(100..=3_600_000).contains(&self.bound.as_millis()) {
            return Err(option("the staleness bound must be between 100 ms and 1 h"));
        }
        if !(Seconds(0)..=LEEWAY_MAX).contains(&self.leeway) {
            return Err(option("the leeway must be at most a minute"));
        }
        if self.required && self.subscriber.is_none() {
            return Err(option("a required verifier needs a subscriber name"));
        }
        Ok(())
    }
}

fn option(problem: impl fmt::Display) -> ConnectionError {
    ConnectionError::Option(format!("{problem}"))
}
