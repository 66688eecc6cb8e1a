//! It passes the suite, and gives the same answers as the store in memory.

use std::{sync::Arc, thread};

use parking_lot::Mutex;
use tessera_store::Store;
use tessera_store_conformance::{Opened, backup::Backup, equivalence};
use tessera_store_postgres::{PostgresRestore, PostgresStore};

use super::cluster::{fresh, open, runtime, shared};

async fn opened() -> Opened {
    Opened {
        store: Arc::new(open(fresh(shared())).await),
        kept: Box::new(()),
    }
}

tessera_store_conformance::suite!(each #[ignore = "needs PostgreSQL"]; opened().await);

fn restored((records, end): Backup) -> Opened {
    let options = fresh(shared());
    let restoring = thread::spawn(|| {
        runtime().block_on(async {
            let mut restore = PostgresRestore::begin(&options).await.unwrap();
            for record in records {
                restore.add(record).await.unwrap();
            }
            restore.finish(end).await.unwrap();
            PostgresStore::open(options).await.unwrap()
        })
    });
    Opened {
        store: Arc::new(restoring.join().unwrap()),
        kept: Box::new(()),
    }
}

tessera_store_conformance::backups!(each #[ignore = "needs PostgreSQL"]; opened().await, restored);

fn compare(cases: u32, steps_max: usize) {
    let options = Mutex::new(fresh(shared()));
    equivalence::with_memory(cases, steps_max, &|is_new| -> Arc<dyn Store> {
        if is_new {
            *options.lock() = fresh(shared());
        }
        let options = options.lock().clone();
        let opening = thread::spawn(|| runtime().block_on(PostgresStore::open(options)));
        Arc::new(opening.join().unwrap().unwrap())
    });
}

#[test]
#[ignore = "needs PostgreSQL"]
fn it_answers_what_the_store_in_memory_does() {
    compare(12, 20);
}

#[test]
#[ignore = "long: TESSERA_LONG=1, needs PostgreSQL"]
fn it_answers_what_the_store_in_memory_does_in_500_cases() {
    if std::env::var_os("TESSERA_LONG").is_some() {
        compare(500, 40);
    }
}
