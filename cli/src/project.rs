//! `meridian.toml`: what a project builds, kept beside its `go.mod`.
//!
//! Flags win over environment variables, which win over this file. An unknown key is a mistake, not a wish.

use std::{collections::BTreeMap, path::Path};

use meridian_runtime::config::{ConfigErrors, ConfigType, Key, Kind, Loader, Problem};
use serde::Deserialize;

/// The file's name.
pub const FILE_NAME: &str = "meridian.toml";

/// The keys of `meridian.toml`. Every one may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
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
#[serde(default)]
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
#[serde(default)]
pub struct Go {
    /// A version such as `1.26.9`, `default`, or `local`.
    pub version: Option<String>,
    /// `h1:` hashes of that version's toolchain, by the agent's `os/arch`; needed only where no checksum
    /// database can be reached.
    pub pins: BTreeMap<String, String>,
}

const TEXTS: Kind = Kind::List(&Kind::Text);

impl ConfigType for ProjectFile {
    const SCHEMA: &'static [Key] = &[
        Key::optional("project", Kind::Text),
        Key::optional("name", Kind::Text),
        Key::optional("version", Kind::Text),
        Key::optional("packages", TEXTS),
        Key::optional("platforms", TEXTS),
        Key::optional("include", TEXTS),
        Key::optional(
            "flags",
            Kind::Table(&[
                Key::optional("tags", TEXTS),
                Key::optional("ldflags", TEXTS),
                Key::optional("stamps", Kind::Map(&Kind::Text)),
                Key::optional("cgo", Kind::Boolean),
            ]),
        ),
        Key::optional(
            "go",
            Kind::Table(&[
                Key::optional("version", Kind::Text),
                Key::optional("pins", Kind::Map(&Kind::Text)),
            ]),
        ),
    ];

    fn check(&self) -> Vec<Problem> {
        let leaves = |path: &&String| {
            path.is_empty() || path.starts_with('/') || path.split('/').any(|step| step == "..")
        };
        let outside = self.include.iter().filter(leaves);
        outside
            .map(|path| Problem::new("include", format!("{path:?} does not lie below the module")))
            .collect()
    }
}

impl ProjectFile {
    /// Reads the file of a module; every key keeps its default when there is none.
    ///
    /// # Errors
    /// Every mistake in it at once.
    pub fn load(module: &Path) -> Result<Self, ConfigErrors> {
        Loader::new().optional_file(module.join(FILE_NAME)).load()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<ProjectFile, ConfigErrors> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE_NAME), text).unwrap();
        ProjectFile::load(dir.path())
    }

    #[test]
    fn every_key_is_read() {
        let text = r#"
            project = "acme/web"
            name = "web"
            version = "1.0.0"
            packages = ["./cmd/web"]
            platforms = ["linux/amd64", "linux/arm64"]
            include = ["gen/**"]
            [flags]
            tags = ["a"]
            ldflags = ["-s", "-w"]
            cgo = true
            stamps = { "main.version" = "{version}" }
            [go]
            version = "1.26.9"
            pins = { "linux/amd64" = "h1:x" }
        "#;
        let file = load(text).unwrap();
        assert_eq!(file.project.as_deref(), Some("acme/web"));
        assert_eq!((file.name.as_deref(), file.version.as_deref()), (Some("web"), Some("1.0.0")));
        assert_eq!((file.packages.len(), file.platforms.len(), file.include.len()), (1, 2, 1));
        assert_eq!((file.flags.tags.len(), file.flags.ldflags.len(), file.flags.cgo), (1, 2, true));
        assert_eq!(file.flags.stamps["main.version"], "{version}");
        assert_eq!((file.go.version.as_deref(), file.go.pins.len()), (Some("1.26.9"), 1));
    }

    #[test]
    fn every_mistake_is_told_at_once_with_its_line_and_a_near_match() {
        let text = "platform = [\"linux/amd64\"]\nname = 3\n[flags]\nldflag = []\n";
        let told = load(text).unwrap_err().to_string();
        for part in ["meridian.toml", ":1", "platforms", ":2", "name", ":4", "ldflags"] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }

    #[test]
    fn a_missing_file_is_all_defaults_and_an_include_stays_below_the_module() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(ProjectFile::load(dir.path()).unwrap(), ProjectFile::default());
        let told = load("include = [\"../secret\", \"/etc\"]\n").unwrap_err().to_string();
        assert!(told.contains("../secret") && told.contains("/etc"), "{told}");
    }
}
