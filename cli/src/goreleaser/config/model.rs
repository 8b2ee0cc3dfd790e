//! The configuration, typed.

use std::fmt;

/// The names that GoReleaser looks for, in its order; the first that exists is the configuration.
pub const FILE_NAMES: [&str; 6] = [
    ".config/goreleaser.yml",
    ".config/goreleaser.yaml",
    ".goreleaser.yml",
    ".goreleaser.yaml",
    "goreleaser.yml",
    "goreleaser.yaml",
];

/// How many kinds of architecture level there are: GOAMD64, GO386, GOARM, GOARM64, GOMIPS, GOPPC64 and
/// GORISCV64, always in this order.
pub const LEVELS: usize = 7;

/// Where a value stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// The path of keys, such as `builds[0].ldflags[1]`.
    pub path: String,
    /// The line, from 1; absent for a value that is GoReleaser's default.
    pub line: Option<usize>,
}

/// A text, most often a template, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Text {
    /// As written.
    pub text: String,
    /// Where.
    pub place: Place,
}

/// A whole configuration. What is empty or absent was not said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// `project_name`
    pub project_name: Option<Text>,
    /// The names under `release.github`, `.gitlab` and `.gitea`: what a project is called that has no name.
    pub release_names: Vec<Text>,
    /// `release.draft`
    pub is_draft: bool,
    /// `dist`
    pub dist: Option<Text>,
    /// `env`
    pub env: Vec<Text>,
    /// `before.hooks`
    pub before_hooks: Vec<Text>,
    /// `builds`
    pub builds: Vec<Build>,
    /// `universal_binaries`
    pub universal_binaries: Vec<UniversalBinary>,
    /// `archives`
    pub archives: Vec<Archive>,
    /// `source`
    pub source: SourceArchive,
    /// `checksum`
    pub checksum: Checksum,
    /// `snapshot.version_template`
    pub snapshot_version: Option<Text>,
    /// `sboms`
    pub sboms: Vec<Document>,
    /// `binary_signs`
    pub binary_signs: Vec<Signing>,
    /// `signs`
    pub signs: Vec<Signing>,
}

/// An element of `builds`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Build {
    /// Where it stands.
    pub place: Place,
    /// `id`
    pub id: Option<Text>,
    /// `builder`: nothing or `go`; another builder's builds are kept so that they can be reported.
    pub builder: Option<Text>,
    /// `dir`
    pub dir: Option<Text>,
    /// `main`
    pub main: Option<Text>,
    /// `binary`
    pub binary: Option<Text>,
    /// `goos`, `goarch` and the levels.
    pub matrix: Matrix,
    /// `targets`, which replaces the matrix.
    pub targets: Vec<Text>,
    /// `ignore`
    pub ignore: Vec<Selector>,
    /// What may differ from platform to platform.
    pub details: Details,
    /// `overrides`
    pub overrides: Vec<Override>,
    /// `mod_timestamp`
    pub mod_timestamp: Option<Text>,
    /// `skip`
    pub skip: Option<Text>,
    /// `no_unique_dist_dir`
    pub no_unique_dist_dir: Option<Text>,
}

/// The platforms of a build: every `goos` with every `goarch` with every level of that architecture.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Matrix {
    /// `goos`
    pub goos: Vec<Text>,
    /// `goarch`
    pub goarch: Vec<Text>,
    /// `goamd64` and so on.
    pub levels: [Vec<Text>; LEVELS],
}

/// An element of `ignore`, and what an override is for; what is empty matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    /// `goos`
    pub goos: String,
    /// `goarch`
    pub goarch: String,
    /// `goamd64` and so on.
    pub levels: [String; LEVELS],
}

/// An element of `overrides`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Override {
    /// Where it stands.
    pub place: Place,
    /// The one platform it is for.
    pub selector: Selector,
    /// What differs there.
    pub details: Details,
}

