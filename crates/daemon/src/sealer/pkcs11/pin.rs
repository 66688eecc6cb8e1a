//! The PIN: reading it, and trying a wrong one only once.

use std::{
    env, fmt,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use tessera_core::read_small_text;
use zeroize::Zeroizing;

use crate::{config::Pkcs11Config, sealer::error::SealerError};

/// The variable with the PIN.
const PIN_VARIABLE: &str = "TESSERA_PKCS11_PIN";
/// The variable that names a file with the PIN, in which a service manager or a container puts secrets.
const PIN_FILE_VARIABLE: &str = "TESSERA_PKCS11_PIN_FILE";

/// A PIN. Its `Debug` output shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Pin(pub(super) Zeroizing<String>);

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin(..)")
    }
}

/// The PIN in the environment, or in the file that the environment or the configuration names.
pub(super) fn read(config: &Pkcs11Config) -> Result<Pin, SealerError> {
    if let Some(value) = env::var_os(PIN_VARIABLE).filter(|value| !value.is_empty()) {
        return parse(&Zeroizing::new(value.to_string_lossy().into_owned()));
    }
    let named = env::var_os(PIN_FILE_VARIABLE).filter(|path| !path.is_empty());
    match named.map(PathBuf::from).or_else(|| config.pin_file.clone()) {
        Some(path) => in_file(&path),
        None => Err(SealerError::NoPin),
    }
}

fn in_file(path: &Path) -> Result<Pin, SealerError> {
    let text = read_small_text(path).map_err(|source| SealerError::File {
        path: path.to_owned(),
        source,
    })?;
    parse(&Zeroizing::new(text))
}

/// A line feed at the end is not part of the PIN; other white space may be.
fn parse(text: &str) -> Result<Pin, SealerError> {
    let pin = text.strip_suffix('\n').unwrap_or(text);
    let pin = pin.strip_suffix('\r').unwrap_or(pin);
    if pin.is_empty() {
        return Err(SealerError::NoPin);
    }
    Ok(Pin(Zeroizing::new(pin.to_owned())))
}

/// A PIN that a token refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tried {
    pub(super) module: PathBuf,
    /// The serial number of the token.
    pub(super) serial: String,
    pub(super) pin: Pin,
}

/// The PINs that were refused in this process. Keys are read again automatically and at SIGHUP: each time would take
/// one of the few tries that a token allows.
static REFUSED: Mutex<Vec<Tried>> = Mutex::new(Vec::new());

/// Whether it was refused before.
pub(super) fn was_refused(tried: &Tried) -> bool {
    REFUSED.lock().contains(tried)
}

/// Records that it was refused.
pub(super) fn note_refused(tried: Tried) {
    REFUSED.lock().push(tried);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_feed_at_the_end_is_not_part_of_the_pin() {
        for (text, pin) in [
            ("1234", "1234"),
            ("1234\n", "1234"),
            ("1234\r\n", "1234"),
            (" 12 34 \n", " 12 34 "),
        ] {
            assert_eq!(parse(text).unwrap().0.as_str(), pin);
        }
        for empty in ["", "\n", "\r\n"] {
            assert!(matches!(parse(empty), Err(SealerError::NoPin)));
        }
    }

    #[test]
    fn a_pin_is_not_shown_and_a_refused_one_is_known() {
        let tried = |serial: &str, pin: &str| Tried {
            module: "hsm.so".into(),
            serial: serial.to_owned(),
            pin: parse(pin).unwrap(),
        };
        let wrong = tried("a", "canary");
        assert!(!format!("{wrong:?}").contains("canary"), "{wrong:?}");
        assert!(!was_refused(&wrong));
        note_refused(wrong.clone());
        assert!(was_refused(&wrong));
        assert!(!was_refused(&tried("b", "canary")) && !was_refused(&tried("a", "right")));
    }
}
