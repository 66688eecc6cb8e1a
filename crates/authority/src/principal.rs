//! Who calls: a client that an API key, or a refresh token that it holds, authenticated.

use std::{net::IpAddr, sync::Arc};

use tessera_core::{
    ApiKeyId, AuditAction, AuditRecord, ClientName, Realm, RealmName, RequestId, Timestamp, audit::Actor,
};
use tessera_policy::{Permission, Policy};
use tessera_token::ApiKeySecret;

use crate::error::CallNotAllowed;

/// An authenticated client. Only [`Credentials`](crate::Credentials) makes one.
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

impl Principal {
    /// Only for what authenticated the client by this credential.
    pub(crate) fn new(identity: Identity, credential: ApiKeySecret) -> Self {
        Self { identity, credential }
    }

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

    /// Refuses it unless `policy` permits.
    pub(crate) fn check(&self, policy: &Policy, permission: &Permission) -> Result<(), CallNotAllowed> {
        if policy.permits(self.realm_name(), self.client(), permission) {
            return Ok(());
        }
        Err(self.not_allowed(permission.scope()))
    }

    pub(crate) fn credential(&self) -> &ApiKeySecret {
        &self.credential
    }

    pub(crate) fn actor(&self) -> Actor {
        self.identity.actor()
    }

    /// The audit record of an action that it requested without an id.
    pub(crate) fn record(&self, at: Timestamp, action: AuditAction) -> AuditRecord {
        self.identity.record(at, None, action)
    }
}

#[cfg(test)]
impl Principal {
    /// A client that was authenticated by an API key, for tables.
    pub(crate) fn of(realm: Realm, client: ClientName, credential: ApiKeySecret) -> Self {
        let api_key = *credential.id();
        Self {
            identity: Identity::of(realm, client, api_key),
            credential,
        }
    }
}

impl Identity {
    /// Only for what authenticated the client.
    pub(crate) fn new(
        realm: Arc<Realm>,
        client: ClientName,
        api_key: ApiKeyId,
        address: Option<IpAddr>,
    ) -> Self {
        Self {
            realm,
            client,
            api_key,
            address,
        }
    }

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
            credential: self.api_key.into(),
            address: self.address,
        }
    }

    /// The audit record of an action that it requested; `request` is its id for the request, if it gave one.
    pub(crate) fn record(
        &self,
        at: Timestamp,
        request: Option<RequestId>,
        action: AuditAction,
    ) -> AuditRecord {
        AuditRecord {
            at,
            realm: self.realm.name.clone(),
            actor: self.actor(),
            request,
            action,
        }
    }
}
