//! Why a call failed, and what its caller can do about it.

use std::{error::Error, time::Duration};

use tessera_proto::v1::ErrorReason;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::diagnosis::Plaintext;

/// The domain of the error reasons.
pub(crate) const DOMAIN: &str = "tessera";

/// What a caller can do about an error (the rule of the contract: see `error_reason.proto`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Sign in again: the API key, the session or the refresh token is not accepted.
    SignIn,
    /// It may be temporary: try the same again later.
    Passing,
    /// Don't repeat it unchanged.
    Permanent,
}

/// A call failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}: {message}", .reason.map_or_else(|| format!("{code:?}"), |reason| reason.as_str_name().trim_start_matches("ERROR_REASON_").to_owned()))]
pub struct CallError {
    code: Code,
    reason: Option<ErrorReason>,
    message: String,
    retry_after: Option<Duration>,
    is_connection_lost: bool,
}

impl CallError {
    /// The code of the status.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// The authority's reason; `None` if the error is not from an authority, or has a reason of a newer one.
    #[must_use]
    pub fn reason(&self) -> Option<ErrorReason> {
        self.reason
    }

    /// The authority's message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// How long the authority asks to wait before a retry.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self.code {
            Code::Unauthenticated => ErrorKind::SignIn,
            Code::Unavailable
            | Code::Aborted
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Cancelled
            | Code::Internal
            | Code::Unknown
            | Code::DataLoss => ErrorKind::Passing,
            Code::Ok
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented => ErrorKind::Permanent,
        }
    }

    /// Whether the same request is sent again: UNAVAILABLE, ABORTED, and an answer that was lost with its
    /// connection (which is UNAVAILABLE, though the transport has other names for it).
    pub(crate) fn is_retried(&self) -> bool {
        self.code == Code::Aborted || self.is_of_node()
    }

    /// Whether another node may answer although this one did not: it said UNAVAILABLE, or there was no connection.
    pub(crate) fn is_of_node(&self) -> bool {
        self.code == Code::Unavailable || self.is_connection_lost
    }

    /// This error, with the address where it occurred, which an answer of the authority does not need.
    pub(crate) fn at(mut self, address: &str) -> Self {
        if self.is_connection_lost {
            self.message = format!("{address}: {}", self.message);
        }
        self
    }

    /// This error, with the problem of the connection, if there was no connection and the problem is known.
    pub(crate) async fn diagnosed(mut self, plaintext: Option<&Plaintext>) -> Self {
        if let Some(plaintext) = plaintext.filter(|_| self.is_connection_lost)
            && let Some(meaning) = plaintext.diagnosis().await
        {
            self.message = format!("{meaning} ({})", self.message);
        }
        self
    }

    /// This error, with how the attempt before failed.
    pub(crate) fn after(mut self, cause: &Self) -> Self {
        self.message = format!("{}; the attempt before failed: {cause}", self.message);
        self
    }

    pub(crate) fn deadline_exceeded() -> Self {
        Self {
            code: Code::DeadlineExceeded,
            reason: None,
            message: "the deadline passed; the call may still have its effect".to_owned(),
            retry_after: None,
            is_connection_lost: false,
        }
    }

    pub(crate) fn protocol(message: &str) -> Self {
        Self {
            code: Code::Internal,
            reason: None,
            message: message.to_owned(),
            retry_after: None,
            is_connection_lost: false,
        }
    }
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        let reason = reason_of(&status);
        let retry_after = status.get_details_retry_info().and_then(|info| info.retry_delay);
        // An answer of the authority has a reason, and no local error behind it.
        let is_local = reason.is_none() && status.source().is_some();
        let message = match (is_local, other_server(&status)) {
            (_, Some(meaning)) if reason.is_none() => format!("{meaning} ({})", status.message()),
            (true, _) => explained(&status),
            (false, _) => status.message().to_owned(),
        };
        Self {
            code: status.code(),
            reason,
            message,
            retry_after,
            is_connection_lost: is_local
                && matches!(
                    status.code(),
                    Code::Unknown | Code::Cancelled | Code::Internal | Code::Unavailable
                ),
        }
    }
}

/// What an answer without a reason of the contract says of the server that gave it.
fn other_server(status: &Status) -> Option<&'static str> {
    let is_plain_http = status.message().contains("mapped from HTTP status code");
    match status.code() {
        // With UNAVAILABLE it is a proxy in front of an authority that is unreachable.
        Code::Unimplemented | Code::Unknown | Code::Internal if is_plain_http => {
            Some("no Tessera answers there: is this the admin socket, or another HTTP server?")
        }
        Code::Unimplemented => {
            Some("the server does not have this call: is it another gRPC server, or an older Tessera?")
        }
        _ => None,
    }
}

/// Explanations of transport errors for operators of a service; the first match applies.
const MEANINGS: [(&str, &str); 14] = [
    ("TimeoutExpired", "there was no answer in the time for the call"),
    (
        "UnknownIssuer",
        "the server's certificate is not of an authority that is trusted here: see `certificate_authority`",
    ),
    (
        "CaUsedAsEndEntity",
        "the server's certificate is a certificate authority's own: give the server one that is not (`CA:FALSE`)",
    ),
    ("NotValidForName", "the server's certificate is for another name"),
    (
        "extended key usage",
        "the server's certificate is not one for a server: it needs `serverAuth` among its `extendedKeyUsage`",
    ),
    (
        "not valid for name",
        "the server's certificate is for another name",
    ),
    (
        "Expired",
        "the server's certificate has expired, or is not valid yet",
    ),
    (
        "NotValidYet",
        "the server's certificate has expired, or is not valid yet",
    ),
    (
        "certificate expired",
        "the server's certificate has expired, or is not valid yet",
    ),
    (
        "certificate not valid yet",
        "the server's certificate has expired, or is not valid yet",
    ),
    (
        "CertificateRequired",
        "the authority wants a client certificate: see `client_certificate`",
    ),
    (
        "HandshakeFailure",
        "the authority wants a client certificate: see `client_certificate`",
    ),
    (
        "fatal alert",
        "the authority does not accept the client certificate",
    ),
    (
        "InvalidContentType",
        "the port does not speak TLS: use an http:// address, or turn TLS on at the authority",
    ),
];

/// The message of the transport, with all causes, and its explanation.
fn explained(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = status.source();
    while let Some(error) = source {
        let part = error.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        source = error.source();
    }
    match MEANINGS.iter().find(|(mark, _)| text.contains(mark)) {
        Some((_, meaning)) => format!("{meaning} ({text})"),
        None => text,
    }
}

/// The reason in a status of the authority.
pub(crate) fn reason_of(status: &Status) -> Option<ErrorReason> {
    let info = status.get_details_error_info()?;
    if info.domain != DOMAIN {
        return None;
    }
    ErrorReason::from_str_name(&format!("ERROR_REASON_{}", info.reason))
}
