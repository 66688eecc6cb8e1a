//! What is generated from `proto/`.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]

/// The `tessera.v1` package.
pub mod v1 {
    tonic::include_proto!("tessera.v1");
}

/// What other projects' programs call, from `proto/upstream`.
pub mod upstream {
    include!(concat!(env!("OUT_DIR"), "/upstream.rs"));
}

/// `RevocationService` for servers that encode an event once, however many watch: as in [`v1`], with
/// [`WatchFrame`](crate::WatchFrame)s for responses.
pub mod framed {
    include!(concat!(env!("OUT_DIR"), "/tessera.v1.RevocationService.rs"));
}
