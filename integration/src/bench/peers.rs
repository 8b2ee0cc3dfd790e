//! The programs of others that a bench compares with or is judged by: installed once, kept below the target directory.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};

use crate::{
    bench::timing::run,
    home::{Home, go_env},
};

/// Where a peer is kept; made if need be.
///
/// # Errors
/// When it cannot be made.
pub fn directory(name: &str) -> anyhow::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace's root")?;
    let directory = root.join("target/bench-peers").join(name);
    fs::create_dir_all(&directory)?;
    Ok(directory)
}

/// Installs a Go program through the environment's module proxy. The installed Go compiles it.
///
/// # Errors
/// When it cannot be installed.
pub fn go_install(program: &str, package: &str, version: &str) -> anyhow::Result<PathBuf> {
    let bin = directory(&format!("{program}-{version}"))?;
    let path = bin.join(program);
    if !path.exists() {
        let home = Home::with_the_real_proxy();
        let mut install = home.program("go");
        install
            .args(["install", &format!("{package}@{version}")])
            .env("GOBIN", &bin)
            .env("GOTOOLCHAIN", "local")
            .env("CGO_ENABLED", "0")
            .env("GOFLAGS", "-modcacherw")
            .env("GOPROXY", go_env("GOPROXY"));
        run(&mut install)?;
    }
    ensure!(path.exists(), "go install left no {program} in {}", bin.display());
    Ok(path)
}
