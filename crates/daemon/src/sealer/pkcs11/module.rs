//! The module: the library of the HSM's vendor, which is loaded into this process.

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

/// The loaded modules. They stay loaded: some do not survive being unloaded. Each use holds the lock, as a module's
/// state is shared by the whole process.
static LOADED: Mutex<Vec<(PathBuf, Pkcs11)>> = Mutex::new(Vec::new());

/// Waits until no module is in use, for `time` at most. A process that ends during a use may crash instead: a library's
/// code at the end of a process runs in parallel.
pub(super) fn rest(time: Duration) {
    drop(LOADED.try_lock_for(time));
}

/// Runs work with a module. It is initialized only for that time: between uses, the HSM may be disconnected and
/// connected again.
///
/// # Errors
/// Fails if it can't be loaded, if an earlier use of it has not ended within `time`, or if `work` fails.
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
        // Work that panicked left it initialized.
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
        // It shows the loader's message as the `Debug` of a `DlOpen`.
        Error::LibraryLoading(error) => error.to_string(),
        other => said(other),
    }
}
