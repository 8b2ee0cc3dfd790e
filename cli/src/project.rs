//! `meridian.toml`: what a project builds, kept beside its `go.mod`.
//!
//! Every value is judged where it is read, so that all that is wrong with a file is told at once, each with its line.
//! Flags win over environment variables, which win over this file. An unknown key is a mistake, not a wish.

mod forms;

use std::{collections::BTreeMap, path::Path};

use meridian_runtime::config::{ConfigErrors, ConfigType, Key, Kind, Loader, Problem};
use serde::Deserialize;

use self::forms::{
    BELOW, GO, LINKER_FLAG, NAME, PACKAGE, PIN, PIN_HOST, PLATFORM, PROJECT, STAMP, STAMP_VALUE, TAG, VERSION,
};

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

impl ConfigType for ProjectFile {
    const SCHEMA: &'static [Key] = &[
        Key::optional("project", PROJECT),
        Key::optional("name", NAME),
        Key::optional("version", VERSION),
        Key::optional("packages", Kind::List(&PACKAGE)),
        Key::optional("platforms", Kind::List(&PLATFORM)),
        Key::optional("include", Kind::List(&BELOW)),
        Key::optional(
            "flags",
            Kind::Table(&[
                Key::optional("tags", Kind::List(&TAG)),
                Key::optional("ldflags", Kind::List(&LINKER_FLAG)),
                Key::optional("stamps", Kind::Map { keys: &STAMP, values: &STAMP_VALUE }),
                Key::optional("cgo", Kind::Boolean),
            ]),
        ),
        Key::optional(
            "go",
            Kind::Table(&[
                Key::optional("version", GO),
                Key::optional("pins", Kind::Map { keys: &PIN_HOST, values: &PIN }),
            ]),
        ),
    ];

    fn check(&self) -> Vec<Problem> {
        let pins_nothing = !self.go.pins.is_empty() && self.go.version.is_none();
        let problem =
            || Problem::new(&["go.pins", "go.version"], "needs `go.version`, whose toolchain it pins");
        pins_nothing.then(problem).into_iter().collect()
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
            pins = { "linux/amd64" = "h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" }
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
    fn values_that_mean_nothing_are_told_beside_unknown_keys_and_wrong_types() {
        let text = r#"
platform = ["linux/amd64"]
name = 3
project = "acme"
platforms = ["linux/arm64", "linux/amd46"]
packages = ["cmd/web/", "../other"]
version = "1 0"
[flags]
ldflags = ["-s", "-extld=cc"]
tags = ["a b"]
stamps = { "version" = "1", "main.name" = "a\u0000b" }
[go]
verison = "1.26.9"
version = "locla"
pins = { "linux/amd46" = "h1:x" }
"#;
        let told = load(text).unwrap_err().to_string();
        for (line, words) in [
            (2, "`platform`"),
            (3, "`name`: expected a file name, found the number 3"),
            (4, "`project`: expected TEAM/PROJECT, found \"acme\""),
            (5, "`platforms[1]`: expected a platform, found \"linux/amd46\""),
            (5, "linux/amd64"),
            (6, "`packages[1]`: expected . or ./path, found \"../other\""),
            (7, "`version`: expected a version, found \"1 0\""),
            (9, "`flags.ldflags[1]`: expected a linker flag, found \"-extld=cc\""),
            (10, "`flags.tags[0]`: expected a build tag, found \"a b\""),
            (11, "`flags.stamps.version`: expected a variable"),
            (11, "`flags.stamps.main.name`: expected a stamp's value"),
            (13, "unknown key `go.verison`"),
            (14, "did you mean `local`?"),
            (15, "`go.pins.linux/amd46`: expected GOOS/GOARCH"),
            (15, "`go.pins.linux/amd46`: expected h1:HASH"),
        ] {
            let place = format!("meridian.toml:{line}:");
            let is_told = told.lines().any(|told| told.contains(&place) && told.contains(words));
            assert!(is_told, "{place} {words}: {told}");
        }
        assert_eq!(told.lines().count(), 14, "{told}");
    }

    #[test]
    fn pins_without_a_version_are_told_beside_a_wrong_key_and_not_when_the_version_is_what_is_wrong() {
        let pins = "[go.pins]\n\"linux/amd64\" = \"h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"\n";
        let told = load(&format!("nmae = \"web\"\n{pins}")).unwrap_err().to_string();
        assert!(told.contains(":1:1: unknown key `nmae`, did you mean `name`?"), "{told}");
        assert!(told.contains(":2:5: `go.pins`: needs `go.version`"), "{told}");
        let told = load(&format!("go.version = 1\n{pins}")).unwrap_err().to_string();
        assert!(told.contains("`go.version`: expected") && !told.contains("needs"), "{told}");
    }

    #[test]
    fn a_missing_file_is_all_defaults_and_an_include_stays_below_the_module() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(ProjectFile::load(dir.path()).unwrap(), ProjectFile::default());
        let told = load("include = [\"../secret\", \"/etc\"]\n").unwrap_err().to_string();
        assert!(told.contains("../secret") && told.contains("/etc"), "{told}");
    }
}
