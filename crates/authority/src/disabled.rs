//! Clients that are disabled: none of their API keys works, and none that is made for them.

use std::{
    collections::HashSet,
    sync::{PoisonError, RwLock},
};

use tessera_core::{ClientName, RealmName};
use tessera_store::{Store, StoreError};

/// The disabled clients of all realms, as the store has them: each call asks.
pub(crate) struct DisabledClients(RwLock<HashSet<(RealmName, ClientName)>>);

impl DisabledClients {
    pub(crate) async fn read(store: &dyn Store) -> Result<Self, StoreError> {
        let clients = store.disabled_clients().await?;
        Ok(Self(RwLock::new(clients.into_iter().collect())))
    }

    pub(crate) fn has(&self, realm: &RealmName, client: &ClientName) -> bool {
        let clients = self.0.read().unwrap_or_else(PoisonError::into_inner);
        !clients.is_empty() && clients.contains(&(realm.clone(), client.clone()))
    }

    pub(crate) fn insert(&self, realm: &RealmName, client: &ClientName) {
        let mut clients = self.0.write().unwrap_or_else(PoisonError::into_inner);
        clients.insert((realm.clone(), client.clone()));
    }

    pub(crate) fn remove(&self, realm: &RealmName, client: &ClientName) {
        let mut clients = self.0.write().unwrap_or_else(PoisonError::into_inner);
        clients.remove(&(realm.clone(), client.clone()));
    }
}
