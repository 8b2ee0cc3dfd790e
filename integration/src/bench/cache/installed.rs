//! The peers, installed through the environment's module proxy and kept below the target directory.

use std::path::PathBuf;

use crate::bench::{figures::Figures, peers::go_install};

/// Import path of a command, and its module's version.
type Pinned = (&'static str, &'static str);

const GO_CACHER: Pinned =
    ("github.com/bradfitz/go-tool-cache/cmd/go-cacher", "v0.0.0-20260722201841-0bb331e19f64");
const GO_CACHER_SERVER: Pinned =
    ("github.com/bradfitz/go-tool-cache/cmd/go-cacher-server", "v0.0.0-20260722201841-0bb331e19f64");
const GOCACHEPROG: Pinned = ("github.com/vearutop/gocacheprog", "v0.0.44");
const BAZEL_REMOTE: Pinned = ("github.com/buchgr/bazel-remote/v2", "v2.6.1");

/// `go-cacher` and its server.
#[derive(Debug, Clone)]
pub struct GoCacherPrograms {
    /// What cmd/go starts.
    pub client: PathBuf,
    /// What it asks.
    pub server: PathBuf,
}

/// The peers that are here.
#[derive(Debug, Default)]
pub struct Installed {
    /// `go-cacher` with `go-cacher-server`.
    pub go_cacher: Option<GoCacherPrograms>,
    /// `vearutop/gocacheprog`, which is client, daemon and server.
    pub gocacheprog: Option<PathBuf>,
    /// `bazel-remote`.
    pub bazel_remote: Option<PathBuf>,
}

impl Installed {
    /// Installs all of them. Notes in the figures which cannot be had, and why.
    #[must_use]
    pub fn install(figures: &mut Figures) -> Self {
        let mut noted = |name: &str, installed: anyhow::Result<PathBuf>| {
            installed.inspect_err(|error| figures.peer_is_missing_because(name, &reason(error))).ok()
        };
        let client = noted("go-cacher", install("go-cacher", GO_CACHER));
        let server = noted("go-cacher-server", install("go-cacher-server", GO_CACHER_SERVER));
        Self {
            go_cacher: client.zip(server).map(|(client, server)| GoCacherPrograms { client, server }),
            gocacheprog: noted("gocacheprog", install("gocacheprog", GOCACHEPROG)),
            bazel_remote: noted("bazel-remote", install("bazel-remote", BAZEL_REMOTE)),
        }
    }
}

fn install(program: &str, (package, version): Pinned) -> anyhow::Result<PathBuf> {
    go_install(program, package, version)
}

/// The last line that the client printed: what the proxy answered.
fn reason(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default().to_owned()
}
