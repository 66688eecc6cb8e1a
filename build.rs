//! Compiles `proto/` into Rust with protox, so that a machine without `protoc` can build Tessera.

use std::{env, fs, path::PathBuf};

const PROTOS: [&str; 7] = [
    "tessera/v1/api_key_service.proto",
    "tessera/v1/error_reason.proto",
    "tessera/v1/key_service.proto",
    "tessera/v1/policy_service.proto",
    "tessera/v1/revocation_service.proto",
    "tessera/v1/session_service.proto",
    "tessera/v1/token_service.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto/tessera");
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(
        out.join("tessera_descriptor.bin"),
        protox::prost::Message::encode_to_vec(&descriptors),
    )?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
