//! Failures in the format of OAuth 2.0 (RFC 6749 §5.2, RFC 8707 for the audience).

use axum::{
    Json,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tessera_proto::v1::ErrorReason;
use tonic::Code;
use utoipa::ToSchema;

use super::answer::no_store;
use crate::{edge::authorization_in, error::ApiError, http::request::Unread};

/// The body of a failure.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct OAuthError {
    error: &'static str,
    error_description: String,
    /// The reason of the contract, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl OAuthError {
    fn new(error: &'static str, description: &str, reason: Option<&str>) -> Self {
        Self {
            error,
            error_description: plain(description),
            reason: reason.map(str::to_owned),
        }
    }
}

/// How a refused client must authenticate: with the scheme that it tried (RFC 6749 §5.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Scheme {
    #[default]
    Basic,
    Bearer,
}

impl Scheme {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        match authorization_in(headers).credential("bearer") {
            Some(_) => Self::Bearer,
            None => Self::Basic,
        }
    }
}

/// Why a request failed.
#[derive(Debug)]
pub(in crate::http) struct Failure {
    error: ApiError,
    /// The OAuth error, if the contract has no reason for it.
    protocol: Option<Box<Protocol>>,
    /// How the client tried to authenticate.
    scheme: Scheme,
}

/// A request that OAuth does not allow.
#[derive(Debug)]
struct Protocol {
    code: StatusCode,
    error: &'static str,
    description: String,
    /// The reason of the contract.
    reason: &'static str,
}

impl Failure {
    pub(super) fn invalid_request(description: &str) -> Self {
        Self::of_protocol(StatusCode::BAD_REQUEST, "invalid_request", description)
    }

    pub(super) fn unsupported_grant_type() -> Self {
        Self::of_protocol(
            StatusCode::BAD_REQUEST,
            "unsupported_grant_type",
            "grant_type must be client_credentials or refresh_token",
        )
    }

    /// The client did not authenticate.
    pub(super) fn no_client() -> Self {
        let message =
            "the client does not authenticate: send its name and API key by HTTP Basic, or in the form";
        ApiError::new(Code::Unauthenticated, ErrorReason::ClientAuthFailed, message).into()
    }

    /// The client authenticated in an unsupported way (RFC 6749 §5.2).
    pub(super) fn unsupported_authentication(message: &'static str) -> Self {
        ApiError::new(Code::Unauthenticated, ErrorReason::ClientAuthFailed, message).into()
    }

    /// RFC 8707 §2.
    pub(super) fn invalid_target(description: &str) -> Self {
        Self::of_protocol(StatusCode::BAD_REQUEST, "invalid_target", description)
    }

    /// The failure of a client that tried to authenticate with this scheme.
    pub(super) fn shown(self, scheme: Scheme) -> Self {
        Self { scheme, ..self }
    }

    /// The error that an RPC would return, for the metrics.
    pub(super) fn error(&self) -> &ApiError {
        &self.error
    }

    fn of_protocol(code: StatusCode, error: &'static str, description: &str) -> Self {
        Self::refused(
            code,
            error,
            description,
            ApiError::invalid_field(error, description),
        )
    }

    fn refused(code: StatusCode, error: &'static str, description: &str, failure: ApiError) -> Self {
        Self {
            protocol: Some(Box::new(Protocol {
                code,
                error,
                description: description.to_owned(),
                reason: failure.reason_name(),
            })),
            error: failure,
            scheme: Scheme::default(),
        }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self {
            error,
            protocol: None,
            scheme: Scheme::default(),
        }
    }
}

impl From<Unread> for Failure {
    fn from(unread: Unread) -> Self {
        let failure = ApiError::new(unread.rpc_code(), unread.reason(), unread.text());
        Self::refused(unread.code(), "invalid_request", unread.text(), failure)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let error = &self.error;
        let (code, body) = match &self.protocol {
            Some(protocol) => (
                protocol.code,
                OAuthError::new(protocol.error, &protocol.description, Some(protocol.reason)),
            ),
            None => {
                let (code, name) = in_words_of_oauth(error);
                (
                    code,
                    OAuthError::new(name, error.message(), Some(error.reason_name())),
                )
            }
        };
        let retry_after = error.retry_after_seconds();
        let mut response = no_store((code, Json(body)).into_response());
        let headers = response.headers_mut();
        if code == StatusCode::UNAUTHORIZED {
            let challenge = match self.scheme {
                Scheme::Basic => "Basic realm=\"tessera\", charset=\"UTF-8\"",
                Scheme::Bearer => "Bearer realm=\"tessera\", error=\"invalid_token\"",
            };
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// The OAuth error for a failure.
fn in_words_of_oauth(error: &ApiError) -> (StatusCode, &'static str) {
    use ErrorReason as Reason;
    match (error.code(), error.reason()) {
        (_, Reason::FieldInvalid) => (StatusCode::BAD_REQUEST, of_fields(error)),
        (_, Reason::ClientAuthFailed | Reason::AddressNotAllowed) => {
            (StatusCode::UNAUTHORIZED, "invalid_client")
        }
        (Code::Unauthenticated, _) | (_, Reason::ClientMismatch) => {
            (StatusCode::BAD_REQUEST, "invalid_grant")
        }
        (
            _,
            Reason::ScopeDenied | Reason::ScopeUnknown | Reason::ScopeExceedsGrant | Reason::TokenTooLarge,
        ) => (StatusCode::BAD_REQUEST, "invalid_scope"),
        (_, Reason::AudienceUnknown) => (StatusCode::BAD_REQUEST, "invalid_target"),
        (Code::PermissionDenied, _) => (StatusCode::BAD_REQUEST, "unauthorized_client"),
        (Code::InvalidArgument, _) => (StatusCode::BAD_REQUEST, "invalid_request"),
        (Code::ResourceExhausted, _) => (StatusCode::TOO_MANY_REQUESTS, "temporarily_unavailable"),
        (Code::Unavailable | Code::Aborted | Code::DeadlineExceeded, _) => {
            (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable")
        }
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "server_error"),
    }
}

/// The OAuth error for invalid fields.
fn of_fields(error: &ApiError) -> &'static str {
    let all = |name: &str| {
        let mut fields = error.violations().iter();
        fields.all(|violation| violation.field.split('[').next() == Some(name))
    };
    if all("scopes") {
        "invalid_scope"
    } else if all("audience") {
        "invalid_target"
    } else {
        "invalid_request"
    }
}

/// RFC 6749 allows printable ASCII without `"` and `\` in a description. Other characters are written as their number: what
/// is wrong may be one of them.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '\\' => plain += &format!("U+{:04X}", u32::from(character)),
            ' '..='~' => plain.push(character),
            '\n' => plain.push(' '),
            _ => plain += &format!("U+{:04X}", u32::from(character)),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_can_be_read_in_a_description() {
        let name = tessera_core::Scope::parse("videos\"read")
            .unwrap_err()
            .to_string();
        assert!(plain(&name).contains("`U+0022`"), "{name}");
        assert_eq!(plain("é\\\n"), "U+00E9U+005C ");
    }
}
