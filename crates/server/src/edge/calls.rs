//! What all services share, and how a call is served: within its time, counted and logged.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    time::{Duration, Instant},
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use http::Extensions;
use tessera_authority::{AuthenticateError, Authority, Principal, RevokeRequest, Revoked};
use tessera_policy::Permission;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    bytes::ByteBudget,
    clients::Clients,
    exchange::Exchange,
    limits::Limits,
    log,
    metrics::Metrics,
    outcome::Failed,
    pace::Pace,
    peer::Peer,
    refusals::Refusals,
    strangers::Strangers,
    trace::{Traces, Tracing},
};
use crate::error::ApiError;

/// Bytes of requests on one connection that are read and not yet decoded: a few of the longest.
const CONNECTION_REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of answers on one connection that the peer has not taken yet.
const CONNECTION_ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The state that all services share.
pub(crate) struct Edge {
    pub(crate) authority: Arc<Authority>,
    pub(crate) metrics: Arc<Metrics>,
    pub(super) limits: Limits,
    pub(super) clients: Clients,
    pub(super) strangers: Arc<Strangers>,
    pub(super) refusals: Refusals,
    pub(super) pace: Pace,
    pub(super) proxy_checks: DefaultDirectRateLimiter,
    pub(super) request_bytes: Arc<ByteBudget>,
    pub(super) answer_bytes: Arc<ByteBudget>,
    pub(super) log: log::CallLog,
    /// `None` if no traces are collected.
    pub(super) tracing: Option<Tracing>,
}

/// An authenticated call.
pub(crate) struct Caller {
    pub(crate) principal: Principal,
    /// The remaining time of the caller's deadline.
    pub(crate) time_left: Duration,
    exchange: Arc<Exchange>,
}

impl Edge {
    pub(crate) fn new(
        authority: Arc<Authority>,
        metrics: Arc<Metrics>,
        limits: &Limits,
        traces: Option<Traces>,
    ) -> Self {
        let realms = authority.realms().values().map(AsRef::as_ref);
        Self {
            clients: Clients::new(limits, realms),
            authority,
            metrics,
            strangers: Strangers::new(limits.unauthenticated_calls_max, limits.request_bytes_max / 4),
            refusals: Refusals::new(limits.refusals_per_second_per_address),
            pace: Pace::new(limits.open_requests_per_second_per_address),
            proxy_checks: RateLimiter::direct(Quota::per_second(limits.proxy_checks_per_second)),
            request_bytes: ByteBudget::new(limits.request_bytes_max),
            answer_bytes: ByteBudget::new(limits.answer_bytes_max),
            log: log::CallLog::default(),
            tracing: traces.map(Tracing::new),
            limits: limits.clone(),
        }
    }

    /// The other end of a new connection.
    pub(crate) fn peer(address: std::net::SocketAddr) -> Peer {
        Peer::new(address, CONNECTION_REQUEST_BYTES_MAX, CONNECTION_ANSWER_BYTES_MAX)
    }

    /// Serves one call of the authenticated client. `bytes` returns the size of an answer.
    pub(crate) async fn call<Res, Fut>(
        &self,
        exchange: &Arc<Exchange>,
        handle: impl FnOnce(Caller) -> Fut,
        bytes: impl FnOnce(&Res) -> usize,
    ) -> Result<Res, ApiError>
    where
        Fut: Future<Output = Result<Res, ApiError>>,
    {
        let answer = pin!(async {
            let principal = exchange.principal().cloned();
            let principal = principal.ok_or_else(ApiError::no_credential)?;
            let time_left = exchange.time_left();
            let caller = Caller {
                principal,
                time_left,
                exchange: Arc::clone(exchange),
            };
            let answer = within(time_left, pin!(handle(caller))).await?;
            exchange.hold_answer(bytes(&answer), &self.answer_bytes)?;
            Ok(answer)
        });
        self.observed(exchange, answer).await
    }

    /// Serves one request that needs no credential, or whose handler authenticates its caller by itself.
    pub(crate) async fn endpoint<Res>(
        &self,
        exchange: &Exchange,
        answer: impl Future<Output = Result<Res, ApiError>>,
    ) -> Result<Res, ApiError> {
        let answer = pin!(answer);
        let answer = pin!(within(exchange.time_left(), answer));
        self.observed(exchange, answer).await
    }

