//! Builds the `meridian` binary that is tested or measured, and says where it is.
//!
//! Cargo hands a test the path of a binary only within one package, and the binary is the `cli` package's. So
//! it is built here, once a process, with the profile of the caller: a no-op of a second when it is fresh,
//! and never a stale binary from an earlier edit.
//!
//! Built alone it has fewer features of some crates than in a build of all tests, and so those are compiled twice. Who has just
//! built it with the tests, as `.ci/run` has, says where it is in `MERIDIAN_BINARY`.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context as _, bail};

/// The path of a fresh `meridian`.
///
/// # Panics
/// When the binary does not build; nothing that follows could mean anything.
#[must_use]
pub fn meridian() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| match given().unwrap_or_else(|| build(!cfg!(debug_assertions))) {
        Ok(path) => path,
        Err(error) => panic!("the meridian binary is needed and does not build: {error:#}"),
    })
}

/// The one that somebody says is fresh.
fn given() -> Option<anyhow::Result<PathBuf>> {
    let path = PathBuf::from(env::var_os("MERIDIAN_BINARY")?);
    Some(path.canonicalize().with_context(|| format!("MERIDIAN_BINARY={}", path.display())))
}

/// Builds the binary and returns its path as cargo reports it.
///
/// # Errors
/// When cargo cannot be started, or the build fails.
pub fn build(release: bool) -> anyhow::Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace's root")?;
    let mut command = Command::new(cargo);
    command.current_dir(workspace).args(["build", "--quiet", "--package", "meridian", "--bin", "meridian"]);
    command.arg("--message-format=json-render-diagnostics");
    if release {
        command.arg("--release");
    }
    // Build scripts of dependencies watch these. Seen from a test they have other values than from a shell,
    // and every run would compile those dependencies again.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"]
            .iter()
            .any(|prefix| text.starts_with(prefix))
        {
            command.env_remove(&name);
        }
    }
    let output = command.output().context("cargo cannot be started")?;
    if !output.status.success() {
        bail!("cargo build ended with {}:\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "meridian")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .context("cargo built no executable named meridian")
}
