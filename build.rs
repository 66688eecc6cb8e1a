//! Compiles `proto/` into Rust with protox, so that a machine without `protoc` can build Tessera.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use tonic_build::manual::{Method, Service};

const PROTOS: [&str; 10] = [
    "tessera/v1/api_key_service.proto",
    "tessera/v1/audit_service.proto",
    "tessera/v1/backup_service.proto",
    "tessera/v1/error_reason.proto",
    "tessera/v1/key_service.proto",
    "tessera/v1/policy_service.proto",
    "tessera/v1/revocation_service.proto",
    "tessera/v1/session_service.proto",
    "tessera/v1/signing_key_service.proto",
    "tessera/v1/token_service.proto",
];

/// What Envoy calls: other people's packages, so they are compiled apart from the contract.
const UPSTREAM_PROTOS: [&str; 1] = ["envoy/service/auth/v3/external_auth.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto/tessera");
    println!("cargo::rerun-if-changed=proto/upstream");
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(
        out.join("tessera_descriptor.bin"),
        protox::prost::Message::encode_to_vec(&descriptors),
    )?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    tonic_build::manual::Builder::new()
        .build_client(false)
        .compile(&[framed_revocation_service()]);
    compile_upstream(&out)
}

fn compile_upstream(out: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let descriptors = protox::compile(UPSTREAM_PROTOS, ["proto/upstream"])?;
    fs::write(
        out.join("upstream_descriptor.bin"),
        protox::prost::Message::encode_to_vec(&descriptors),
    )?;
    tonic_prost_build::configure()
        .include_file("upstream.rs")
        .compile_fds(descriptors)?;
    Ok(())
}

/// `RevocationService` once more, for servers: with responses to Watch that are encoded already.
fn framed_revocation_service() -> Service {
    let watch = Method::builder()
        .name("watch")
        .route_name("Watch")
        .input_type("crate::v1::WatchRequest")
        .output_type("crate::WatchFrame")
        .codec_path("crate::WatchCodec")
        .client_streaming()
        .server_streaming()
        .build();
    let unary = |name: &str, route: &str| {
        Method::builder()
            .name(name)
            .route_name(route)
            .input_type(format!("crate::v1::{route}Request"))
            .output_type(format!("crate::v1::{route}Response"))
            .codec_path("tonic_prost::ProstCodec")
            .build()
    };
    Service::builder()
        .name("RevocationService")
        .package("tessera.v1")
        .method(watch)
        .method(unary("await_propagation", "AwaitPropagation"))
        .method(unary("list_subscribers", "ListSubscribers"))
        .method(unary("evict_subscriber", "EvictSubscriber"))
        .build()
}
