//! A toolchain that may be run.

use std::path::{Path, PathBuf};

use meridian_core::{digest::Digest, golang::h1::H1};

/// The first Go 1 that has them.
const FIRST_MINOR_WITH_CACHE_PROGRAMS: u32 = 24;

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

    /// Whether it asks a cache program (GOCACHEPROG), which Go does from 1.24 on.
    #[must_use]
    pub fn has_cache_programs(&self) -> bool {
        minor(&self.version).is_none_or(|minor| minor >= FIRST_MINOR_WITH_CACHE_PROGRAMS)
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

/// The 22 of `go1.22.5`, and of `devel go1.22-abcdef`.
fn minor(version: &str) -> Option<u32> {
    let (_, rest) = version.split_once("go1.")?;
    let digits = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_asks_a_cache_program_from_1_24_on() {
        let has = |version: &str| {
            let (goroot, identity) = (PathBuf::new(), Digest::of(b""));
            let origin = Origin::Installed { go_command: identity };
            ToolchainRef { version: version.to_owned(), goroot, identity, origin }.has_cache_programs()
        };
        for old in ["go1.9", "go1.21.0", "go1.22.5", "go1.23rc1", "devel go1.23-0123abc Mon"] {
            assert!(!has(old), "{old}");
        }
        for new in ["go1.24", "go1.24rc1", "go1.30.1", "devel go1.27-0123abc", "go2", "of my own"] {
            assert!(has(new), "{new}");
        }
    }
}
