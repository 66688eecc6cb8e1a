//! How a request is refused: as RFC 6750 §3 specifies, with a problem as the body.

use http::{
    HeaderName, StatusCode,
    header::{RETRY_AFTER, WWW_AUTHENTICATE},
};
use tessera_core::{ScopeSet, challenge};
use tessera_proto::v1::ErrorReason;
use tonic::Code;

use crate::{edge::Exchange, error::ApiError, http::problem::Problem};

/// Why a request is refused.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It has no bearer token.
    NoToken,
    /// Its token is not valid; the reason is for the log only.
    NoGoodToken(String),
    /// Its token lacks these scopes.
    NoScopes(ScopeSet),
    /// Neither the proxy's configuration nor the policy's routes say what this request needs.
    Unlisted { route: String },
    /// Services may read the request differently, or no token can have the scope that it needs.
    Unclear { route: String, why: String },
    /// The proxy's configuration contains an invalid value.
    Misconfigured { field: String, problem: String },
    /// The authority can't answer now.
    Indeterminate(ApiError),
}

impl Refusal {
    pub(crate) fn no_good(why: &str) -> Self {
        Self::NoGoodToken(why.to_owned())
    }

    pub(crate) fn misconfigured(field: &str, problem: &impl ToString) -> Self {
        Self::Misconfigured {
            field: field.to_owned(),
            problem: problem.to_string(),
        }
    }

    /// Logs what the bearer is not told. Never the token.
    pub(super) fn log(&self, exchange: &Exchange) {
        let rpc = exchange.route.name;
        let (address, request_id) = (exchange.address, exchange.request_id());
        match self {
            Self::NoToken | Self::Indeterminate(_) => {}
            Self::NoGoodToken(why) => {
                tracing::info!(rpc, why, %address, request_id, "a token was refused");
            }
            Self::NoScopes(missing) => {
                tracing::info!(rpc, %missing, %address, request_id, "a token lacks scopes");
            }
            Self::Unlisted { route } => tracing::warn!(
                rpc,
                route,
                %address,
                request_id,
                "refused: neither the proxy's configuration nor the policy's `routes.toml` says which scope this \
                 route needs"
            ),
            // The client wrote the path.
            Self::Unclear { route, why } => {
                tracing::info!(rpc, route, why, %address, request_id, "a request was refused");
            }
            Self::Misconfigured { field, problem } => tracing::warn!(
                rpc,
                field,
                problem,
                %address,
                request_id,
                "refused: the proxy's configuration is wrong"
            ),
        }
    }

    /// The error that an RPC would return; also for the metrics.
    pub(crate) fn error(&self) -> ApiError {
        use ErrorReason as Reason;
        let (code, reason, message) = match self {
            Self::NoToken | Self::NoGoodToken(_) => (
                Code::Unauthenticated,
                Reason::ClientAuthFailed,
                "a good access token is needed",
            ),
            Self::NoScopes(_) => (
                Code::PermissionDenied,
                Reason::ScopeDenied,
                "the access token lacks a scope",
            ),
            Self::Unlisted { .. } => (
                Code::PermissionDenied,
                Reason::CallNotAllowed,
                "no caller is permitted to do this",
            ),
            Self::Unclear { .. } => (
                Code::PermissionDenied,
                Reason::CallNotAllowed,
                "no caller is permitted to do this: the request can be read in more than one way, or names what no scope can have",
            ),
            Self::Misconfigured { field, problem } => {
                return ApiError::invalid_field(field, problem);
            }
            Self::Indeterminate(error) => return error.clone(),
        };
        ApiError::new(code, reason, message)
    }

    /// The status code of the answer. A wrong configuration is the caller's fault: if the answer is passed on to
    /// another client, the endpoint uses another code.
    pub(crate) fn code(&self) -> StatusCode {
        match self {
            Self::NoToken | Self::NoGoodToken(_) => StatusCode::UNAUTHORIZED,
            Self::NoScopes(_) | Self::Unlisted { .. } | Self::Unclear { .. } => StatusCode::FORBIDDEN,
            Self::Misconfigured { .. } => StatusCode::BAD_REQUEST,
            Self::Indeterminate(error) if error.code() == Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Indeterminate(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The headers of the answer that a client needs.
    pub(crate) fn headers(&self) -> Vec<(HeaderName, String)> {
        let told = |text: &str| vec![(WWW_AUTHENTICATE, text.to_owned())];
        match self {
            // No error code: the client may not have known that it needs a token.
            Self::NoToken => told(challenge::NO_TOKEN),
            Self::NoGoodToken(_) => told(challenge::NOT_GOOD),
            Self::NoScopes(missing) => told(&challenge::lacks(missing)),
            Self::Unlisted { .. } | Self::Unclear { .. } | Self::Misconfigured { .. } => Vec::new(),
            Self::Indeterminate(error) => {
                let wait = error.retry_after_seconds().unwrap_or(1);
                vec![(RETRY_AFTER, wait.to_string())]
            }
        }
    }

    /// The body of an answer with this status code.
    pub(crate) fn problem(&self, code: StatusCode) -> Problem {
        Problem::with_code(&self.error(), code)
    }
}
