//! What a build was asked to be, and how it was run.

use meridian_core::{
    build::{BuildFlags, GitOrigin, Toolchain},
    digest::Digest,
    golang::{h1::H1, platform::Platform},
    id::{Fence, PlacementNumber, TaskId},
    requester::Requester,
};
use serde::{Deserialize, Serialize};

use super::core_types::{BuildFlagsWire, PlatformWire, ToolchainWire, optional_origin};
use crate::document::{as_number, as_optional_text, as_text};

/// Everything from outside that decides what comes out. The coordinator orders it, the provenance repeats it.
///
/// The fields stand in the order of their names in documents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ExternalParameters {
    /// The exact flags.
    #[serde(with = "BuildFlagsWire")]
    pub flags: BuildFlags,
    /// Whether it is compiled from nothing: with an empty build cache, and without the last output. Written only where
    /// it is.
    #[serde(default, skip_serializing_if = "is_not")]
    pub from_scratch: bool,
    /// The artifact's base name, when the request overrides Go's own choice.
    pub name: Option<String>,
    /// All packages of the build.
    pub packages: Vec<String>,
    /// What it is built for.
    #[serde(with = "PlatformWire")]
    pub platform: Platform,
    /// What is built.
    pub source: Source,
    /// Which Go was asked for.
    #[serde(with = "ToolchainWire")]
    pub toolchain: Toolchain,
    /// The version in artifact names and stamps; empty for a module source.
    pub version: String,
}

/// What is built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Source {
    /// A package of a module, as `go install` takes it, and what its query resolved to.
    Module {
        /// The `h1:` of the module's zip.
        #[serde(with = "as_text")]
        h1: H1,
        /// The module that holds the package.
        module: String,
        /// The package's import path.
        package: String,
        /// What was asked for: `latest`, a version, a branch.
        query: String,
        /// The module's canonical version.
        version: String,
    },
    /// A tree of files.
    Tree {
        /// The commit that the tree is, when it is one.
        #[serde(with = "optional_origin")]
        origin: Option<GitOrigin>,
        /// The digest of the root directory.
        #[serde(with = "as_text")]
        root: Digest,
        /// Where the module lies in the tree.
        work_dir: String,
        /// Whether a `go.work` at the tree's root applies.
        workspace: bool,
    },
}

/// How the build was run. Nothing here is the user's choice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct InternalParameters {
    /// The lease under which it was built.
    #[serde(with = "as_number")]
    pub fence: Fence,
    /// The one of the build's packages that the artifact is.
    pub package: String,
    /// The placement that put the task on its builder.
    #[serde(with = "as_number")]
    pub placement: PlacementNumber,
    /// The digest of the whole request.
    #[serde(with = "as_text")]
    pub request_digest: Digest,
    /// Who asked for the build, as the coordinator authenticated them: whose word the source's origin, the version,
    /// the names and the stamps are. Statements of before this was kept do not say.
    #[serde(default, with = "as_optional_text", skip_serializing_if = "Option::is_none")]
    pub requester: Option<Requester>,
    /// What stood around the compiler.
    pub sandbox: Sandbox,
    /// The task.
    #[serde(with = "as_text")]
    pub task: TaskId,
}

/// What stood around the compiler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sandbox {
    /// What it confines, such as `landlock`, `network`, `seccomp`; sorted and without repeats.
    pub features: Vec<String>,
    /// Which kind it is; `none` for none.
    pub kind: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference over")]
fn is_not(flag: &bool) -> bool {
    !flag
}

impl Source {
    /// The name that a policy matches: the package's import path, the repository's address, or `tree:DIGEST`
    /// for a directory that is no commit.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Module { package, .. } => package.clone(),
            Self::Tree { origin: Some(origin), .. } => origin.url.clone(),
            Self::Tree { root, .. } => format!("tree:{root}"),
        }
    }
}
