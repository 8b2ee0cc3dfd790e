//! The plan.

use std::collections::{BTreeMap, BTreeSet};

use meridian_core::golang::platform::Platform;

/// What GoReleaser would build and upload.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// What the project is called.
    pub project_name: String,
    /// The version in names and flags.
    pub version: String,
    /// Where GoReleaser puts everything, from the project's directory.
    pub dist: String,
    /// What the configuration sets in the environment of everything.
    pub env: BTreeMap<String, String>,
    /// Commands that GoReleaser runs first, such as `go mod tidy`.
    pub before_hooks: Vec<String>,
    /// One executable each.
    pub builds: Vec<PlannedBuild>,
    /// Executables of several macOS builds in one.
    pub universal_binaries: Vec<PlannedUniversal>,
    /// Archives, and executables that are uploaded as they are.
    pub archives: Vec<PlannedArchive>,
    /// The archive of the commit's files.
    pub source: Option<PlannedSource>,
    /// Software bills of materials.
    pub documents: Vec<PlannedDocument>,
    /// Lists of checksums: one, or one for each asset.
    pub checksums: Vec<PlannedChecksums>,
    /// Signatures.
    pub signatures: Vec<PlannedSignature>,
}

/// One run of `go build`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedBuild {
    /// The build's id; several platforms share it.
    pub id: String,
    /// GoReleaser's name of the target, such as `linux_amd64_v1`.
    pub target: String,
    /// What it is built for.
    pub platform: Platform,
    /// Where `go build` runs, from the project's directory.
    pub directory: String,
    /// The package or file, from that directory.
    pub main: String,
    /// The executable's name, with `.exe` for Windows; may begin with directories.
    pub binary: String,
    /// Where GoReleaser puts it, from the project's directory.
    pub path: String,
    /// What the configuration sets in the environment, in order; the platform's variables are not among it.
    pub env: Vec<(String, String)>,
    /// Flags before those below.
    pub flags: Vec<String>,
    /// Values of `-asmflags`.
    pub asmflags: Vec<String>,
    /// Values of `-gcflags`.
    pub gcflags: Vec<String>,
    /// Build tags; absent where GoReleaser passes no `-tags`.
    pub tags: Option<Vec<String>>,
    /// The value of `-ldflags`.
    pub ldflags: String,
    /// The value of `-buildmode`; absent where GoReleaser passes none.
    pub buildmode: Option<String>,
    /// The time to give the file, in seconds since the Unix epoch or RFC 3339 as configured.
    pub mod_timestamp: Option<String>,
}

/// An executable that holds several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedUniversal {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Where GoReleaser puts it, from the project's directory.
    pub path: String,
    /// The builds that it holds, as places in [`Plan::builds`].
    pub builds: Vec<usize>,
    /// Whether those are in no archive any more.
    pub replaces: bool,
    /// The time to give the file.
    pub mod_timestamp: Option<String>,
}

/// An executable of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A place in [`Plan::builds`].
    Build(usize),
    /// A place in [`Plan::universal_binaries`].
    Universal(usize),
}

/// An archive, or an executable that is uploaded as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedArchive {
    /// The archive's id; several platforms share it.
    pub id: String,
    /// Its file name.
    pub name: String,
    /// `tar.gz`, `zip` and so on; `binary` for an executable as it is.
    pub format: String,
    /// The executables, each with its name in the archive; exactly one for `binary`, none for an archive of
    /// files only.
    pub binaries: Vec<(Part, String)>,
    /// The directory in the archive that everything lies in; empty for none.
    pub wrap_in: String,
    /// Further files.
    pub files: Vec<PlannedFile>,
}

/// Files of the project that go into an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedFile {
    /// A pattern of paths from the project's directory.
    pub pattern: String,
    /// Where they go.
    pub destination: String,
    /// Whether they go there without their directories.
    pub strips_parent: bool,
    /// Whether it is one of GoReleaser's own, which may match nothing.
    pub is_default: bool,
}

/// The archive of the commit's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedSource {
    /// Its file name.
    pub name: String,
    /// `tar.gz`, `tgz`, `tar` or `zip`.
    pub format: String,
    /// What every path in it begins with.
    pub prefix: String,
}

/// What a document or a signature is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// An executable that is not an asset itself.
    Part(Part),
    /// An asset, by its name.
    Asset(String),
    /// The project as a whole.
    Project,
}

/// A software bill of materials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedDocument {
    /// Its file name.
    pub name: String,
    /// What it is of.
    pub subject: Subject,
}

/// A list of checksums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedChecksums {
    /// Its file name.
    pub name: String,
    /// The algorithm as configured; names may hold it.
    pub algorithm: String,
    /// The assets in it.
    pub assets: Vec<String>,
    /// Whether it is the file of one asset, which holds the digest and no name.
    pub is_split: bool,
}

/// A signature, with or without a certificate beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedSignature {
    /// Its file name.
    pub name: String,
    /// The file name of the certificate.
    pub certificate: Option<String>,
    /// What is signed.
    pub subject: Subject,
    /// Who signs.
    pub maker: Maker,
}

/// Who makes a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Maker {
    /// The fleet's signer, of an executable that an agent built.
    Fleet,
    /// A command of the project, of what is packed here.
    Command(PlannedCommand),
}

/// A command of the project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedCommand {
    /// The program.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// What it sees in its environment beside the project's own.
    pub env: BTreeMap<String, String>,
    /// What it reads.
    pub stdin: Stdin,
    /// The file that it is to write the signature to, from the project's directory.
    pub signature: String,
    /// The file that it is to write the certificate to; empty for none.
    pub certificate: String,
}

/// What a command reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stdin {
    /// Nothing.
    Nothing,
    /// A text.
    Text(String),
    /// A file, from the project's directory.
    File(String),
}

impl Plan {
    /// The name of everything that would be uploaded, as often as it is made.
    pub fn assets(&self) -> impl Iterator<Item = &str> {
        let archives = self.archives.iter().map(|archive| archive.name.as_str());
        let source = self.source.iter().map(|source| source.name.as_str());
        let documents = self.documents.iter().map(|document| document.name.as_str());
        let checksums = self.checksums.iter().map(|checksums| checksums.name.as_str());
        let signatures = self.signatures.iter().map(|signature| signature.name.as_str());
        let certificates = self.signatures.iter().filter_map(|signature| signature.certificate.as_deref());
        archives.chain(source).chain(documents).chain(checksums).chain(signatures).chain(certificates)
    }

    /// The names of everything that would be uploaded.
    ///
    /// These are the artifacts of `goreleaser release --snapshot` of the types that it uploads, without those
    /// that [`crate::goreleaser::config::Effect::MissingAssets`] reports. A name that two artifacts share,
    /// against which GoReleaser only warns, is here once.
    #[must_use]
    pub fn asset_names(&self) -> BTreeSet<String> {
        self.assets().map(str::to_owned).collect()
    }
}

#[cfg(test)]
impl PlannedBuild {
    /// A build of the main package here for linux/amd64, to be changed by a test.
    pub(crate) fn sample() -> Self {
        Self {
            id: "tool".to_owned(),
            target: "linux_amd64_v1".to_owned(),
            platform: Platform::parse("linux/amd64").unwrap(),
            directory: ".".to_owned(),
            main: ".".to_owned(),
            binary: "tool".to_owned(),
            path: "dist/tool_linux_amd64_v1/tool".to_owned(),
            env: Vec::new(),
            flags: Vec::new(),
            asmflags: Vec::new(),
            gcflags: Vec::new(),
            tags: None,
            ldflags: String::new(),
            buildmode: None,
            mod_timestamp: None,
        }
    }
}
