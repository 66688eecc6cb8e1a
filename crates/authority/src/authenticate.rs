//! Who calls: an API key becomes a [`Principal`].

use std::sync::Arc;

use tessera_core::{ApiKeyId, ClientName, Realm, RealmName, audit::Actor};
use tessera_token::ApiKeySecret;

use crate::{Authority, error::AuthenticateError};

/// An authenticated client. Only [`Authority::authenticate`] makes one.
#[derive(Clone, Debug)]
pub struct Principal {
    realm: Arc<Realm>,
    client: ClientName,
    credential: ApiKeySecret,
}

impl Authority {
    /// Whether the API key that let a client in still works.
    pub(crate) async fn still_works(&self, principal: &Principal) -> Result<(), AuthenticateError> {
        let record = self.store.api_key(principal.credential.id()).await?;
        let works = record.is_some_and(|record| record.works(self.clock.now()));
        works.then_some(()).ok_or(AuthenticateError::Refused)
    }

    /// Lets a client in by its API key.
    ///
    /// # Errors
    /// [`AuthenticateError::Refused`] for whatever reason: those without a valid credential learn nothing.
    pub async fn authenticate(&self, credential: &str) -> Result<Principal, AuthenticateError> {
        let credential = ApiKeySecret::parse(credential).map_err(|_| AuthenticateError::Refused)?;
        let record = self
            .store
            .api_key(credential.id())
            .await?
            .ok_or(AuthenticateError::Refused)?;
        let realm = self.realms.get(&record.realm).ok_or(AuthenticateError::Refused)?;
        let is_accepted = record.secret_hash == credential.hash()
            && record.works(self.clock.now())
            && realm.kind == credential.kind();
        if !is_accepted {
            return Err(AuthenticateError::Refused);
        }
        Ok(Principal {
            realm: Arc::clone(realm),
            client: record.client,
            credential,
        })
    }
}

impl Principal {
    /// The realm of the call.
    #[must_use]
    pub fn realm(&self) -> &Realm {
        &self.realm
    }

    /// The name of the realm of the call.
    #[must_use]
    pub fn realm_name(&self) -> &RealmName {
        &self.realm.name
    }

    /// The client that calls.
    #[must_use]
    pub fn client(&self) -> &ClientName {
        &self.client
    }

    /// The API key that it used.
    #[must_use]
    pub fn api_key(&self) -> &ApiKeyId {
        self.credential.id()
    }

    pub(crate) fn credential(&self) -> &ApiKeySecret {
        &self.credential
    }

    pub(crate) fn actor(&self) -> Actor {
        Actor::Client {
            client: self.client.clone(),
            api_key: self.api_key().clone(),
        }
    }
}
