//! The store in memory passes the suite.

use std::sync::Arc;

use tessera_store::MemoryStore;
use tessera_store_conformance::{Opened, backup::Backup};

tessera_store_conformance::suite!(Opened {
    store: Arc::new(MemoryStore::new()),
    kept: Box::new(()),
});

fn restored((records, end): Backup) -> Opened {
    Opened {
        store: Arc::new(MemoryStore::from_backup(records, end)),
        kept: Box::new(()),
    }
}

tessera_store_conformance::backups!(
    Opened {
        store: Arc::new(MemoryStore::new()),
        kept: Box::new(()),
    },
    restored
);
