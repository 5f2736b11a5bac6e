//! Compiles what the peers of the fan-out speak, without a system protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    #[cfg(feature = "peers")]
    tonic_prost_build::configure().compile_fds(protox::compile(
        ["proto/fanout.proto", "proto/naive.proto"],
        ["proto"],
    )?)?;
    Ok(())
}
