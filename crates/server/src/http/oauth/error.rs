//! Failures as OAuth 2.0 tells them (RFC 6749 §5.2, RFC 8707 for the audience).

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tonic::{Code, Status};
use utoipa::ToSchema;

use super::{client::Scheme, no_store};
use crate::{
    http::Unread,
    status::{self, Reading},
};

/// The body of a failure.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct OAuthError {
    error: &'static str,
    error_description: String,
    /// The reason of the contract, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Why a request failed.
#[derive(Debug)]
pub(super) struct Failure {
    code: StatusCode,
    error: &'static str,
    description: String,
    /// The reason of the contract, as `ErrorInfo` has it.
    reason: Option<String>,
    retry_after: Option<u64>,
    /// How the client tried to authenticate.
    scheme: Scheme,
    /// What an RPC would have failed with, for the metrics.
    status: Status,
}

impl Failure {
    pub(super) fn invalid_request(description: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", description)
    }

    pub(super) fn unsupported_grant_type() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "unsupported_grant_type",
            "grant_type must be client_credentials or refresh_token",
        )
    }

    /// The client does not authenticate.
    pub(super) fn no_client() -> Self {
        Self {
            description:
                "the client does not authenticate: send its name and API key by HTTP Basic, or in the form"
                    .to_owned(),
            ..Self::of(&status::no_credential())
        }
    }

    /// RFC 8707 §2.
    pub(super) fn invalid_target(description: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_target", description)
    }

    pub(super) fn of(status: &Status) -> Self {
        let reading = Reading::of(status);
        let (code, error) = match (status.code(), reading.reason.as_str()) {
            (_, "FIELD_INVALID") => (StatusCode::BAD_REQUEST, of_fields(&reading)),
            (_, "CLIENT_AUTH_FAILED") => (StatusCode::UNAUTHORIZED, "invalid_client"),
            (Code::Unauthenticated, _) | (_, "CLIENT_MISMATCH") => (StatusCode::BAD_REQUEST, "invalid_grant"),
            (_, "SCOPE_DENIED" | "SCOPE_UNKNOWN" | "SCOPE_EXCEEDS_GRANT" | "TOKEN_TOO_LARGE") => {
                (StatusCode::BAD_REQUEST, "invalid_scope")
            }
            (_, "AUDIENCE_UNKNOWN") => (StatusCode::BAD_REQUEST, "invalid_target"),
            (Code::PermissionDenied, _) => (StatusCode::BAD_REQUEST, "unauthorized_client"),
            (Code::InvalidArgument, _) => (StatusCode::BAD_REQUEST, "invalid_request"),
            (Code::ResourceExhausted, _) => (StatusCode::TOO_MANY_REQUESTS, "temporarily_unavailable"),
            (Code::Unavailable | Code::Aborted | Code::DeadlineExceeded, _) => {
                (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable")
            }
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "server_error"),
        };
        Self {
            code,
            error,
            description: status.message().to_owned(),
            reason: Some(reading.reason),
            retry_after: reading.retry_after.map(|wait| wait.as_secs().max(1)),
            scheme: Scheme::default(),
            status: status.clone(),
        }
    }

    /// The failure of a client that tried to authenticate so.
    pub(super) fn shown(self, scheme: Scheme) -> Self {
        Self { scheme, ..self }
    }

    pub(super) fn status(&self) -> Status {
        self.status.clone()
    }

    fn new(code: StatusCode, error: &'static str, description: &str) -> Self {
        Self {
            code,
            error,
            description: description.to_owned(),
            reason: None,
            retry_after: None,
            scheme: Scheme::default(),
            status: status::invalid_fields(vec![(error.to_owned(), description.to_owned())]),
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::of(&status)
    }
}

impl From<Unread> for Failure {
    fn from(unread: Unread) -> Self {
        Self::new(unread.code(), "invalid_request", unread.text())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = OAuthError {
            error: self.error,
            error_description: plain(&self.description),
            reason: self.reason,
        };
        let mut response = no_store((self.code, Json(body)).into_response());
        let headers = response.headers_mut();
        if self.code == StatusCode::UNAUTHORIZED {
            let challenge = match self.scheme {
                Scheme::Basic => "Basic realm=\"tessera\", charset=\"UTF-8\"",
                Scheme::Bearer => "Bearer realm=\"tessera\", error=\"invalid_token\"",
            };
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// What the fields that are wrong are about.
fn of_fields(reading: &Reading) -> &'static str {
    let all = |name: &str| {
        let mut fields = reading.violations.iter();
        fields.all(|(field, _)| field.split('[').next() == Some(name))
    };
    if all("scopes") {
        "invalid_scope"
    } else if all("audience") {
        "invalid_target"
    } else {
        "invalid_request"
    }
}

/// RFC 6749 allows printable ASCII without `"` and `\` in a description.
fn plain(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '"' => '\'',
            '\\' => '/',
            ' '..='~' => character,
            _ => ' ',
        })
        .collect()
}
