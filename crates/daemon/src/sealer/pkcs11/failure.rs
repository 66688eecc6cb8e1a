//! Descriptions of the failures of HSM calls.

use cryptoki::error::{Error, RvError};

use crate::sealer::error::SealerError;

/// A failed call, if nothing more specific is known.
#[expect(clippy::needless_pass_by_value, reason = "it is as `map_err` gives it")]
pub(super) fn failed(error: Error) -> SealerError {
    SealerError::Hsm { said: said(&error) }
}

/// The error of the login to a token.
pub(super) fn login_failed(error: Error, token: &str) -> SealerError {
    let token = token.to_owned();
    match answer(&error) {
        Some(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange) => {
            SealerError::PinRefused { token }
        }
        Some(RvError::PinLocked) => SealerError::PinLocked { token },
        Some(RvError::PinExpired) => SealerError::PinUnset {
            token,
            why: "it has expired",
        },
        Some(RvError::UserPinNotInitialized) => SealerError::PinUnset {
            token,
            why: "its user has none",
        },
        _ => failed(error),
    }
}

/// The error of the use of a key.
pub(super) fn use_failed(error: Error, key: &str, what: &'static str) -> SealerError {
    let key = key.to_owned();
    match answer(&error) {
        Some(RvError::KeyFunctionNotPermitted | RvError::KeyTypeInconsistent | RvError::KeySizeRange) => {
            SealerError::KeyMayNot { key, what }
        }
        Some(RvError::MechanismInvalid | RvError::MechanismParamInvalid | RvError::FunctionNotSupported) => {
            SealerError::NoMechanism { key }
        }
        _ => failed(error),
    }
}

/// Whether the data was not made by the key. HSMs report this in many ways.
pub(super) fn is_of_data(error: &Error) -> bool {
    matches!(
        answer(error),
        Some(
            RvError::EncryptedDataInvalid
                | RvError::EncryptedDataLenRange
                | RvError::DataInvalid
                | RvError::DataLenRange
                | RvError::SignatureInvalid
                | RvError::GeneralError
                | RvError::FunctionFailed
                | RvError::ArgumentsBad
        )
    )
}

/// The call and its answer.
pub(super) fn said(error: &Error) -> String {
    match error {
        Error::Pkcs11(answer, call) => format!("C_{call:?} answers {answer:?}"),
        other => other.to_string(),
    }
}

fn answer(error: &Error) -> Option<RvError> {
    match error {
        Error::Pkcs11(answer, _) => Some(*answer),
        _ => None,
    }
}
