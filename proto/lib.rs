//! The wire contract of Tessera: the messages and services of `tessera.v1`, generated from `proto/`.
#![forbid(unsafe_code)]

mod frame;
mod generated {
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
}

pub use frame::{FrameEncoder, WatchCodec, WatchFrame};
pub use generated::{framed, upstream, v1};
/// What every message implements.
pub use prost::Message;

/// The encoded `FileDescriptorSet` of the contract, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tessera_descriptor.bin"));

/// The same for [`upstream`], which is served only where proxies are.
pub const UPSTREAM_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/upstream_descriptor.bin"));
