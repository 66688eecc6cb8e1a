//! The log lines of exchanges: caller, call, address and outcome.
//!
//! Refusals are sampled, so that no caller can fill the log: callers without a credential share a rate, and each client
//! has its own. The number of lines left out is logged. Changes are always logged: they are authorized, and few.

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicU64, Ordering},
};

use governor::DefaultDirectRateLimiter;

use super::{exchange::Exchange, outcome::Failed, sampler::sampler};

/// Refusals per second that are logged of all callers without a credential; in bursts of five times as many.
const STRANGERS_PER_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(19);

/// The log of exchanges.
pub(super) struct CallLog {
    strangers: DefaultDirectRateLimiter,
    left_out: AtomicU64,
}

impl Default for CallLog {
    fn default() -> Self {
        Self {
            strangers: sampler(STRANGERS_PER_SECOND),
            left_out: AtomicU64::new(0),
        }
    }
}

impl CallLog {
    /// Logs the answer of an exchange.
    pub(super) fn answered(&self, exchange: &Exchange, outcome: Result<(), Failed<'_>>) {
        let rpc = exchange.route.name;
        let request_id = exchange.request_id();
        let took = exchange.took();
        let Err(failed) = outcome else {
            tracing::debug!(
                rpc,
                request_id,
                trace_id = exchange.trace_id(),
                ?took,
                "call served"
            );
            return;
        };
        if !tracing::enabled!(tracing::Level::INFO) || !self.admits(exchange) {
            return;
        }
        let who = Who::of(exchange);
        tracing::info!(
            rpc,
            code = ?failed.code,
            reason = Some(failed.reason).filter(|reason| !reason.is_empty()),
            decision = failed.decision,
            detail = failed.message,
            realm = who.realm,
            client = who.client,
            api_key = who.api_key,
            address = %exchange.address,
            request_id,
            trace_id = exchange.trace_id(),
            ?took,
            "call refused"
        );
    }

    /// Whether another line about a refusal of this caller may be written now.
    pub(super) fn admits(&self, exchange: &Exchange) -> bool {
        let sampler = exchange.client().map_or(&self.strangers, |client| &client.log);
        let admits = sampler.check().is_ok();
        if !admits {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
        admits
    }

    /// Logs how many lines were left out since the last time.
    pub(super) fn report_left_out(&self) {
        let lines = self.left_out.swap(0, Ordering::Relaxed);
        if lines > 0 {
            tracing::warn!(lines, "refusals were too many to log each");
        }
    }
}

/// Logs a change that a call made: the caller, the change, and the address.
pub(super) fn changed(exchange: &Exchange, change: &str, target: &str) {
    let who = Who::of(exchange);
    tracing::info!(
        change,
        target,
        rpc = exchange.route.name,
        realm = who.realm,
        client = who.client,
        api_key = who.api_key,
        address = %exchange.address,
        request_id = exchange.request_id(),
        trace_id = exchange.trace_id(),
        "changed"
    );
}

/// The authenticated caller, if any.
#[derive(Default)]
struct Who<'a> {
    realm: Option<&'a str>,
    client: Option<&'a str>,
    api_key: Option<&'a str>,
}

impl<'a> Who<'a> {
    fn of(exchange: &'a Exchange) -> Self {
        exchange.principal().map_or_else(Self::default, |principal| Self {
            realm: Some(principal.realm_name().as_str()),
            client: Some(principal.client().as_str()),
            api_key: Some(principal.api_key().as_str()),
        })
    }
}
