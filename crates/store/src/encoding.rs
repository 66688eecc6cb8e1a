//! The encoding of rows, for all backends that keep bytes: a version, then the value as postcard encodes it.

use serde::{Serialize, de::DeserializeOwned};

use crate::error::StoreError;

/// The version of the encoding, the first byte of each value.
const VERSION: u8 = 1;

/// The bytes of a row.
///
/// # Errors
/// Fails if the value can't be encoded.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, StoreError> {
    postcard::to_extend(value, vec![VERSION]).map_err(|error| StoreError::Failed {
        detail: format!("a row can't be written: {error}"),
    })
}

/// Reads a row; `what` names it in the error.
///
/// # Errors
/// [`StoreError::Damaged`] if the bytes are not such a row.
pub fn decode<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, StoreError> {
    let damaged = |problem: String| StoreError::Damaged {
        detail: format!("the row of {what} {problem}"),
    };
    match bytes.split_first() {
        Some((&VERSION, body)) => match postcard::take_from_bytes(body) {
            Ok((value, [])) => Ok(value),
            Ok(_) => Err(damaged("is too long".to_owned())),
            Err(error) => Err(damaged(format!("can't be read: {error}"))),
        },
        Some((version, _)) => Err(damaged(format!("has the unknown version {version}"))),
        None => Err(damaged("is empty".to_owned())),
    }
}
