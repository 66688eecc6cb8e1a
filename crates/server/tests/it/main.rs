//! The server in this process, over real sockets, with a clock that tests move.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod addresses;
mod api_keys;
mod audit;
mod backups;
mod bad_input;
mod calls;
mod endpoints;
mod explaining;
mod heavy;
mod hostile;
mod http_rules;
mod introspection;
mod issuing;
mod listing;
mod policies;
mod policy_change;
mod proxied_paths;
mod proxies;
mod reasons;
mod restored;
mod revoking;
mod server_keys;
mod sessions;
mod signing_keys;
mod stores;
mod taken_again;
mod token_size;
mod watching;
