//! Which builds are "the same again, perhaps with changed content", and which are nearly that.
//!
//! The next build of a lineage needs mostly the cache entries that the last one used. A lineage says what is built and
//! how, and **nothing of a branch, a commit or a stamp's value**, so that a new branch inherits from the old one.
//!
//! The scope that a build writes is part of every key: what a member who is not trusted has built is never taken for
//! what a trusted one did. So is the version of Go, since no entry of another version could match.

use crate::{
    build::{BuildSpec, Source, Toolchain},
    cache::scope::Scope,
    digest::{Digest, DigestHasher},
    golang::{platform::Platform, toolchain_pins},
    id::ProjectId,
};

/// The name of a lineage, or of those that are near to one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LineageKey(pub Digest);

/// A compile task's lineage, by its own name and by those that it shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lineage {
    /// Project, source, packages, platform, Go version, cgo, tags, linker flags and stamps' names.
    pub exact: LineageKey,
    /// The same whatever the flags.
    pub any_flags: LineageKey,
    /// Whatever the project builds for the platform with the Go version.
    pub any_build: LineageKey,
}

impl Lineage {
    /// The lineage of a build for one platform whose entries go to `scope`.
    #[must_use]
    pub fn of(scope: &Scope, project: &ProjectId, spec: &BuildSpec, platform: &Platform) -> Self {
        let Platform { os, arch, level } = platform;
        let go = match &spec.toolchain {
            Toolchain::Default => toolchain_pins::DEFAULT_VERSION,
            Toolchain::Version { version, .. } => version,
            // Whichever that is: the entries' own names tell one installed Go from another.
            Toolchain::Local => "local",
        };
        let mut any_build = Fields::begin();
        any_build.text(&scope.to_string()).text(&project.to_string());
        any_build.text(os).text(arch).text(level).text(go);
        let mut any_flags = any_build.clone();
        any_flags.source(&spec.source).list(&spec.packages);
        let mut exact = any_flags.clone();
        let flags = &spec.flags;
        exact.text(if flags.cgo { "cgo" } else { "" }).list(&flags.tags).list(&flags.ldflags);
        exact.count(flags.stamps.len());
        flags.stamps.iter().for_each(|(name, _)| {
            exact.text(name);
        });
        Self {
            exact: exact.end("exact"),
            any_flags: any_flags.end("any flags"),
            any_build: any_build.end("any build"),
        }
    }

    /// The lineage of a go command that runs beside an agent. What is the same of all of them stands in `toolchain`,
    /// `module` and `platform`; what is asked for in `wanted`; how in `flags`.
    #[must_use]
    pub fn of_command(
        toolchain: &Digest,
        module: &str,
        platform: &[String],
        wanted: &[String],
        flags: &[String],
    ) -> Self {
        let mut any_build = Fields::begin();
        any_build.text("beside an agent").text(&toolchain.to_hex()).text(module).list(platform);
        let mut any_flags = any_build.clone();
        any_flags.list(wanted);
        let mut exact = any_flags.clone();
        exact.list(flags);
        Self {
            exact: exact.end("exact"),
            any_flags: any_flags.end("any flags"),
            any_build: any_build.end("any build"),
        }
    }

    /// Its keys from its own to the one that it shares with most, with their distance.
    pub fn keys(&self) -> impl Iterator<Item = (u32, LineageKey)> {
        (0..).zip([self.exact, self.any_flags, self.any_build])
    }
}

/// Fields with their lengths before them, so that no two lists of fields run together.
#[derive(Clone)]
struct Fields(DigestHasher);

impl Fields {
    fn begin() -> Self {
        let mut fields = Self(DigestHasher::new());
        fields.text("meridian cache lineage 1");
        fields
    }

    fn count(&mut self, count: usize) -> &mut Self {
        self.0.update(&(count as u64).to_be_bytes());
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.count(text.len());
        self.0.update(text.as_bytes());
        self
    }

    fn list(&mut self, texts: &[String]) -> &mut Self {
        self.count(texts.len());
        for text in texts {
            self.text(text);
        }
        self
    }

    fn source(&mut self, source: &Source) -> &mut Self {
        match source {
            Source::Module { package, query: _ } => self.text("module").text(package),
            Source::Tree { work_dir, workspace, root: _, origin: _, receipts: _ } => {
                self.text("tree").text(work_dir).count(usize::from(*workspace))
            }
        }
    }

