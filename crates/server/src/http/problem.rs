//! Failures as problem documents (RFC 9457), with the members that the video company's clients know.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::to_vec;
use tonic::Code;
use utoipa::ToSchema;

use super::request::Unread;
use crate::error::{ApiError, Violation};

/// A failure.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// `urn:tessera:problem:` and the reason.
    #[serde(rename = "type")]
    kind: String,
    title: String,
    /// The reason, as in `ErrorInfo`.
    name: String,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<Part>,
    #[serde(skip)]
    retry_after: Option<u64>,
}

/// One field, or one scope.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Part {
    name: String,
    title: String,
}

impl Part {
    fn of(violation: &Violation) -> Self {
        Self {
            name: violation.field.clone(),
            title: violation.problem.clone(),
        }
    }
}

impl Problem {
    /// A failure without a reason of the contract.
    pub(super) fn plain(code: StatusCode, detail: &str) -> Self {
        let title = code.canonical_reason().unwrap_or("Error").to_owned();
        Self {
            kind: "about:blank".to_owned(),
            name: title.to_uppercase().replace(' ', "_"),
            title,
            status: code.as_u16(),
            detail: detail.to_owned(),
            problems: Vec::new(),
            retry_after: None,
        }
    }

    /// The error that an RPC would return. Bad credentials are 400 here, as the clients expect, and a denial by policy
    /// is 403: some clients retry forever on 401.
    pub(super) fn of(error: &ApiError) -> Self {
        let code = match error.code() {
            Code::Unauthenticated | Code::InvalidArgument | Code::FailedPrecondition => {
                StatusCode::BAD_REQUEST
            }
            Code::PermissionDenied => StatusCode::FORBIDDEN,
            Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Code::Unavailable | Code::Aborted | Code::DeadlineExceeded => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::with_code(error, code)
    }

    /// The same with a status code that the endpoint chooses.
    pub(crate) fn with_code(error: &ApiError, code: StatusCode) -> Self {
        let reason = error.reason_name();
        let parts = error.violations().iter();
        Self {
            kind: format!("urn:tessera:problem:{reason}"),
            title: code.canonical_reason().unwrap_or("Error").to_owned(),
            name: reason.to_owned(),
            status: code.as_u16(),
            detail: error.message().to_owned(),
            problems: parts.map(Part::of).collect(),
            retry_after: error.retry_after_seconds(),
        }
    }

    /// The document.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        to_vec(self).unwrap_or_default()
    }
}

impl From<Unread> for Problem {
    fn from(unread: Unread) -> Self {
        Self::plain(unread.code(), unread.text())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let code = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (code, self.to_json()).into_response();
        let headers = response.headers_mut();
        let kind = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, kind);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
