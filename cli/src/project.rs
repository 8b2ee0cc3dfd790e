//! `meridian.toml`: what a project builds, kept beside its `go.mod`.
//!
//! Flags win over environment variables, which win over this file. An unknown key is a mistake, not a wish.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;

/// The file's name.
pub const FILE_NAME: &str = "meridian.toml";

/// The keys of `meridian.toml`. Every one may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProjectFile {
    /// Whose builds these are: `TEAM/PROJECT`.
    pub project: Option<String>,
    /// The artifacts' base name; only with one package.
    pub name: Option<String>,
    /// The version in artifact names and stamps.
    pub version: Option<String>,
    /// Packages to build: `.` or `./path`.
    pub packages: Vec<String>,
    /// Platforms to build for: `os/arch` or `os/arch/level`.
    pub platforms: Vec<String>,
    /// Files, directories and patterns (`*`, `?`, `**`) to take along although git ignores them.
    pub include: Vec<String>,
    /// How it is compiled and linked.
    pub flags: Flags,
    /// Which Go builds it.
    pub go: Go,
}

/// The `[flags]` table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Flags {
    /// Build tags.
    pub tags: Vec<String>,
    /// Linker flags, one a string: `["-s", "-w"]`.
    pub ldflags: Vec<String>,
    /// String variables to set: `"import/path.name" = "value"`. `{version}` and `{commit}` are replaced.
    pub stamps: BTreeMap<String, String>,
    /// Whether cgo is allowed.
    pub cgo: bool,
}

/// The `[go]` table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Go {
    /// A version such as `1.26.9`, `default`, or `local`.
    pub version: Option<String>,
    /// `h1:` hashes of that version's toolchain, by the agent's `os/arch`; needed only where no checksum
    /// database can be reached.
    pub pins: BTreeMap<String, String>,
}

impl ProjectFile {
    /// Where the file of a module lies.
    #[must_use]
    pub fn path(module: &Path) -> PathBuf {
        module.join(FILE_NAME)
    }
}
