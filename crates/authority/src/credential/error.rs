//! Errors of credentials.

use std::net::IpAddr;

use tessera_core::{ApiKeyId, ClientName, RealmKind, RealmName, Seconds};

use crate::error::{CallNotAllowed, Unavailable, from_entropy, from_store};

/// A credential is not accepted. Which check it failed is for the log only.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AuthenticateError {
    /// Missing, malformed, unknown, expired, revoked, or of another realm.
    #[error("the API key is not accepted")]
    Refused,
    /// It is valid, but may not be used from this address.
    #[error("the API key {api_key} of {client} may not be used from {address}")]
    AddressNotAllowed {
        /// The key.
        api_key: ApiKeyId,
        /// Its client.
        client: ClientName,
        /// The address of the caller.
        address: IpAddr,
    },
    /// It is valid, but its realm is of another kind now.
    #[error(
        "this API key was made when the realm `{realm}` was a {made_for} realm, and it is a {kind} realm now: make a new key, or change `kind` back"
    )]
    RealmKindChanged {
        /// Its realm.
        realm: RealmName,
        /// The kind of the realm when the key was made.
        made_for: RealmKind,
        /// Its kind now.
        kind: RealmKind,
    },
    /// It can't be checked now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// An API key can't be managed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ApiKeyError {
    /// The realm has no such key, or the caller may not see it.
    #[error("no such API key")]
    NotFound,
    /// The caller may not do this.
    #[error(transparent)]
    NotAllowed(#[from] CallNotAllowed),
    /// The key would belong to another realm than the caller's API key.
    #[error(
        "the API key of the call is of the realm `{}`: a key of another realm is made with an API key of that realm",
        refused.realm
    )]
    OtherRealm {
        /// The refused permission.
        refused: CallNotAllowed,
    },
    /// A field is out of bounds.
    #[error("{field} {problem}")]
    Field {
        /// The field, as the wire names it.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The page token does not belong to this listing.
    #[error("the page token is not of this list")]
    PageTokenInvalid,
    /// The key and those before it were rolled too often lately.
    #[error("this API key was rolled too often lately")]
    RolledTooOften {
        /// How long until it can be rolled again.
        wait: Seconds,
    },
    /// The caller's own API key was revoked during the call.
    #[error("the API key of the call does not work any more")]
    CredentialEnded,
    /// The authority can't answer now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

from_store!(AuthenticateError, ApiKeyError);
from_entropy!(ApiKeyError);
