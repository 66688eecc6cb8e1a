//! A server that most tests share, and the runtime of all connections.

use std::sync::{
    OnceLock,
    atomic::{AtomicU32, Ordering},
};

use tessera_store_postgres::{OpenError, PostgresOptions, PostgresStore};
use tokio::runtime::Runtime;

use super::server::Server;

/// Options for an unused schema.
pub(crate) fn fresh(server: &Server) -> PostgresOptions {
    of(&server.url())
}

/// The same, with two servers as hosts.
pub(crate) fn both(one: &Server, other: &Server) -> PostgresOptions {
    of(&one.url_with(other))
}

fn of(url: &str) -> PostgresOptions {
    static SCHEMAS: AtomicU32 = AtomicU32::new(0);
    let mut options = PostgresOptions::new(url);
    options.schema = format!("test_{}", SCHEMAS.fetch_add(1, Ordering::SeqCst));
    options
}

/// The server that most tests share.
pub(crate) fn shared() -> &'static Server {
    static SHARED: OnceLock<Server> = OnceLock::new();
    SHARED.get_or_init(|| Server::start(""))
}

/// The runtime that runs all connections.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(4)
            .enable_all()
            .build()
            .unwrap()
    })
}

/// Opens a store, from any runtime of the caller.
pub(crate) async fn open(options: PostgresOptions) -> PostgresStore {
    let opening = runtime().spawn(PostgresStore::open(options));
    opening.await.unwrap().unwrap()
}

/// Why a store is not opened.
pub(crate) async fn refused(options: PostgresOptions) -> OpenError {
    match runtime().spawn(PostgresStore::open(options)).await.unwrap() {
        Ok(_) => panic!("it was opened"),
        Err(error) => error,
    }
}
