//! Who may end the API keys of a client.

use tessera_core::ClientName;
use tessera_policy::{Permission, Policy};

use crate::{error::CallNotAllowed, principal::Principal};

/// What policy must permit a client that ends API keys of `owner`; `None`: every client may end its own.
pub(crate) fn needed_to_end(client: &ClientName, owner: &ClientName) -> Option<Permission> {
    (client != owner).then(|| Permission::RevokeApiKeysOf(owner.clone()))
}

/// Refuses a client that may not end API keys of `owner`.
pub(crate) fn check_may_end(
    policy: &Policy,
    principal: &Principal,
    owner: &ClientName,
) -> Result<(), CallNotAllowed> {
    match needed_to_end(principal.client(), owner) {
        Some(permission) => principal.check(policy, &permission),
        None => Ok(()),
    }
}