/// What `go build` is told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Details {
    /// `buildmode`
    pub buildmode: Option<Text>,
    /// `ldflags`, which are joined by blanks.
    pub ldflags: Vec<Text>,
    /// `tags`
    pub tags: Vec<Text>,
    /// `flags`
    pub flags: Vec<Text>,
    /// `asmflags`
    pub asmflags: Vec<Text>,
    /// `gcflags`
    pub gcflags: Vec<Text>,
    /// `env`
    pub env: Vec<Text>,
}

/// An element of `universal_binaries`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UniversalBinary {
    /// Where it stands.
    pub place: Place,
    /// `id`
    pub id: Option<Text>,
    /// `ids`
    pub ids: Vec<Text>,
    /// `name_template`
    pub name_template: Option<Text>,
    /// `replace`
    pub replaces: bool,
    /// `mod_timestamp`
    pub mod_timestamp: Option<Text>,
}

/// An element of `archives`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Archive {
    /// Where it stands.
    pub place: Place,
    /// `id`
    pub id: Option<Text>,
    /// `ids` and the older `builds`.
    pub ids: Vec<Text>,
    /// `name_template`
    pub name_template: Option<Text>,
    /// `formats` and the older `format`.
    pub formats: Vec<Text>,
    /// `format_overrides`
    pub format_overrides: Vec<FormatOverride>,
    /// `wrap_in_directory`
    pub wrap_in_directory: Option<Text>,
    /// `strip_binary_directory`
    pub strips_binary_directory: bool,
    /// `files`
    pub files: Vec<ArchiveFile>,
    /// `meta`
    pub is_meta: bool,
    /// `allow_different_binary_count`
    pub allows_different_binary_count: bool,
}

/// An element of `format_overrides`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FormatOverride {
    /// `goos`: what a platform's operating system begins with.
    pub goos: String,
    /// `formats` and the older `format`.
    pub formats: Vec<Text>,
}

/// An element of `files`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ArchiveFile {
    /// `src`: a pattern of paths.
    pub source: Text,
    /// `dst`
    pub destination: String,
    /// `strip_parent`
    pub strips_parent: bool,
}

/// `source`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceArchive {
    /// `enabled`
    pub is_enabled: bool,
    /// `format`
    pub format: Option<Text>,
    /// `name_template`
    pub name_template: Option<Text>,
    /// `prefix_template`
    pub prefix_template: Option<Text>,
}

/// `checksum`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checksum {
    /// `name_template`
    pub name_template: Option<Text>,
    /// `algorithm`
    pub algorithm: Option<Text>,
    /// `split`: a file for each asset.
    pub is_split: bool,
    /// `disable`
    pub is_disabled: bool,
    /// `ids`
    pub ids: Vec<Text>,
    /// Whether `extra_files` names any.
    pub has_extra_files: bool,
}

/// An element of `sboms`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Document {
    /// Where it stands.
    pub place: Place,
    /// `id`
    pub id: Option<Text>,
    /// `artifacts`
    pub artifacts: Option<Text>,
    /// `documents`
    pub documents: Vec<Text>,
    /// `ids`
    pub ids: Vec<Text>,
    /// `disable`
    pub disable: Option<Text>,
}

/// An element of `signs` or `binary_signs`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Signing {
    /// Where it stands.
    pub place: Place,
    /// `id`
    pub id: Option<Text>,
    /// `artifacts`
    pub artifacts: Option<Text>,
    /// `signature`
    pub signature: Option<Text>,
    /// `certificate`
    pub certificate: Option<Text>,
    /// `ids`
    pub ids: Vec<Text>,
    /// `env`
    pub env: Vec<Text>,
    /// `cmd`
    pub cmd: Option<Text>,
    /// `args`
    pub args: Vec<Text>,
    /// `stdin`
    pub stdin: Option<Text>,
    /// `stdin_file`
    pub stdin_file: Option<Text>,
}

impl Text {
    /// A text that GoReleaser takes when the configuration does not say one.
    #[must_use]
    pub fn default_of(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self { text: text.into(), place: Place { path: path.into(), line: None } }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{} (line {line})", self.path),
            None => write!(f, "{} (its default)", self.path),
        }
    }
}
