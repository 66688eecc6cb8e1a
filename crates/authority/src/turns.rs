//! The turns of clients: each client has at most one piece of work running, with any number of calls.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tessera_core::{ClientName, RealmName};
use tokio::sync::OwnedMutexGuard;

/// The client whose turn it is.
pub(crate) type Client = (RealmName, ClientName);

/// The clients whose calls run or wait.
pub(crate) struct Turns {
    clients: Mutex<HashMap<Client, Entry>>,
    of_one_client_max: usize,
    of_all_max: usize,
}

/// The calls of one client that run or wait.
#[derive(Default)]
struct Entry {
    count: usize,
    /// Held by the call whose turn it is.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// The turn of one call, until it is dropped.
pub(crate) struct Turn {
    _turn: OwnedMutexGuard<()>,
    _listed: Listed,
}

/// A call among those of its client, until it is dropped.
struct Listed {
    turns: Arc<Turns>,
    client: Client,
}

impl Turns {
    /// At most this number of calls run or wait, of one client and of all.
    pub(crate) fn new(of_one_client_max: usize, of_all_max: usize) -> Arc<Self> {
        Arc::new(Self {
            clients: Mutex::default(),
            of_one_client_max,
            of_all_max,
        })
    }

    /// Waits until the client has no other work running, in the order of the calls; `None` if too many wait.
    pub(crate) async fn turn(self: &Arc<Self>, client: Client) -> Option<Turn> {
        let (listed, turn) = self.list(client)?;
        Some(Turn {
            _turn: turn.lock_owned().await,
            _listed: listed,
        })
    }

    fn list(self: &Arc<Self>, client: Client) -> Option<(Listed, Arc<tokio::sync::Mutex<()>>)> {
        let mut clients = self.clients.lock();
        let all: usize = clients.values().map(|entry| entry.count).sum();
        let of_client = clients.get(&client).map_or(0, |entry| entry.count);
        if all >= self.of_all_max || of_client >= self.of_one_client_max {
            return None;
        }
        let entry = clients.entry(client.clone()).or_default();
        entry.count += 1;
        let turn = Arc::clone(&entry.turn);
        let turns = Arc::clone(self);
        Some((Listed { turns, client }, turn))
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut clients = self.turns.clients.lock();
        if let Some(entry) = clients.get_mut(&self.client) {
            entry.count = entry.count.saturating_sub(1);
            if entry.count == 0 {
                clients.remove(&self.client);
            }
        }
    }
}
