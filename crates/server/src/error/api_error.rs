//! A failure, and what its caller sees of it.

use std::time::Duration;

use tessera_proto::v1::ErrorReason;
use tonic::Code;

/// The domain of the reasons, in `google.rpc.ErrorInfo`.
pub(crate) const DOMAIN: &str = "tessera";

/// A failure, as its caller sees it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ApiError {
    pub(super) code: Code,
    pub(super) reason: ErrorReason,
    pub(super) message: String,
    pub(super) violations: Vec<Violation>,
    pub(super) metadata: Vec<(&'static str, String)>,
    pub(super) retry_after: Option<Duration>,
}

/// A field that is wrong, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) field: String,
    pub(crate) problem: String,
}

impl ApiError {
    /// The kind of failure, as gRPC has it.
    pub(crate) fn code(&self) -> Code {
        self.code
    }

    /// The reason of the contract.
    pub(crate) fn reason(&self) -> ErrorReason {
        self.reason
    }

    /// The reason of the contract, as callers read it: `FIELD_INVALID`.
    pub(crate) fn reason_name(&self) -> &'static str {
        let name = self.reason.as_str_name();
        name.strip_prefix("ERROR_REASON_").unwrap_or(name)
    }

    /// What is wrong, for people.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Fields that are wrong.
    pub(crate) fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// Named values for programs.
    pub(crate) fn metadata(&self) -> &[(&'static str, String)] {
        &self.metadata
    }

    /// The permission that the caller lacked, if that is the only problem. Policy decisions about a token are recorded
    /// with the decision.
    pub(crate) fn missing_permission(&self) -> Option<&str> {
        let value = |wanted| self.metadata.iter().find(|(name, _)| *name == wanted);
        let is_refused = self.reason == ErrorReason::CallNotAllowed && value("decision_id").is_none();
        value("required")
            .filter(|_| is_refused)
            .map(|(_, required)| required.as_str())
    }

    /// When to try again.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// When to try again, in the form of the header `retry-after`.
    pub(crate) fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after.map(|wait| wait.as_secs().max(1))
    }
}

impl Violation {
    pub(crate) fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
        }
    }
}
