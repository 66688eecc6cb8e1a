//! How a request is refused: by a status if it is a gRPC request, otherwise as RFC 6750 §3 specifies.

use std::{collections::HashMap, fmt, time::Duration};

use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{RETRY_AFTER, WWW_AUTHENTICATE},
};
use tessera_core::{Scope, challenge};
use tessera_proto::v1::ErrorReason;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::error::DOMAIN;

/// When to retry while the verifier is stale. It reconnects by itself in less time, if the authority answers.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It has no bearer token.
    NoToken,
    /// Its token is not valid; the reason is for the log only.
    NoGoodToken(String),
    /// Its token lacks this scope.
    NoScope(Scope),
    /// No requirement is defined for a request to this path.
    Unlisted,
    /// No scope can be made of the path; the reason is for the log only.
    Unclear(String),
    /// The verifier is stale.
    Stale {
        /// By how much; `None`: it has never been fresh.
        behind: Option<Duration>,
    },
}

impl Refusal {
    /// Logs what the bearer is not told. Never the token.
    pub(super) fn log(&self, path: &str) {
        match self {
            Self::NoToken => tracing::debug!(path, "refused: {self}"),
            Self::NoGoodToken(_) | Self::NoScope(_) | Self::Unclear(_) => {
                tracing::info!(path, "refused: {self}");
            }
            Self::Unlisted | Self::Stale { .. } => tracing::warn!(path, "refused: {self}"),
        }
    }

    pub(super) fn into_response<B: Default>(self, is_grpc: bool) -> Response<B> {
        if is_grpc {
            self.status().into_http()
        } else {
            self.http()
        }
    }

    pub(super) fn status(&self) -> Status {
        use ErrorReason as Reason;
        let (code, reason, message) = match self {
            Self::NoToken | Self::NoGoodToken(_) => (
                Code::Unauthenticated,
                Reason::ClientAuthFailed,
                "a good access token is needed",
            ),
            Self::NoScope(_) => (
                Code::PermissionDenied,
                Reason::ScopeDenied,
                "the access token lacks a scope",
            ),
            Self::Unlisted | Self::Unclear(_) => (
                Code::PermissionDenied,
                Reason::CallNotAllowed,
                "no caller is permitted to do this",
            ),
            Self::Stale { .. } => (
                Code::Unavailable,
                Reason::NotFreshEnough,
                "revocations can't be checked now",
            ),
        };
        let reason = reason.as_str_name().trim_start_matches("ERROR_REASON_");
        let mut metadata = HashMap::new();
        if let Self::NoScope(scope) = self {
            metadata.insert("scope".to_owned(), scope.to_string());
        }
        let mut details = ErrorDetails::with_error_info(reason, DOMAIN, metadata);
        if let Self::Stale { .. } = self {
            details.set_retry_info(Some(RETRY_DELAY));
        }
        Status::with_error_details(code, message, details)
    }

    fn http<B: Default>(&self) -> Response<B> {
        let told = |text: &str| {
            HeaderValue::from_str(text)
                .ok()
                .map(|value| (WWW_AUTHENTICATE, value))
        };
        let (status, header): (_, Option<(HeaderName, HeaderValue)>) = match self {
            // No error code: the client may not have known that it needs a token.
            Self::NoToken => (StatusCode::UNAUTHORIZED, told(challenge::NO_TOKEN)),
            Self::NoGoodToken(_) => (StatusCode::UNAUTHORIZED, told(challenge::NOT_GOOD)),
            Self::NoScope(scope) => (StatusCode::FORBIDDEN, told(&challenge::lacks(scope))),
            Self::Unlisted | Self::Unclear(_) => (StatusCode::FORBIDDEN, None),
            Self::Stale { .. } => (
                StatusCode::SERVICE_UNAVAILABLE,
                Some((RETRY_AFTER, HeaderValue::from(RETRY_DELAY.as_secs()))),
            ),
        };
        let mut response = Response::new(B::default());
        *response.status_mut() = status;
        response.headers_mut().extend(header);
        response
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoToken => f.write_str("no bearer token"),
            Self::NoGoodToken(why) => f.write_str(why),
            Self::NoScope(scope) => write!(f, "the token does not have, or no longer has, `{scope}`"),
            Self::Unlisted => f.write_str("no requirement is listed for this path"),
            Self::Unclear(why) => f.write_str(why),
            Self::Stale { behind: None } => f.write_str("the verifier has not been ready yet"),
            Self::Stale { behind: Some(behind) } => {
                write!(f, "the verifier is {behind:?} behind, which is too much")
            }
        }
    }
}
