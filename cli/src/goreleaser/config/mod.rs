//! What a `.goreleaser.yaml` says, with the place of everything it says.
//!
//! A file is read as GoReleaser 2.16 reads it: a key that GoReleaser does not know is an error, since a
//! misspelt `archives` must not quietly give other names, and a key that it knows and we do not follow is
//! reported with what that changes. Values are kept as written; defaults and templates come later, in the
//! plan, where the facts of the project are known.

mod decode;
mod decode_builds;
mod error;
mod keys;
mod model;
mod report;
mod section;
#[cfg(test)]
mod tests;

pub use error::{ConfigErrors, Mistake};
pub use model::{
    Archive, ArchiveFile, Build, Checksum, Config, Details, Document, FILE_NAMES, FormatOverride, LEVELS,
    Matrix, Override, Place, Selector, Signing, SourceArchive, Text, UniversalBinary,
};
pub use report::{Effect, IgnoredKey, Note, Report};
