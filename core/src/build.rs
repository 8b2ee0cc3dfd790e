//! What a build is asked to be: its source, its platforms and its exact flags.
//!
//! These are values. They are checked where they enter ([`BuildSpec::check`]) and then trusted.

mod check;
mod flags;
mod names;
mod wishes;

use crate::{
    attestation::Attestation,
    digest::Digest,
    golang::platform::{ParsePlatformError, Platform},
    id::{AgentId, BuildId, RegionName},
    quantity::ByteCount,
};

pub use flags::LINKER_TEXT_LEN_MAX;
pub use names::{artifact_name, artifact_name_of, executable_name, version_for_names, version_named};
pub use wishes::{ConcurrencyGroup, WISHED_MAX, Wishes};

/// Everything that decides what a build produces, and the wishes that only decide where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildSpec {
    /// What is built.
    pub source: Source,
    /// Package paths relative to the source's work directory (`.`, `./cmd/server`). Always just `.` for a
    /// module source, whose path names the one package.
    pub packages: Vec<String>,
    /// One task is made for each.
    pub platforms: Vec<Platform>,
    /// Which Go builds it.
    pub toolchain: Toolchain,
    /// The exact flags.
    pub flags: BuildFlags,
    /// The artifact's base name, when the request overrides Go's own choice. Only with one package.
    pub name: Option<String>,
    /// The version in artifact names, and what `{version}` stands for in stamps. Empty for a module source:
    /// the resolved version is used.
    pub version: String,
    /// Where the user would like it built.
    pub wishes: Wishes,
    /// Whether it is compiled from nothing: with an empty build cache, and without the last output of its lineage.
    pub from_scratch: bool,
    /// The build that this one repeats. Set by the coordinator alone, from that build's record.
    pub rebuild: Option<Rebuild>,
}

/// What is fixed by the build that this one repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuild {
    /// Which build.
    pub of: BuildId,
    /// What its module source resolved to, so that nothing is resolved again; `None` for a tree.
    pub resolution: Option<Resolution>,
    /// Who built each platform then. Another agent is taken where there is one.
    pub builders: Vec<(Platform, AgentId)>,
}

impl Rebuild {
    /// Who built a platform the first time.
    #[must_use]
    pub fn builder(&self, platform: &Platform) -> Option<&AgentId> {
        self.builders.iter().find(|(built, _)| built == platform).map(|(_, agent)| agent)
    }
}

/// What is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `package@query` as `go install` takes it. Resolved once for the whole build, by its first task.
    Module {
        /// A package's import path; its module is a prefix of it.
        package: String,
        /// `latest`, a version, a branch or a commit.
        query: String,
    },
    /// A tree of files that the client has uploaded.
    Tree {
        /// The digest of the root directory.
        root: Digest,
        /// Where the module lies in the tree: `""` for the root, else slash-separated without a leading one.
        work_dir: String,
        /// Whether a `go.work` at the tree's root applies.
        workspace: bool,
        /// Where the tree came from, when it is a commit.
        origin: Option<GitOrigin>,
        /// Proof that a durable holder has the tree.
        receipts: Vec<Receipt>,
    },
}

/// The commit that a tree is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitOrigin {
    /// The repository's address, without credentials.
    pub url: String,
    /// The full commit id in hexadecimal.
    pub commit: String,
}

/// Which Go builds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Toolchain {
    /// The version that this release of Meridian pins by hash.
    Default,
    /// A named version such as `1.26.9`.
    Version {
        /// Go's version without the `go` prefix.
        version: String,
        /// `GOOS/GOARCH` of a host → the `h1:` of that toolchain's module. A host without a row here is
        /// checked against the checksum database.
        pins: Vec<(String, String)>,
    },
    /// Whatever Go is installed on the agent.
    Local,
}

/// The flags of one lineage. Everything else that could change the output is fixed by the agent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BuildFlags {
    /// Whether cgo is on. Off unless asked.
    pub cgo: bool,
    /// Build tags, sorted and without repeats.
    pub tags: Vec<String>,
    /// Linker flags before the stamps, such as `-s -w`.
    pub ldflags: Vec<String>,
    /// `-X name=value` pairs, in order; `{version}` and `{commit}` in a value are replaced.
    pub stamps: Vec<(String, String)>,
}

/// A holder's word that it keeps a blob until the build that names it is forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Who holds it.
    pub holder: String,
    /// What is held.
    pub digest: Digest,
    /// How large it is.
    pub size: ByteCount,
    /// The holder's HMAC-SHA256 over the fields above and the project.
    pub mac: Vec<u8>,
}

