//! The facts that a configuration is applied to.

use std::{collections::BTreeMap, path::PathBuf};

use meridian_core::time::Wall;

/// Everything outside of the configuration that names and flags depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The project's directory, absolute; only `abs` and the paths of binaries use it.
    pub directory: PathBuf,
    /// The main module's path, as `go list -m` says it; absent where there is no module.
    pub module_path: Option<String>,
    /// The package's name in a `Cargo.toml` in the project's directory, which GoReleaser asks before Go's.
    pub cargo_name: Option<String>,
    /// The repository's name in the URL of git's remote.
    pub remote_name: Option<String>,
    /// What git says; absent where there is no repository with a commit.
    pub git: Option<GitFacts>,
    /// The environment of the process.
    pub env: BTreeMap<String, String>,
    /// When the release is made.
    pub now: Wall,
    /// GOOS and GOARCH of the machine that makes it.
    pub host: (String, String),
    /// The main packages of the module: only a `main` that ends with `/...` looks at them.
    pub main_packages: Vec<MainPackage>,
    /// Whether it is a snapshot, which needs neither a repository nor a tag.
    pub is_snapshot: bool,
    /// Whether only the host's own GOOS and GOARCH are built.
    pub single_target: bool,
}

/// What git says of the commit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GitFacts {
    /// `git rev-parse --abbrev-ref HEAD`
    pub branch: String,
    /// The newest tag of the commit, else the nearest before it.
    pub tag: Option<String>,
    /// The nearest tag before that; empty where there is none.
    pub previous_tag: String,
    /// The full commit id.
    pub commit: String,
    /// The short commit id, as git shortens it.
    pub short_commit: String,
    /// The commit's date, in seconds since the Unix epoch.
    pub commit_seconds: i64,
    /// `git describe --always --dirty --tags`
    pub summary: String,
    /// The remote's URL, without credentials.
    pub url: String,
    /// Whether the working tree has changes.
    pub is_dirty: bool,
    /// The first paragraph of an annotated tag, or of the commit.
    pub tag_subject: String,
    /// The whole message of the tag.
    pub tag_contents: String,
    /// The message without its first paragraph.
    pub tag_body: String,
}

/// A main package of the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MainPackage {
    /// What Go calls its executable.
    pub name: String,
    /// Its directory, from the project's: `.`, `cmd/tool`.
    pub directory: String,
}
