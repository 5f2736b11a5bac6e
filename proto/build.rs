//! Compiles the .proto files without a system protoc.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(
        [
            "proto/onair/v1/log.proto",
            "proto/onair/v1/store.proto",
            "proto/onair/v1/live.proto",
        ],
        ["proto"],
    )?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    std::fs::write(
        out.join("onair.descriptor"),
        prost::Message::encode_to_vec(&files),
    )?;
    tonic_prost_build::configure()
        .bytes(".")
        .build_client(cfg!(feature = "client"))
        .build_server(cfg!(feature = "server"))
        .compile_fds(files)?;
    Ok(())
}
