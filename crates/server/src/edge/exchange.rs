//! One request and its answer, from the head of the request until the answer is taken.

use std::{
    borrow::Cow,
    net::IpAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use http::HeaderMap;
use opentelemetry::{Context, trace::TraceContextExt as _};
use parking_lot::{Mutex, MutexGuard};
use tessera_authority::Principal;
use uuid::Uuid;

use super::{
    bytes::{ByteBudget, TakenBytes},
    clients::{Client, Places},
    peer::{OpenExchange, Peer},
    route::Route,
    strangers::Stranger,
    trace::call::CallTrace,
};
use crate::error::ApiError;

/// The longest `x-request-id` that is accepted from a caller.
const REQUEST_ID_CHARACTERS_MAX: usize = 128;
/// No RPC that changes anything has a longer answer; listings do.
const SHORT_ANSWER_BYTES_MAX: usize = 64 * 1024;
/// tonic answers CANCELLED when a deadline passes; our answer, a little earlier, says what happened.
const DEADLINE_MARGIN: Duration = Duration::from_millis(5);

/// What every step of serving knows of a request.
pub(crate) struct Exchange {
    pub(crate) route: &'static Route,
    /// The address of the caller: the other end of the connection, or the address that a trusted proxy calls for.
    pub(crate) address: IpAddr,
    pub(crate) peer: Arc<Peer>,
    began: Instant,
    /// How long the call may take from `began`.
    time_max: Duration,
    request_id: String,
    /// Set once the caller is authenticated, with the limits of its client.
    caller: OnceLock<(Principal, Arc<Client>)>,
    stranger: Option<Stranger>,
    places: Mutex<Option<Places>>,
    answer_bytes: Mutex<TakenBytes>,
    /// Whether it was counted and logged.
    is_observed: AtomicBool,
    /// `None` if no traces are collected.
    pub(super) trace: Option<CallTrace>,
    _open: OpenExchange,
}

impl Exchange {
    pub(super) fn begin(
        route: &'static Route,
        peer: &Arc<Peer>,
        address: IpAddr,
        headers: &HeaderMap,
        time_max: Duration,
        stranger: Option<Stranger>,
        trace: Option<CallTrace>,
    ) -> Self {
        Self {
            route,
            address,
            peer: Arc::clone(peer),
            began: Instant::now(),
            time_max: deadline(headers).map_or(time_max, |asked| asked.min(time_max)),
            request_id: request_id(headers),
            caller: OnceLock::new(),
            stranger,
            places: Mutex::default(),
            answer_bytes: Mutex::default(),
            is_observed: AtomicBool::new(false),
            trace,
            _open: peer.begin_exchange(),
        }
    }

    /// The caller's name of the request, or a name that we gave it.
    pub(crate) fn request_id(&self) -> &str {
        &self.request_id
    }

    /// How long it has taken.
    pub(crate) fn took(&self) -> Duration {
        self.began.elapsed()
    }

    /// The remaining part of its maximum time.
    pub(crate) fn time_left(&self) -> Duration {
        self.time_max.saturating_sub(self.began.elapsed())
    }

    /// The authenticated caller.
    pub(crate) fn principal(&self) -> Option<&Principal> {
        self.caller.get().map(|(principal, _)| principal)
    }

    /// The limits of the authenticated client.
    pub(crate) fn client(&self) -> Option<&Arc<Client>> {
        self.caller.get().map(|(_, client)| client)
    }

    pub(crate) fn stranger(&self) -> Option<&Stranger> {
        self.stranger.as_ref()
    }

    /// The caller is authenticated.
    pub(super) fn authenticated(&self, principal: Principal, client: Arc<Client>) {
        self.peer.authenticated();
        // It is set once: by the gate, or by the handler if the body has the credential.
        let _ = self.caller.set((principal, client));
    }

    /// The exchange holds these slots from now on, and releases the earlier ones.
    pub(super) fn hold(&self, places: Option<Places>) {
        *lock(&self.places) = places;
    }

    /// Takes bytes for its answer from the budgets, until the answer is taken. A short answer needs none: it may report
    /// a completed change, and its client's slots bound how many of them there are.
    pub(super) fn hold_answer(&self, bytes: usize, all: &Arc<ByteBudget>) -> Result<(), ApiError> {
        if bytes <= SHORT_ANSWER_BYTES_MAX {
            return Ok(());
        }
        let mut taken = TakenBytes::of(vec![Arc::clone(all), Arc::clone(&self.peer.answer_bytes)]);
        if !taken.take(bytes) {
            return Err(ApiError::overloaded());
        }
        *lock(&self.answer_bytes) = taken;
        Ok(())
    }

    /// Its trace, once it has one.
    pub(super) fn trace_context(&self) -> Option<&Context> {
        self.trace.as_ref()?.context()
    }

    /// The id of its trace.
    pub(crate) fn trace_id(&self) -> Option<String> {
        let span = self.trace_context()?.span();
        let context = span.span_context();
        context.is_valid().then(|| context.trace_id().to_string())
    }

    /// Whether it was counted and logged before; from now on it was.
    pub(super) fn observe_once(&self) -> bool {
        !self.is_observed.swap(true, Ordering::Relaxed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get("x-request-id").and_then(|value| value.to_str().ok());
    let is_plain = |id: &&str| {
        (1..=REQUEST_ID_CHARACTERS_MAX).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_graphic())
            && matches!(tessera_core::secret::redact_known(id), Cow::Borrowed(_))
    };
    given
        .filter(is_plain)
        .map_or_else(|| Uuid::new_v4().to_string(), str::to_owned)
}

/// The time that the caller's `grpc-timeout` leaves for the call.
fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let timeout = headers.get("grpc-timeout")?.to_str().ok()?;
    grpc_timeout(timeout).map(|timeout| timeout.saturating_sub(DEADLINE_MARGIN))
}

/// `grpc-timeout`: at most eight digits and a unit (gRPC over HTTP/2, "Timeout").
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        assert_eq!(grpc_timeout("100m"), Some(Duration::from_millis(100)));
        assert_eq!(grpc_timeout("3S"), Some(Duration::from_secs(3)));
        for bad in ["", "S", "3", "-3S", "3X", "123456789S", "é"] {
            assert_eq!(grpc_timeout(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_request_id_is_taken_only_if_it_is_a_plain_short_word() {
        let of = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert("x-request-id", http::HeaderValue::from_bytes(value).unwrap());
            request_id(&headers)
        };
        assert_eq!(of(b"abc-1"), "abc-1");
        let long = [b'x'; 129];
        for other in [
            &b""[..],
            b"two words",
            b"caf\xe9",
            &long,
            b"tsk_production_0123456789abcdef",
        ] {
            assert_ne!(of(other).as_bytes(), other);
            assert_eq!(of(other).len(), 36);
        }
    }
}
