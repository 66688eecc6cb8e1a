//! The client against an authority in this process, over real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod addresses;
mod applied;
mod attaching;
mod authorizing;
mod bound;
mod calls;
mod checker;
mod examples;
mod fake;
mod fence;
mod figures;
mod key_rotation;
mod keys;
mod ready;
mod shop;
mod storm;
mod tls;
mod tokens;
mod verifying;
mod world;
