//! The store on PostgreSQL, with a separate PostgreSQL that the tests start.
//!
//! They need `initdb` and `postgres` of version 15 or later, in `/usr/lib/postgresql` or in the directory
//! `TESSERA_POSTGRES_BIN`: `cargo test -p tessera-store-postgres -- --ignored`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

#[path = "../../../bench/src/bare.rs"]
mod bare;
mod cluster;
mod conformance;
mod failovers;
mod figures;
mod lacks;
mod nodes;
mod pooler;
#[allow(dead_code, reason = "the tests of several nodes use the rest")]
mod proxy;
mod server;
#[allow(dead_code, reason = "the tests of several nodes use the rest")]
mod servers;
mod start;
mod traps;
