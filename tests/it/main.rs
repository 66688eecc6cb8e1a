//! Black-box tests: the real binary, real sockets, and only the contract.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "a test fails by panicking, and has no users"
)]

mod api_keys;
mod api_reference;
mod architecture;
mod backup_figures;
mod backups;
mod cases;
mod certificates;
mod clocks;
mod command_line;
mod contract;
mod deploy;
mod durability;
mod endpoints;
mod hanging_sink;
mod hostile_text;
mod hsm;
mod log;
mod main_job;
mod monitoring;
mod node_failures;
mod nodes;
mod nodes_together;
mod offline;
mod operations;
mod peers;
#[expect(dead_code, reason = "the tests of the store use all of it")]
#[path = "../../crates/store-postgres/tests/postgres/proxy.rs"]
mod postgres_proxy;
#[expect(dead_code, reason = "the tests of the store use all of it")]
#[path = "../../crates/store-postgres/tests/postgres/server.rs"]
mod postgres_server;
#[path = "../../crates/store-postgres/tests/postgres/servers.rs"]
mod postgres_servers;
mod proxies;
mod refused_starts;
mod rotations;
mod sdk;
mod secret_files;
mod secrets;
mod server_keys;
mod service;
mod serving;
mod standing_disk;
mod support;
mod tour;
mod traces;
mod year;

use postgres_server as server;
