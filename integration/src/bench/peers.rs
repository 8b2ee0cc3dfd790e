//! The programs of others that a bench compares with or is judged by: installed once, kept below the target directory.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
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
        let named = format!("{package}@{version}");
        let mut install = go(&home);
        let installed = run(install.args(["install", &named]).env("GOBIN", &bin));
        // `go install` asks for a list of versions too, to tell of deprecations, and not every proxy that has a module
        // has one. What was wrong is told of the install, as that is what a user would see.
        installed.or_else(|error| build_downloaded(&home, &named, &path).map_err(|_| error))?;
    }
    ensure!(path.exists(), "go install left no {program} in {}", bin.display());
    Ok(path)
}

/// Builds a module's root, with the versions that its own `go.sum` names.
fn build_downloaded(home: &Home, module: &str, to: &Path) -> anyhow::Result<String> {
    let answer = run(go(home).args(["mod", "download", "-json", module]))?;
    let answer: serde_json::Value = serde_json::from_str(&answer)?;
    let source = answer["Dir"].as_str().context("go mod download names no directory")?;
    run(go(home).args(["build", "-C", source, "-o"]).arg(to).arg("."))
}

fn go(home: &Home) -> Command {
    let mut go = home.program("go");
    go.env("GOTOOLCHAIN", "local")
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-modcacherw")
        .env("GOPROXY", go_env("GOPROXY"));
    go
}
