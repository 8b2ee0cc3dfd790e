//! Generates the message types and services. `protox` compiles the files, so no `protoc` is needed.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=meridian");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(
        ["builds", "agents", "blobs", "cache", "fleet", "keyring", "journal"]
            .map(|name| format!("meridian/v1/{name}.proto")),
    )?;
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    // Ordered maps, because journal bytes must be the same whenever the same event is written.
    tonic_prost_build::configure().bytes(".").btree_map(".").compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
