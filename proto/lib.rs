//! The wire contract of Tessera: the messages and services of `tessera.v1`, generated from `proto/`.
#![forbid(unsafe_code)]

mod frame;
mod generated;

pub use frame::{FrameEncoder, WatchCodec, WatchFrame};
pub use generated::{framed, upstream, v1};
/// What every message implements.
pub use prost::Message;

/// The encoded `FileDescriptorSet` of the contract, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tessera_descriptor.bin"));

/// The same for [`upstream`], which is served only where proxies are.
pub const UPSTREAM_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/upstream_descriptor.bin"));
