//! The wire contract of Tessera: the messages and services of `tessera.v1`, generated from `proto/`.
#![forbid(unsafe_code)]

/// The `tessera.v1` package.
pub mod v1 {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::pedantic,
        clippy::allow_attributes_without_reason,
        reason = "generated code"
    )]
    tonic::include_proto!("tessera.v1");
}

mod frame;

pub use frame::{FrameEncoder, WatchCodec, WatchFrame};

/// `RevocationService` for servers that encode an event once, however many watch: as in [`v1`], with
/// [`WatchFrame`]s for responses.
pub mod framed {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::pedantic,
        clippy::allow_attributes_without_reason,
        reason = "generated code"
    )]
    include!(concat!(env!("OUT_DIR"), "/tessera.v1.RevocationService.rs"));
}

/// The encoded `FileDescriptorSet` of the contract, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tessera_descriptor.bin"));
