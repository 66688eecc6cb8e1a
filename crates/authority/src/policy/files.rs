//! Policies from files.

use std::sync::Arc;

use tessera_policy::{LoadError, Policy, Sources, Work};

use crate::policy::error::ApplyError;

/// Reads and compiles a policy away from the async threads. A panic is a refusal.
pub(crate) async fn load(
    read: impl FnOnce() -> Result<Policy, LoadError> + Send + 'static,
) -> Result<Arc<Policy>, ApplyError> {
    match tokio::task::spawn_blocking(read).await {
        Ok(Ok(policy)) => Ok(Arc::new(policy)),
        Ok(Err(LoadError::Refused(error))) => Err(error.into()),
        Ok(Err(LoadError::Stopped)) => Err(ApplyError::TooLong),
        // A panic message may repeat the files.
        Err(_) => {
            tracing::error!("reading a policy panicked");
            Err(ApplyError::Panicked)
        }
    }
}

/// A policy from files that were sent or kept.
pub(crate) fn from_memory(files: &[(String, Vec<u8>)], work: &Work) -> Result<Policy, LoadError> {
    let files: Vec<_> = files
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
        .collect();
    Policy::from_sources_within(&Sources::from_memory(&files)?, work)
}
