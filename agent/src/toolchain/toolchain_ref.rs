//! A toolchain that may be run.

use std::path::{Path, PathBuf};

use meridian_core::{digest::Digest, golang::h1::H1};

/// A toolchain that may be run. While a reference to it lives, it stays on disk.
#[derive(Debug, PartialEq, Eq)]
pub struct ToolchainRef {
    pub(super) version: String,
    pub(super) goroot: PathBuf,
    pub(super) identity: Digest,
    pub(super) origin: Origin,
}

/// Where a toolchain came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The module `golang.org/toolchain`, checked by its hash.
    Module {
        /// The module's version, such as `v0.0.1-go1.27.3.linux-amd64`.
        version: String,
        /// The hash of its zip.
        h1: H1,
    },
    /// The Go that is installed on the machine.
    Installed {
        /// The SHA-256 of its `go` command.
        go_command: Digest,
    },
}

impl ToolchainRef {
    /// The version as Go writes it, such as `go1.27.3`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Its root directory.
    #[must_use]
    pub fn goroot(&self) -> &Path {
        &self.goroot
    }

    /// The `go` command.
    #[must_use]
    pub fn go(&self) -> PathBuf {
        self.goroot.join("bin/go")
    }

    /// What tells this toolchain from a patched one that calls itself the same version. Build caches are
    /// kept apart by it.
    #[must_use]
    pub fn identity(&self) -> Digest {
        self.identity
    }

    /// Where it came from.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }
}
