//! Failures as problem documents (RFC 9457), with the members that the video company's clients know.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::to_vec;
use tonic::Status;
use utoipa::ToSchema;

use super::Unread;
use crate::status::Reading;

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

impl Problem {
    /// A failure that has no reason of the contract.
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

    /// What an RPC would have failed with. Bad credentials are 400 here, as the clients expect, and what
    /// policy denies is 403: some retry for ever on 401.
    pub(super) fn of(status: &Status) -> Self {
        let code = match status.code() {
            tonic::Code::Unauthenticated | tonic::Code::InvalidArgument | tonic::Code::FailedPrecondition => {
                StatusCode::BAD_REQUEST
            }
            tonic::Code::PermissionDenied => StatusCode::FORBIDDEN,
            tonic::Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            tonic::Code::Unavailable | tonic::Code::Aborted | tonic::Code::DeadlineExceeded => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::with_code(status, code)
    }

    /// The same with a code of the endpoint's own.
    pub(crate) fn with_code(status: &Status, code: StatusCode) -> Self {
        let reading = Reading::of(status);
        let parts = reading.violations.into_iter();
        Self {
            kind: format!("urn:tessera:problem:{}", reading.reason),
            title: code.canonical_reason().unwrap_or("Error").to_owned(),
            name: reading.reason,
            status: code.as_u16(),
            detail: status.message().to_owned(),
            problems: parts.map(|(name, title)| Part { name, title }).collect(),
            retry_after: reading.retry_after.map(|wait| wait.as_secs().max(1)),
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
