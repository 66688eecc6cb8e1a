//! Authentication of the caller: an API key becomes a [`Principal`].

use std::{net::IpAddr, sync::Arc};

use tessera_core::{ApiKeyId, ClientName, Realm, RealmName, Session, audit::Actor};
use tessera_store::StoreError;
use tessera_token::ApiKeySecret;

use crate::{Authority, credential::error::AuthenticateError, error::CallNotAllowed};

/// An authenticated client. Only [`Authority::authenticate`] makes one.
#[derive(Clone, Debug)]
pub struct Principal {
    identity: Identity,
    credential: ApiKeySecret,
}

/// The actor: a client in a realm, by one of its API keys.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    realm: Arc<Realm>,
    client: ClientName,
    api_key: ApiKeyId,
    /// The address that it calls from; `None` if it is authenticated by a refresh token that it holds.
    address: Option<IpAddr>,
}

impl Authority {
    /// Whether the API key that authenticated a client still works.
    pub(crate) async fn still_works(&self, principal: &Principal) -> Result<(), AuthenticateError> {
        let record = self.store.api_key(principal.api_key()).await?;
        self.followed().await?;
        let works = record.is_some_and(|record| record.works(self.clock.now()));
        let is_disabled = self.disabled.has(principal.realm_name(), principal.client());
        (works && !is_disabled)
            .then_some(())
            .ok_or(AuthenticateError::Refused)
    }

    /// Authenticates a client by its API key, which it presents from the address `from`.
    ///
    /// # Errors
    /// [`AuthenticateError::Refused`] for any reason: a caller without a valid credential learns nothing. A caller with
    /// a valid one that may not be used from this address is told so.
    pub async fn authenticate(&self, credential: &str, from: IpAddr) -> Result<Principal, AuthenticateError> {
        let credential = ApiKeySecret::parse(credential).map_err(|_| AuthenticateError::Refused)?;
        let record = self
            .store
            .api_key(credential.id())
            .await?
            .ok_or(AuthenticateError::Refused)?;
        self.followed().await?;
        let realm = self.realms.get(&record.realm).ok_or(AuthenticateError::Refused)?;
        let is_accepted = record.secret_hash == credential.hash()
            && record.works(self.clock.now())
            && realm.kind == credential.kind()
            && !self.disabled.has(&record.realm, &record.client);
        if !is_accepted {
            self.refusals.credential_refused(&record, Some(from));
            return Err(AuthenticateError::Refused);
        }
        if !record.allows_from(from) {
            self.refusals.credential_refused(&record, Some(from));
            return Err(AuthenticateError::AddressNotAllowed {
                api_key: record.id.clone(),
                client: record.client.clone(),
                address: from,
            });
        }
        self.used_api_keys.note(&record, self.clock.now());
        Ok(Principal {
            identity: Identity {
                realm: Arc::clone(realm),
                client: record.client.clone(),
                api_key: record.id.clone(),
                address: Some(from),
            },
            credential,
        })
    }

    /// The identity that acts if a session's refresh token authenticates its bearer: the client that the session was
    /// issued to, for as long as the API key that it used works. `None` if the key does not work.
    pub(crate) async fn identity_of(&self, session: &Session) -> Result<Option<Identity>, StoreError> {
        let Some(api_key) = session.credential.api_key() else {
            return Ok(None);
        };
        let record = self.store.api_key(api_key).await?;
        let works = record.is_some_and(|record| {
            record.works(self.clock.now()) && !self.disabled.has(&record.realm, &record.client)
        });
        let realm = self.realms.get(&session.realm).filter(|_| works);
        Ok(realm.map(|realm| Identity {
            realm: Arc::clone(realm),
            client: session.client.clone(),
            api_key: api_key.clone(),
            address: None,
        }))
    }
}

impl Principal {
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The realm of the call.
    #[must_use]
    pub fn realm(&self) -> &Realm {
        &self.identity.realm
    }

    /// The name of the realm of the call.
    #[must_use]
    pub fn realm_name(&self) -> &RealmName {
        &self.identity.realm.name
    }

    /// The client that calls.
    #[must_use]
    pub fn client(&self) -> &ClientName {
        &self.identity.client
    }

    /// The API key that it used.
    #[must_use]
    pub fn api_key(&self) -> &ApiKeyId {
        &self.identity.api_key
    }

    /// The client in its realm.
    pub(crate) fn whose(&self) -> (RealmName, ClientName) {
        (self.realm_name().clone(), self.client().clone())
    }

    /// The error that says which permission it lacks.
    pub(crate) fn not_allowed(&self, required: String) -> CallNotAllowed {
        CallNotAllowed {
            required,
            client: self.client().clone(),
            realm: self.realm_name().clone(),
        }
    }

    pub(crate) fn credential(&self) -> &ApiKeySecret {
        &self.credential
    }

    pub(crate) fn actor(&self) -> Actor {
        self.identity.actor()
    }
}

#[cfg(test)]
impl Principal {
    /// A client that was authenticated by an API key, for tables.
    pub(crate) fn of(realm: Realm, client: ClientName, credential: ApiKeySecret) -> Self {
        let api_key = credential.id().clone();
        Self {
            identity: Identity::of(realm, client, api_key),
            credential,
        }
    }
}

impl Identity {
    #[cfg(test)]
    pub(crate) fn of(realm: Realm, client: ClientName, api_key: ApiKeyId) -> Self {
        Self {
            realm: Arc::new(realm),
            client,
            api_key,
            address: None,
        }
    }

    pub(crate) fn realm(&self) -> &Realm {
        &self.realm
    }

    pub(crate) fn client(&self) -> &ClientName {
        &self.client
    }

    pub(crate) fn api_key(&self) -> &ApiKeyId {
        &self.api_key
    }

    pub(crate) fn actor(&self) -> Actor {
        Actor::Client {
            client: self.client.clone(),
            credential: self.api_key.clone().into(),
            address: self.address,
        }
    }
}
