//! The module: the library of an HSM's maker, which is loaded into this process.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error, RvError},
};
use parking_lot::Mutex;

use super::failure::{failed, said};
use crate::sealer::error::SealerError;

/// The modules that were loaded. They stay: some do not survive being unloaded. Whoever uses one holds the lock, as its state is
/// one for the whole process.
static LOADED: Mutex<Vec<(PathBuf, Pkcs11)>> = Mutex::new(Vec::new());

/// Waits until no module works, for `time` at most. A process that ends while one does may crash instead: what a library does at
/// the end of a process goes on in parallel.
pub(super) fn rest(time: Duration) {
    drop(LOADED.try_lock_for(time));
}

/// Has a module do some work. It knows of the HSM only meanwhile: between, the HSM may come and go.
///
/// # Errors
/// Fails where it can't be loaded, where an earlier use of it has not ended within `time`, or where `work` fails.
pub(super) fn with_module<T, E: From<SealerError>>(
    path: &Path,
    time: Duration,
    work: impl FnOnce(&Pkcs11) -> Result<T, E>,
) -> Result<T, E> {
    let mut loaded = LOADED.try_lock_for(time).ok_or(SealerError::Silent { time })?;
    let known = loaded.iter().find(|(of, _)| of == path);
    let module = match known {
        Some((_, module)) => module.clone(),
        None => {
            let module = load(path)?;
            loaded.push((path.to_owned(), module.clone()));
            module
        }
    };
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        // Work that panicked left it so.
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(error) => return Err(failed(error).into()),
    }
    let done = work(&module);
    if let Err(error) = module.finalize() {
        tracing::debug!(error = said(&error), "the PKCS#11 module does not end");
    }
    done
}

fn load(path: &Path) -> Result<Pkcs11, SealerError> {
    let module = path.to_owned();
    Pkcs11::new(path).map_err(|error| match error {
        Error::MissingSymbol(_) | Error::NullFunctionPointer => SealerError::NoModule { module },
        error => SealerError::Module {
            module,
            problem: problem(&error),
        },
    })
}

fn problem(error: &Error) -> String {
    match error {
        // It shows the words of the loader as a `Debug` of a `DlOpen`.
        Error::LibraryLoading(error) => error.to_string(),
        other => said(other),
    }
}
