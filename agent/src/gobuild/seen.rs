//! Where a compile sees what it reads.
//!
//! Go's cache keys hold paths: those of its index hold the directories of the standard library, of modules and of the
//! source. So in a sandbox these lie at places that are the same on every agent, and what one agent indexed and compiled
//! answers the questions of all. A bare build sees them where they are.

use std::path::{Path, PathBuf};

use super::modules::Site;
use crate::toolchain::{Origin, ToolchainRef};

/// The directory of a sandbox below which nothing of the machine lies.
const INSIDE: &str = "/meridian-build";

/// The paths of one compile as it sees them.
pub(super) struct Seen {
    /// The toolchain's root.
    pub(super) goroot: PathBuf,
    /// Go's module cache.
    pub(super) modcache: PathBuf,
    /// Of a source that is a tree.
    pub(super) site: Option<Site>,
}

impl Seen {
    /// What a bare build sees.
    pub(super) fn bare(toolchain: &ToolchainRef, modcache: &Path, site: Option<&Site>) -> Self {
        Self { goroot: toolchain.goroot().to_owned(), modcache: modcache.to_owned(), site: site.cloned() }
    }

    /// What a build in a sandbox sees, whatever the paths of its agent are. The Go that is installed on the machine stays
    /// where it is: links in it may lead out of it.
    pub(super) fn sandboxed(toolchain: &ToolchainRef, site: Option<&Site>) -> Self {
        let inside = Path::new(INSIDE);
        let goroot = match toolchain.origin() {
            Origin::Module { .. } => inside.join("go"),
            Origin::Installed { .. } => toolchain.goroot().to_owned(),
        };
        let site = site.map(|site| site.moved_to(&inside.join("source")));
        Self { goroot, modcache: inside.join("modules"), site }
    }

    /// The `go` command.
    pub(super) fn go(&self) -> PathBuf {
        self.goroot.join("bin/go")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_moved_with_what_lies_in_it() {
        let site = |gowork: &str| Site {
            root: "/state/sources/abc".into(),
            dir: "/state/sources/abc/app".into(),
            gowork: gowork.into(),
        };
        let moved = site("/state/sources/abc/go.work").moved_to(Path::new("/x"));
        assert_eq!(moved.dir, Path::new("/x/app"));
        assert_eq!(moved.gowork, Path::new("/x/go.work"));
        assert_eq!(site("off").moved_to(Path::new("/x")).gowork, Path::new("off"));
    }
}
