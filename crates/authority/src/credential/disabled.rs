//! Clients that are disabled: none of their API keys works, including keys that are made for them later.

use std::collections::HashSet;

use parking_lot::RwLock;
use tessera_core::{ClientName, RealmName};

/// The disabled clients of all realms, as the store has them: each call checks them.
pub(crate) struct DisabledClients(RwLock<HashSet<(RealmName, ClientName)>>);

impl DisabledClients {
    pub(crate) fn new(clients: Vec<(RealmName, ClientName)>) -> Self {
        Self(RwLock::new(clients.into_iter().collect()))
    }

    pub(crate) fn has(&self, realm: &RealmName, client: &ClientName) -> bool {
        let clients = self.0.read();
        !clients.is_empty() && clients.contains(&(realm.clone(), client.clone()))
    }

    /// Takes over what the store has.
    pub(crate) fn replace(&self, clients: Vec<(RealmName, ClientName)>) {
        *self.0.write() = clients.into_iter().collect();
    }

    /// Returns whether it was enabled before.
    pub(crate) fn insert(&self, realm: &RealmName, client: &ClientName) -> bool {
        let mut clients = self.0.write();
        clients.insert((realm.clone(), client.clone()))
    }

    pub(crate) fn remove(&self, realm: &RealmName, client: &ClientName) {
        let mut clients = self.0.write();
        clients.remove(&(realm.clone(), client.clone()));
    }
}