    /// Authenticates a client by its API key, counts the call against the client's limits, and waits for its turn.
    pub(crate) async fn authenticate(
        &self,
        exchange: &Arc<Exchange>,
        credential: Option<&str>,
    ) -> Result<Principal, ApiError> {
        let principal = self.identify(exchange, credential).await?;
        let client = self.clients.of(&principal);
        exchange.authenticated(principal.clone(), Arc::clone(&client));
        if let Some(tracing) = &self.tracing {
            tracing.begin(exchange);
        }
        if let Some(stranger) = exchange.stranger() {
            // It sent its key in the body. From here on the bounds of its client apply.
            stranger.becomes_known();
        }
        let spent = client
            .spend(exchange.route.cost)
            .and_then(|()| client.write(exchange.route.writes_kib));
        if let Err(refused) = spent {
            client.hold_back(exchange.time_left()).await;
            return Err(refused);
        }
        let is_administrator = || self.is_administrator(&principal);
        let places = self.clients.enter(&client, exchange.route, is_administrator);
        exchange.hold(Some(places.await?));
        Ok(principal)
    }

    /// Identifies the holder of a credential.
    async fn identify(&self, exchange: &Exchange, credential: Option<&str>) -> Result<Principal, ApiError> {
        let address = exchange.address;
        let refused = match credential {
            Some(credential) => {
                self.refusals.admit(address, credential)?;
                let credentials = self.authority.credentials();
                let principal = if exchange.route.reads_key_again {
                    credentials.recognize(credential, address).await
                } else {
                    credentials.authenticate(credential, address).await
                };
                match principal {
                    Ok(principal) => {
                        self.refusals.accepted(credential);
                        return Ok(principal);
                    }
                    Err(refused) => refused,
                }
            }
            None => {
                self.refusals.refused(address)?;
                return Err(ApiError::no_credential());
            }
        };
        if !matches!(refused, AuthenticateError::Unavailable(_)) {
            self.refusals.refused(address)?;
        }
        Err(refused.into())
    }

    fn is_administrator(&self, principal: &Principal) -> bool {
        let policy = self.authority.policy();
        [
            Permission::RevokeSessions,
            Permission::RevokeRealm,
            Permission::ApplyPolicies,
        ]
        .iter()
        .any(|permission| policy.permits(principal.realm_name(), principal.client(), permission))
    }

    /// Counts a refused credential of `exchange`; fails if that happens too often.
    pub(crate) fn count_refusal(&self, exchange: &Exchange) -> Result<(), ApiError> {
        self.refusals.refused(exchange.address)
    }

    /// Whether a credential of `exchange` may be looked up.
    pub(crate) fn admit_credential(&self, exchange: &Exchange, credential: &str) -> Result<(), ApiError> {
        self.refusals.admit(exchange.address, credential)
    }

    /// Counts a signature that is checked for a proxy.
    pub(crate) fn count_proxy_check(&self) -> Result<(), ApiError> {
        self.proxy_checks.check().map_err(|_| ApiError::overloaded())
    }

    /// Whether a line about a refusal of this caller may be written now.
    pub(crate) fn may_log(&self, exchange: &Exchange) -> bool {
        self.log.admits(exchange)
    }

    /// Ends the unfinished exchanges of callers without a credential, and streams to them: the server is stopping.
    pub(crate) fn dismiss_strangers(&self) {
        self.strangers.dismiss();
    }

    /// Performs the periodic tasks of the server.
    pub(crate) fn housekeeping(&self) {
        self.clients.forget_idle(Instant::now());
        self.refusals.forget_idle();
        self.pace.forget_idle();
        if let Some(tracing) = &self.tracing {
            tracing.forget_idle();
        }
        self.log.report_left_out();
    }

    pub(super) async fn observed<Res>(
        &self,
        exchange: &Exchange,
        answer: Pin<&mut impl Future<Output = Result<Res, ApiError>>>,
    ) -> Result<Res, ApiError> {
        let answer = answer.await;
        if let Err(error) = &answer {
            self.note_refused(exchange, error).await;
        }
        let outcome = answer.as_ref().map(|_| ()).map_err(Failed::from);
        self.observe(exchange, outcome);
        answer
    }

