//! The store on sled passes the suite, and gives the same answers as the one in memory.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tessera_store::Store;
use tessera_store_conformance::{Opened, backup::Backup, equivalence};
use tessera_store_sled::{SledOptions, SledRestore, SledStore};

fn open_in(directory: &TempDir) -> Arc<dyn Store> {
    let options = SledOptions {
        cache_capacity_bytes: 1 << 20,
        ..SledOptions::default()
    };
    Arc::new(SledStore::open(&directory.path().join("data"), options).unwrap())
}

fn opened() -> Opened {
    let directory = TempDir::new().unwrap();
    Opened {
        store: open_in(&directory),
        kept: Box::new(directory),
    }
}

tessera_store_conformance::suite!(opened());

/// With these options audit records are in files, too.
fn with_few_audit_rows() -> SledOptions {
    SledOptions {
        cache_capacity_bytes: 1 << 20,
        audit_rows_max: 64,
    }
}

fn opened_with_few_audit_rows() -> Opened {
    let directory = TempDir::new().unwrap();
    let store = SledStore::open(&directory.path().join("data"), with_few_audit_rows()).unwrap();
    Opened {
        store: Arc::new(store),
        kept: Box::new(directory),
    }
}

fn restored((records, end): Backup) -> Opened {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("data");
    let mut restore = SledRestore::begin(&path, &with_few_audit_rows()).unwrap();
    for record in records {
        restore.add(record).unwrap();
    }
    restore.finish(end).unwrap();
    let store = SledStore::open(&path, with_few_audit_rows()).unwrap();
    Opened {
        store: Arc::new(store),
        kept: Box::new(directory),
    }
}

tessera_store_conformance::backups!(opened_with_few_audit_rows(), restored);

fn compare(cases: u32, steps_max: usize) {
    let directory = Mutex::new(TempDir::new().unwrap());
    equivalence::with_memory(cases, steps_max, &|is_new| {
        let mut directory = directory.lock().unwrap();
        if is_new {
            *directory = TempDir::new().unwrap();
        }
        open_in(&directory)
    });
}

#[test]
fn it_answers_what_the_store_in_memory_does() {
    compare(24, 25);
}

#[test]
#[ignore = "long"]
fn it_answers_what_the_store_in_memory_does_in_1000_cases() {
    compare(1000, 40);
}
