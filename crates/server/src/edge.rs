//! The way into every call: admission, authentication, rate, deadline, then the use case; and the way
//! out: metrics and the log line. One place, so that no RPC can forget one of them.

use std::{
    future::Future,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use tessera_authority::{Authority, Principal};
use tonic::{Request, Response, Status, metadata::MetadataMap};

use crate::{
    connection::PeerAddress,
    frames::Frames,
    limits::{Limiter, Limits},
    metrics::Metrics,
    status::{self, IntoStatus},
};

/// tonic answers CANCELLED when a deadline passes; ours, a little earlier, says what happened.
const DEADLINE_MARGIN: Duration = Duration::from_millis(5);

/// What every service shares.
pub(crate) struct Edge {
    pub(crate) authority: Arc<Authority>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) frames: Frames,
    limiter: Limiter,
    call_time_max: Duration,
}

/// An authenticated call.
pub(crate) struct Caller {
    pub(crate) principal: Principal,
    /// What is left of the caller's deadline.
    pub(crate) patience: Duration,
}

impl Edge {
    pub(crate) fn new(authority: Arc<Authority>, metrics: Arc<Metrics>, limits: &Limits) -> Self {
        Self {
            authority,
            metrics,
            frames: Frames::default(),
            limiter: Limiter::new(limits),
            call_time_max: limits.call_time_max,
        }
    }

    /// Serves one call with one answer.
    pub(crate) async fn call<Req, Res, Fut>(
        &self,
        rpc: &'static str,
        request: Request<Req>,
        handle: impl FnOnce(Caller, Req) -> Fut,
    ) -> Result<Response<Res>, Status>
    where
        Fut: Future<Output = Result<Res, Status>>,
    {
        self.observe(rpc, async {
            let _place = self.limiter.admit()?;
            let patience = self.patience(request.metadata());
            let principal = self.authenticate(&request).await?;
            let caller = Caller { principal, patience };
            match tokio::time::timeout(patience, handle(caller, request.into_inner())).await {
                Ok(answer) => answer,
                Err(_) => Err(status::deadline_exceeded()),
            }
        })
        .await
    }

    /// Serves one call that needs no credential.
    pub(crate) async fn open_call<Res>(
        &self,
        rpc: &'static str,
        answer: impl Future<Output = Result<Res, Status>>,
    ) -> Result<Response<Res>, Status> {
        self.observe(rpc, async {
            let _place = self.limiter.admit()?;
            answer.await
        })
        .await
    }

    /// Serves one request at an HTTP door, which lets its caller in by itself.
    pub(crate) async fn door<Res>(
        &self,
        name: &'static str,
        answer: impl Future<Output = Result<Res, Status>>,
    ) -> Result<Res, Status> {
        let answer = self.open_call(name, async {
            match tokio::time::timeout(self.call_time_max, answer).await {
                Ok(answer) => answer,
                Err(_) => Err(status::deadline_exceeded()),
            }
        });
        answer.await.map(Response::into_inner)
    }

    /// Lets the caller of a stream in.
    pub(crate) async fn authenticate<Req>(&self, request: &Request<Req>) -> Result<Principal, Status> {
        self.let_in(credential(request.metadata()), peer(request)).await
    }

    /// Lets a client in by its API key, sent from `peer`.
    pub(crate) async fn let_in(&self, credential: Option<&str>, peer: IpAddr) -> Result<Principal, Status> {
        let refused = match credential {
            Some(credential) => match self.authority.authenticate(credential).await {
                Ok(principal) => {
                    self.limiter
                        .count_call(principal.realm_name(), principal.client())?;
                    return Ok(principal);
                }
                Err(refused) => refused,
            },
            None => tessera_authority::AuthenticateError::Refused,
        };
        if matches!(refused, tessera_authority::AuthenticateError::Refused) {
            self.count_refusal(peer)?;
        }
        Err(refused.into_status())
    }

    /// A credential from `peer` was refused; fails where that happens too often.
    pub(crate) fn count_refusal(&self, peer: IpAddr) -> Result<(), Status> {
        self.limiter.count_refusal(peer)
    }

    /// The longest that a call may take.
    pub(crate) fn call_time_max(&self) -> Duration {
        self.call_time_max
    }

    pub(crate) fn forget_idle_callers(&self) {
        self.limiter.forget_idle();
    }

    async fn observe<Res>(
        &self,
        rpc: &'static str,
        answer: impl Future<Output = Result<Res, Status>>,
    ) -> Result<Response<Res>, Status> {
        let began = Instant::now();
        let answer = answer.await;
        let took = began.elapsed();
        self.metrics.count_call(rpc, answer.as_ref().map(|_| ()), took);
        if let Err(status) = &answer {
            tracing::info!(rpc, code = ?status.code(), message = status.message(), ?took, "call refused");
        } else {
            tracing::debug!(rpc, ?took, "call served");
        }
        answer.map(Response::new)
    }

    fn patience(&self, metadata: &MetadataMap) -> Duration {
        let asked = metadata
            .get("grpc-timeout")
            .and_then(|value| value.to_str().ok())
            .and_then(grpc_timeout);
        let asked = asked.map_or(self.call_time_max, |asked| asked.saturating_sub(DEADLINE_MARGIN));
        asked.min(self.call_time_max)
    }
}

/// The API key in `authorization: Bearer …`; none where there is no such header, or several.
fn credential(metadata: &MetadataMap) -> Option<&str> {
    let mut all = metadata.get_all("authorization").iter();
    let (Some(only), None) = (all.next(), all.next()) else {
        return None;
    };
    let (scheme, credential) = only.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(credential.trim())
}

fn peer<Req>(request: &Request<Req>) -> IpAddr {
    request
        .extensions()
        .get::<PeerAddress>()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |PeerAddress(address)| {
            address.ip()
        })
}

/// `grpc-timeout`: at most eight digits and a unit (gRPC over HTTP/2, "Timeout").
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
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
    fn only_one_bearer_header_is_a_credential() {
        let mut metadata = MetadataMap::new();
        assert_eq!(credential(&metadata), None);
        metadata.append("authorization", "Bearer tsk_x".parse().unwrap());
        assert_eq!(credential(&metadata), Some("tsk_x"));
        metadata.append("authorization", "Bearer tsk_y".parse().unwrap());
        assert_eq!(credential(&metadata), None);
        for other in ["tsk_x", "Basic dHNr", "Bearer", ""] {
            let mut metadata = MetadataMap::new();
            metadata.append("authorization", other.parse().unwrap());
            assert_eq!(credential(&metadata), None, "{other}");
        }
    }

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        assert_eq!(grpc_timeout("100m"), Some(Duration::from_millis(100)));
        assert_eq!(grpc_timeout("3S"), Some(Duration::from_secs(3)));
        for bad in ["", "S", "3", "-3S", "3X", "123456789S", "é"] {
            assert!(
                grpc_timeout(bad).is_none_or(|d| bad == "S" && d.is_zero()),
                "{bad}"
            );
        }
    }
}
