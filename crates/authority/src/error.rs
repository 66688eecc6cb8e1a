//! Errors that more than one noun has. The server maps them to wire errors in one module.

use tessera_core::{ClientName, RealmName};
use tessera_store::StoreError;
use tessera_token::{KeyError, NoEntropy};

/// The authority can't do it now, and the caller did nothing wrong.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unavailable {
    /// The store can't be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system provides no random numbers.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// The server is stopping.
    #[error("the server is stopping")]
    Draining,
    /// Policies were applied faster than the request could be committed.
    #[error("the policy is being changed")]
    PolicyChanging,
    /// Too much work of this kind is running, for this client or for all.
    #[error("too much work is under way")]
    Overloaded,
    /// The work took longer than one call may take.
    #[error("the work took longer than it may")]
    OutOfTime,
    /// A defect. The text is for the log.
    #[error("defect: {0}")]
    Defect(&'static str),
}

/// The caller may not call this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this needs `{required}`, which policy does not give to the caller")]
pub struct CallNotAllowed {
    /// The permission that policy would have to give, as a scope under `tessera/…`.
    pub required: String,
    /// The client to which policy would have to give it.
    pub client: ClientName,
    /// The realm in which policy would have to give it.
    pub realm: RealmName,
}

/// An authority can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A realm is configured, but is not in the catalogue.
    #[error(
        "realm `{realm}` is not in the policy's catalogue.toml: add it under [realms], or take it out of the configuration"
    )]
    RealmUnknown {
        /// The realm.
        realm: RealmName,
    },
    /// No realm is configured.
    #[error("no realm is configured")]
    NoRealm,
    /// The stored signing keys do not open with the server key.
    #[error(
        "the signing keys in the data directory were sealed by another server key: configure the key that made this directory, or name it among the previous keys"
    )]
    WrongServerKey(#[source] KeyError),
    /// A server key that sealed signing keys is not configured.
    #[error(
        "{signing_keys} of the signing keys in the data directory were sealed by another server key, {id}: configure that one, or name it among the previous keys"
    )]
    ServerKeyMissing {
        /// Its id.
        id: String,
        /// How many need it.
        signing_keys: usize,
    },
    /// The store can't be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system provides no random numbers.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
}

/// Converts a failed store to an error that holds an [`Unavailable`].
macro_rules! from_store {
    ($($error:ident),*) => {$(
        impl From<tessera_store::StoreError> for $error {
            fn from(error: tessera_store::StoreError) -> Self {
                Self::Unavailable($crate::error::Unavailable::Store(error))
            }
        }
    )*};
}

/// The same for missing random numbers.
macro_rules! from_entropy {
    ($($error:ident),*) => {$(
        impl From<tessera_token::NoEntropy> for $error {
            fn from(error: tessera_token::NoEntropy) -> Self {
                Self::Unavailable($crate::error::Unavailable::Entropy(error))
            }
        }
    )*};
}

pub(crate) use from_entropy;
pub(crate) use from_store;
