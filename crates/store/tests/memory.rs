//! The store in memory passes the suite.

use std::sync::Arc;

use tessera_store::MemoryStore;
use tessera_store_conformance::Opened;

tessera_store_conformance::suite!(Opened {
    store: Arc::new(MemoryStore::new()),
    kept: Box::new(()),
});