    /// The same error, once the audit trail records that policy does not permit the call: for streams, which are not
    /// observed like calls.
    pub(crate) async fn refused(&self, exchange: &Exchange, error: ApiError) -> ApiError {
        self.note_refused(exchange, &error).await;
        error
    }

    /// Records in the audit trail that policy does not permit the call to the client.
    pub(super) async fn note_refused(&self, exchange: &Exchange, error: &ApiError) {
        if let (Some(principal), Some(required)) = (exchange.principal(), error.missing_permission()) {
            let call = exchange.route.name;
            self.authority
                .refusals()
                .call_refused(principal, call, required)
                .await;
        }
    }

    /// Counts and logs the answer of an exchange, once.
    pub(super) fn observe(&self, exchange: &Exchange, outcome: Result<(), Failed<'_>>) {
        if !exchange.observe_once() {
            return;
        }
        self.metrics.count_call(exchange.route, outcome, exchange.took());
        if let Some(tracing) = &self.tracing {
            tracing.answered(exchange, outcome);
        }
        self.log.answered(exchange, outcome);
    }
}

impl Caller {
    /// Counts additional cost that was found after the call began.
    pub(crate) async fn spend(&self, cost: u32) -> Result<(), ApiError> {
        let Some(client) = self.exchange.client() else {
            return Ok(());
        };
        let spent = client.spend(cost);
        if spent.is_err() {
            client.hold_back(self.exchange.time_left()).await;
        }
        spent
    }

    /// Waits for the client's turn to count sessions. The turn is held until the returned permit is dropped.
    pub(crate) async fn counting_turn(&self) -> Result<Option<OwnedSemaphorePermit>, ApiError> {
        match self.exchange.client() {
            Some(client) => client.counting_turn().await.map(Some),
            None => Ok(None),
        }
    }

    /// Logs that the call revoked something.
    pub(crate) fn revoked(&self, request: &RevokeRequest, revoked: &Revoked) {
        log_revocation(&self.exchange, request, revoked);
    }

    /// Logs a change that the call made.
    pub(crate) fn changed(&self, change: &str, target: &str) {
        log::changed(&self.exchange, change, target);
    }
}

impl Edge {
    /// While `waiting` runs, the call has a slot among the waiting calls, and none among those at work.
    pub(crate) async fn wait<Res>(
        &self,
        caller: &Caller,
        waiting: impl Future<Output = Result<Res, ApiError>>,
    ) -> Result<Res, ApiError> {
        let exchange = &caller.exchange;
        let Some(client) = exchange.client() else {
            return waiting.await;
        };
        exchange.hold(Some(self.clients.wait(client)?));
        let waited = waiting.await?;
        let places = self.clients.enter(client, exchange.route, || false);
        exchange.hold(Some(places.await?));
        Ok(waited)
    }
}

/// Logs that `exchange` revoked something. A call that only counts, or that finds nothing to end, is not a change: a
/// client with a key can repeat it as often as its rate allows.
pub(crate) fn log_revocation(exchange: &Exchange, request: &RevokeRequest, revoked: &Revoked) {
    if revoked.is_change {
        let target = format!("{} (sessions: {})", request.target, revoked.matched);
        log::changed(exchange, "revoked", &target);
    }
}

/// The exchange that the gate began.
pub(crate) fn exchange(extensions: &Extensions) -> Result<Arc<Exchange>, ApiError> {
    extensions.get::<Arc<Exchange>>().cloned().ok_or_else(|| {
        tracing::error!("a request did not pass the gate");
        ApiError::internal("a request did not pass the gate")
    })
}

/// Pinned in its location: a future that is passed by value is copied, and each future that waits for it is twice as
/// large.
async fn within<Res>(
    time: Duration,
    answer: Pin<&mut impl Future<Output = Result<Res, ApiError>>>,
) -> Result<Res, ApiError> {
    match tokio::time::timeout(time, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(ApiError::deadline_exceeded()),
    }
}