    fn end(mut self, level: &str) -> LineageKey {
        self.text(level);
        LineageKey(self.0.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::{BuildFlags, GitOrigin, Wishes};

    fn spec() -> BuildSpec {
        BuildSpec {
            source: Source::Tree {
                root: Digest::of(b"root"),
                work_dir: "services/web".to_owned(),
                workspace: false,
                origin: None,
                receipts: Vec::new(),
            },
            packages: vec!["./cmd/web".to_owned()],
            platforms: vec![platform("amd64")],
            toolchain: Toolchain::Default,
            flags: BuildFlags {
                cgo: false,
                tags: vec!["netgo".to_owned()],
                ldflags: vec!["-s".to_owned()],
                stamps: vec![("main.version".to_owned(), "1".to_owned())],
            },
            name: None,
            version: "1".to_owned(),
            wishes: Wishes::default(),
            from_scratch: false,
            rebuild: None,
        }
    }

    fn platform(arch: &str) -> Platform {
        Platform::parse(&format!("linux/{arch}")).unwrap()
    }

    fn of(spec: &BuildSpec) -> Lineage {
        let scope = Scope::Trusted("acme".parse().unwrap());
        Lineage::of(&scope, &"acme/web".parse().unwrap(), spec, &platform("amd64"))
    }

    #[test]
    fn a_new_branch_commit_or_version_stays_in_the_lineage() {
        let mut next = spec();
        next.source = Source::Tree {
            root: Digest::of(b"another"),
            work_dir: "services/web".to_owned(),
            workspace: false,
            origin: Some(GitOrigin {
                url: "https://example.com/web".to_owned(),
                commit: "c0ffee".to_owned(),
            }),
            receipts: Vec::new(),
        };
        next.flags.stamps[0].1 = "2".to_owned();
        next.version = "2".to_owned();
        next.wishes.region = Some("eu".parse().unwrap());
        next.toolchain =
            Toolchain::Version { version: toolchain_pins::DEFAULT_VERSION.to_owned(), pins: Vec::new() };
        assert_eq!(of(&next), of(&spec()));
        let module = |query: &str| BuildSpec {
            source: Source::Module { package: "example.com/tool".to_owned(), query: query.to_owned() },
            ..spec()
        };
        assert_eq!(of(&module("v1.0.0")), of(&module("latest")));
    }

    #[test]
    fn what_is_built_otherwise_is_near_by_what_it_shares() {
        let change = |change: fn(&mut BuildSpec)| {
            let mut changed = spec();
            change(&mut changed);
            let (mine, other) = (of(&spec()), of(&changed));
            mine.keys().zip(other.keys()).find(|(a, b)| a == b).map(|((distance, _), _)| distance)
        };
        assert_eq!(change(|_| ()), Some(0));
        for flags in [
            |spec: &mut BuildSpec| spec.flags.cgo = true,
            |spec: &mut BuildSpec| spec.flags.tags.clear(),
            |spec: &mut BuildSpec| spec.flags.ldflags.clear(),
            |spec: &mut BuildSpec| spec.flags.stamps[0].0 = "main.commit".to_owned(),
            // The same words in another list are other flags.
            |spec: &mut BuildSpec| std::mem::swap(&mut spec.flags.tags, &mut spec.flags.ldflags),
        ] {
            assert_eq!(change(flags), Some(1));
        }
        assert_eq!(change(|spec| spec.packages.push("./cmd/b".to_owned())), Some(2));
        assert_eq!(
            change(|spec| spec.source = Source::Module { package: "a.b/c".into(), query: "latest".into() }),
            Some(2)
        );
        assert_eq!(change(|spec| spec.toolchain = Toolchain::Local), None);
    }

    #[test]
    fn no_key_is_shared_between_scopes_projects_or_platforms() {
        let mut keys = std::collections::BTreeSet::new();
        let scopes = ["acme/trusted", "acme/member/ann", "acme/unnamed"];
        for scope in scopes {
            for project in ["acme/web", "acme/api"] {
                for arch in ["amd64", "arm64"] {
                    let scope: Scope = scope.parse().unwrap();
                    let lineage = Lineage::of(&scope, &project.parse().unwrap(), &spec(), &platform(arch));
                    keys.extend(lineage.keys().map(|(_, key)| key));
                }
            }
        }
        assert_eq!(keys.len(), 3 * 2 * 2 * 3);
    }
}
