//! The id of an API key, as it is typed.

use tessera_core::ApiKeyId;

use crate::failure::Failure;

/// The id of a key, where it may be one. Often the name of a client is given instead.
pub(super) fn known(id: String) -> Result<String, Failure> {
    match ApiKeyId::parse(&id) {
        Ok(_) => Ok(id),
        Err(error) => Err(Failure::cannot_run(error).with_hint(
            "`tessera apikey list` shows the ids; `tessera revoke --client NAME --disable` ends all keys of a client",
        )),
    }
}
