//! How a call failed, for the metrics and the log.

use tonic::Code;

use crate::{error::ApiError, grpc::status::Sent};

/// A failed call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed<'a> {
    pub(crate) code: Code,
    /// The reason of the contract; empty if the failure has none.
    pub(crate) reason: &'a str,
    pub(crate) message: &'a str,
    /// The policy decision that caused it.
    pub(crate) decision: Option<&'a str>,
}

impl<'a> From<&'a ApiError> for Failed<'a> {
    fn from(error: &'a ApiError) -> Self {
        let mut metadata = error.metadata().iter();
        let decision = metadata.find(|(name, _)| *name == "decision_id");
        Self {
            code: error.code(),
            reason: error.reason_name(),
            message: error.message(),
            decision: decision.map(|(_, id)| id.as_str()),
        }
    }
}

impl<'a> From<&'a Sent> for Failed<'a> {
    fn from(sent: &'a Sent) -> Self {
        Self {
            code: sent.code,
            reason: &sent.reason,
            message: &sent.message,
            decision: None,
        }
    }
}
