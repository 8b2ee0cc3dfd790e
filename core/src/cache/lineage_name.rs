//! What a lineage is to people: a lineage itself is a digest, and nobody recognises one.

use std::fmt;

use crate::{
    build::{BuildSpec, Source, Toolchain},
    golang::platform::Platform,
    id::ProjectId,
};

/// How much of it is shown: enough for a few packages and their flags.
const WHAT_LEN_MAX: usize = 200;

/// What a lineage builds, for people. Two lineages may have the same name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LineageName {
    /// Whose it is.
    pub project: ProjectId,
    /// The packages, and the flags that are not usual.
    pub what: String,
    /// For what.
    pub platform: String,
}

impl LineageName {
    /// The name of the lineage of a build for one platform.
    #[must_use]
    pub fn of(project: &ProjectId, spec: &BuildSpec, platform: &Platform) -> Self {
        let packages: Vec<String> = match &spec.source {
            Source::Module { package, .. } => vec![package.clone()],
            Source::Tree { work_dir, .. } => {
                spec.packages.iter().map(|package| below(work_dir, package)).collect()
            }
        };
        let mut words = vec![packages.join(",")];
        match &spec.toolchain {
            Toolchain::Default => {}
            Toolchain::Version { version, .. } => words.push(format!("go{version}")),
            Toolchain::Local => words.push("local go".to_owned()),
        }
        let flags = &spec.flags;
        words.extend(flags.cgo.then(|| "cgo".to_owned()));
        let list = |name: &str, values: &[String]| {
            (!values.is_empty()).then(|| format!("{name}={}", values.join(",")))
        };
        words.extend(list("tags", &flags.tags));
        words.extend(list("ldflags", &flags.ldflags));
        let stamps: Vec<String> = flags.stamps.iter().map(|(name, _)| name.clone()).collect();
        words.extend(list("stamps", &stamps));
        Self::new(project, &words.join(" "), &platform.to_string())
    }

    /// The name of what is said in other words; as much of them as is shown.
    #[must_use]
    pub fn new(project: &ProjectId, what: &str, platform: &str) -> Self {
        let shown =
            |text: &str| text.chars().filter(|letter| !letter.is_control()).take(WHAT_LEN_MAX).collect();
        Self { project: project.clone(), what: shown(what), platform: shown(platform) }
    }
}

/// A package of the module in `work_dir`, as whoever stands at the tree's root names it.
fn below(work_dir: &str, package: &str) -> String {
    let package = package.trim_start_matches("./");
    match (work_dir, package) {
        ("", ".") => ".".to_owned(),
        ("", package) => format!("./{package}"),
        (work_dir, ".") => format!("./{work_dir}"),
        (work_dir, package) => format!("./{work_dir}/{package}"),
    }
}

impl fmt::Display for LineageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.project, self.what, self.platform)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        build::{BuildFlags, Wishes},
        digest::Digest,
    };

    fn name(source: Source, packages: &[&str], flags: BuildFlags, toolchain: Toolchain) -> String {
        let spec = BuildSpec {
            source,
            packages: packages.iter().map(|&package| package.to_owned()).collect(),
            platforms: Vec::new(),
            toolchain,
            flags,
            name: None,
            version: String::new(),
            wishes: Wishes::default(),
            from_scratch: false,
            rebuild: None,
        };
        let platform = Platform::parse("linux/arm64").unwrap();
        LineageName::of(&"acme/web".parse().unwrap(), &spec, &platform).to_string()
    }

    fn tree(work_dir: &str) -> Source {
        Source::Tree {
            root: Digest::of(b""),
            work_dir: work_dir.to_owned(),
            workspace: false,
            origin: None,
            receipts: Vec::new(),
        }
    }

    #[test]
    fn a_name_says_what_somebody_would_type_to_build_it() {
        let plain = BuildFlags::default;
        let told = name(tree("services/web"), &["./cmd/web", "."], plain(), Toolchain::Default);
        assert_eq!(told, "acme/web ./services/web/cmd/web,./services/web linux/arm64");
        assert_eq!(name(tree(""), &["."], plain(), Toolchain::Local), "acme/web . local go linux/arm64");
        let source = Source::Module { package: "example.org/tool".to_owned(), query: "latest".to_owned() };
        let flags = BuildFlags {
            cgo: true,
            tags: vec!["netgo".to_owned(), "x".to_owned()],
            ldflags: vec!["-s".to_owned()],
            stamps: vec![("main.version".to_owned(), "1".to_owned())],
        };
        let toolchain = Toolchain::Version { version: "1.26.9".to_owned(), pins: Vec::new() };
        assert_eq!(
            name(source, &["."], flags, toolchain),
            "acme/web example.org/tool go1.26.9 cgo tags=netgo,x ldflags=-s stamps=main.version linux/arm64"
        );
    }
}
