//! Clients that are disabled: none of their API keys works, including keys that are made for them later.

use std::collections::{HashMap, HashSet};

use parking_lot::RwLock;
use tessera_core::{ClientName, RealmName};

/// The disabled clients of all realms, as the store has them: each call checks them.
pub(crate) struct DisabledClients(RwLock<ByRealm>);

type ByRealm = HashMap<RealmName, HashSet<ClientName>>;

impl DisabledClients {
    pub(crate) fn new(clients: Vec<(RealmName, ClientName)>) -> Self {
        Self(RwLock::new(by_realm(clients)))
    }

    pub(crate) fn has(&self, realm: &RealmName, client: &ClientName) -> bool {
        let disabled = self.0.read();
        disabled
            .get(realm)
            .is_some_and(|clients| clients.contains(client))
    }

    /// Takes over what the store has.
    pub(crate) fn replace(&self, clients: Vec<(RealmName, ClientName)>) {
        *self.0.write() = by_realm(clients);
    }

    /// Returns whether it was enabled before.
    pub(crate) fn insert(&self, realm: RealmName, client: ClientName) -> bool {
        self.0.write().entry(realm).or_default().insert(client)
    }

    pub(crate) fn remove(&self, realm: &RealmName, client: &ClientName) {
        if let Some(clients) = self.0.write().get_mut(realm) {
            clients.remove(client);
        }
    }
}

fn by_realm(clients: Vec<(RealmName, ClientName)>) -> ByRealm {
    let mut by_realm = ByRealm::new();
    for (realm, client) in clients {
        by_realm.entry(realm).or_default().insert(client);
    }
    by_realm
}
