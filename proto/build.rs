//! Generates the message types and services. `protox` compiles the files, so no `protoc` is needed.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    for files in ["meridian", "build", "google"] {
        println!("cargo::rerun-if-changed={files}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(
        ["builds", "agents", "blobs", "cache", "caches", "fleet", "keyring", "journal"]
            .map(|name| format!("meridian/v1/{name}.proto")),
    )?;
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    // Ordered maps, because journal bytes must be the same whenever the same event is written.
    tonic_prost_build::configure().bytes(".").btree_map(".").compile_fds(compiler.file_descriptor_set())?;

    // Another set: these services are not the coordinator's, so its table of who may call what lacks them.
    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files([
        "build/bazel/remote/execution/v2/remote_execution.proto",
        "google/bytestream/bytestream.proto",
    ])?;
    tonic_prost_build::configure()
        .bytes(".")
        .include_file("reapi.rs")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
