//! What GoReleaser would build and upload for a configuration, computed and not done.
//!
//! The steps stand in files of their own and run in GoReleaser's order, because what one makes is what the
//! next one sees: builds, universal binaries, signatures of binaries, archives, the source archive, SBOMs,
//! checksums, signatures. Every rule is GoReleaser 2.16's, odd ones included, since the aim is its names.
//! Nothing is read, run or written here: facts come in a [`Context`].

mod archives;
mod artifact;
mod builds;
mod checksums;
mod context;
mod documents;
mod error;
mod mains;
mod model;
mod resolve;
mod shell;
mod signatures;
mod target;
#[cfg(test)]
mod tests;
mod universal;

pub use context::{Context, GitFacts, MainPackage};
pub use error::{PlanError, PlanErrors};
pub use model::{
    Maker, Part, Plan, PlannedArchive, PlannedBuild, PlannedChecksums, PlannedCommand, PlannedDocument,
    PlannedFile, PlannedSignature, PlannedSource, PlannedUniversal, Stdin, Subject,
};
pub(crate) use resolve::{DIST, NO_TAG};
pub use target::Target;
