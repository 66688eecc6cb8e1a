//! Sealers: they seal a server key at rest, so that its file alone is of no use. A sealed key is opened at the start
//! and whenever keys are read again, and is in the memory of the process from then on.

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

/// Opens a sealer for the time of `work`. If an HSM is used, `work` runs in a separate thread, since an HSM may never
/// answer: this call then returns after the configured time.
///
/// # Errors
/// Fails if the sealer can't be used, or if `work` fails.
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

/// How long the end of a process waits for an HSM that is in use.
const REST_TIME_MAX: Duration = Duration::from_secs(2);

/// Waits until no HSM is in use, for two seconds at most: for the end of the process, which can crash the library of an
/// HSM while it works.
pub fn let_sealer_rest() {
    pkcs11::rest(REST_TIME_MAX);
}

/// The secret with which a sealer is opened, besides its configuration, only to be compared with another one. `None` if
/// it can't be read.
pub(crate) fn secret_of(config: &SealerConfig) -> Option<Zeroizing<String>> {
    match config {
        SealerConfig::File { path } => Some(symmetric::in_file(path).ok()?.text()),
        SealerConfig::Environment {} => Some(symmetric::in_environment().ok()?.text()),
        SealerConfig::Pkcs11(hsm) => pkcs11::secret_of(hsm),
    }
}
