//! Sealers: what seals a server key at rest, so that its file alone is of no use. What is sealed is opened at the start and
//! whenever keys are read again, and is in the memory of the process from then on.

mod deadline;
mod error;
mod pkcs11;
mod seal;
mod symmetric;

use std::time::Duration;

use zeroize::Zeroizing;

pub use self::error::SealerError;
pub(crate) use self::seal::Sealer;
use crate::config::SealerConfig;

/// Opens a sealer for as long as `work` takes, which runs in a thread of its own where an HSM is asked: that may never
/// answer, and then this does, after the time that the configuration says.
///
/// # Errors
/// Fails where the sealer can't be used, or `work` fails.
pub(crate) fn with_sealer<T, E, F>(config: &SealerConfig, work: F) -> Result<T, E>
where
    F: FnOnce(&dyn Sealer) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: From<SealerError> + Send + 'static,
{
    match config {
        SealerConfig::File { path } => work(&symmetric::in_file(path)?),
        SealerConfig::Environment {} => work(&symmetric::in_environment()?),
        SealerConfig::Pkcs11(hsm) => pkcs11::with_hsm(hsm, work),
    }
}

/// How long the end of a process waits for an HSM that is asked just then.
const REST_TIME_MAX: Duration = Duration::from_secs(2);

/// Waits until no HSM is being asked, for two seconds at most: for the end of the process, which the library of an HSM may not
/// survive while it works.
pub fn let_sealer_rest() {
    pkcs11::rest(REST_TIME_MAX);
}

/// What a sealer is opened with, beside its configuration: a secret, only to be compared with another. None where it can't be
/// read.
pub(crate) fn secret_of(config: &SealerConfig) -> Option<Zeroizing<String>> {
    match config {
        SealerConfig::File { path } => Some(symmetric::in_file(path).ok()?.text()),
        SealerConfig::Environment {} => Some(symmetric::in_environment().ok()?.text()),
        SealerConfig::Pkcs11(hsm) => pkcs11::secret_of(hsm),
    }
}