/// What a module source resolved to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// The module that holds the package.
    pub module: String,
    /// Its canonical version.
    pub version: String,
    /// The `h1:` of its zip.
    pub sum: String,
}

/// A file that a task made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// `NAME_VERSION_OS_ARCH[.exe]`.
    pub name: String,
    /// The package it was built from.
    pub package: String,
    /// Its content.
    pub digest: Digest,
    /// Its size.
    pub size: ByteCount,
    /// Who holds it. One copy for now; at least one is required.
    pub receipts: Vec<Receipt>,
    /// What its signer said. Results of before there were signers have none.
    pub attestation: Option<Attestation>,
}

impl Artifact {
    /// The artifact's own content, and every document that belongs to it.
    pub fn blobs(&self) -> impl Iterator<Item = Digest> {
        let documents = self.attestation.iter().flat_map(Attestation::documents);
        std::iter::once(self.digest).chain(documents.map(|document| document.digest))
    }
}

/// Most platforms in one build.
pub const PLATFORMS_MAX: usize = 64;
/// Most packages in one build.
pub const PACKAGES_MAX: usize = 64;
/// Most bytes in one text of a spec.
pub const TEXT_LEN_MAX: usize = 4096;
/// Most tags, linker flags or stamps.
pub const FLAGS_MAX: usize = 256;

/// Most receipts for one tree: one for each holder of its root.
pub const RECEIPTS_MAX: usize = 16;

/// Why a spec is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// A list was empty.
    #[error("no {0} given")]
    Empty(&'static str),
    /// A list was too long.
    #[error("more than {max} {what}")]
    TooMany {
        /// Which list.
        what: &'static str,
        /// Its limit.
        max: usize,
    },
    /// A text was too long, or held a control character.
    #[error("{0} is longer than 4096 bytes or holds a control character")]
    Text(&'static str),
    /// A path left the source tree.
    #[error("{what} {path:?} must stay within the source tree")]
    Path {
        /// Which path.
        what: &'static str,
        /// What was given.
        path: String,
    },
    /// A platform or a package was given twice.
    #[error("{0} is given twice")]
    Twice(String),
    /// A name for the artifact with several packages, or one that is not a file name.
    #[error("artifact name {0:?} must be a plain file name, and needs exactly one package")]
    Name(String),
    /// A flag that would take the command line over.
    #[error("linker flag {0:?} is refused: {1}")]
    Flag(String, &'static str),
    /// A region was wished for in which it may not be built.
    #[error("region {0} is wished for and is not among the regions that are allowed")]
    OutOfBounds(RegionName),
    /// An agent was wished for, and another region than its own.
    #[error("agent {0} is wished for and is not in region {1}, which is wished for too")]
    Elsewhere(AgentId, RegionName),
    /// Not even one task may be at work.
    #[error("at least one task must be allowed to be at work")]
    NoneAtOnce,
    /// Part of a module source.
    #[error("{0:?} is not a package path and a version query")]
    Module(String),
    /// Packages beside the one that a module source names.
    #[error("a module source names its one package itself, so the list of packages must be \".\"")]
    ModulePackages,
    /// What a rebuild says of the build that it repeats contradicts the rest.
    #[error("a rebuild {0}")]
    Rebuild(&'static str),
    /// A receipt for another blob than the tree's root.
    #[error("a receipt is for another blob than the tree's root directory")]
    Receipt,
    /// A platform that Go does not have.
    #[error(transparent)]
    Platform(ParsePlatformError),
    /// A version that cannot stand in a file name and in a stamp.
    #[error("version {0:?} must be at most 100 visible ASCII characters without quotes and backslashes")]
    Version(String),
    /// A repository address that carries a password.
    #[error("the repository address must not carry credentials")]
    Credentials,
    /// Not a full commit id.
    #[error("{0:?} is not a full commit id in lower-case hexadecimal")]
    Commit(String),
    /// Not a Go version.
    #[error("{0:?} is not a go version such as 1.27.3")]
    GoVersion(String),
    /// Not a toolchain's hash.
    #[error("toolchain pin {0:?} must be GOOS/GOARCH = h1:HASH")]
    Pin(String),
    /// A list whose order is fixed was not in that order, or held something twice.
    #[error("{0} must be sorted and without repeats")]
    Unsorted(&'static str),
    /// Not a build tag.
    #[error("build tag {0:?} must be letters, digits, '_' and '.'")]
    Tag(String),
    /// A stamp that the linker could not take.
    #[error("stamp {0:?} is refused: {1}")]
    Stamp(String, &'static str),
    /// More than the operating system takes as one argument.
    #[error("linker flags and stamps are together longer than 96 KiB")]
    LinkerText,
}
