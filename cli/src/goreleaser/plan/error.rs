//! Why there is no plan.

use std::fmt;

use meridian_core::golang::platform::ParsePlatformError;

use crate::goreleaser::{config::Place, template::TemplateError};

/// Something that keeps a configuration from being a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A template cannot be rendered.
    #[error("{place}: {source}")]
    Template {
        /// Where it stands.
        place: Place,
        /// Why.
        source: TemplateError,
    },
    /// Nothing says what the project is called.
    #[error("nothing says what the project is called; set `project_name`")]
    NoProjectName,
    /// A release without a tag.
    #[error("the commit has no tag; tag it, or make a snapshot")]
    NoTag,
    /// A release whose tag is no version.
    #[error("the tag {0:?} is no version such as v1.2.3")]
    TagIsNoVersion(String),
    /// A snapshot without a version.
    #[error("{0}: the version of the snapshot is empty")]
    EmptyVersion(Place),
    /// Two elements of one section with the same id.
    #[error("{count} {section} have the id {id:?}; give each its own")]
    DuplicateId {
        /// The section.
        section: &'static str,
        /// The id.
        id: String,
        /// How many have it.
        count: usize,
    },
    /// An id that no build has.
    #[error("{place}: no build has the id {id:?}; there are {known}")]
    NoSuchBuild {
        /// Where it stands.
        place: Place,
        /// The id.
        id: String,
        /// Those that there are.
        known: String,
    },
    /// A signature's command that wants a digest.
    #[error("{0}: `$digest` is not followed; the command can read `$artifact`")]
    Digest(Place),
    /// A word that is not one of those that are known there.
    #[error("{place}: {found:?} is not known here; it can be {known}")]
    Unknown {
        /// Where it stands.
        place: Place,
        /// What was found.
        found: String,
        /// What it can be.
        known: String,
    },
    /// A target that Go cannot build.
    #[error("{place}: {source}")]
    Platform {
        /// Which build.
        place: Place,
        /// Why.
        source: ParsePlatformError,
    },
    /// A target that is no target.
    #[error("{place}: {found:?} is no target such as linux_amd64")]
    Target {
        /// Where it stands.
        place: Place,
        /// What was found.
        found: String,
    },
    /// A pattern of main packages that no package matches.
    #[error("{place}: no main package lies under {pattern:?}")]
    NoMain {
        /// Which build.
        place: Place,
        /// The pattern.
        pattern: String,
    },
    /// A pattern of several main packages with something that only one can have.
    #[error("{place}: `main` names {count} packages, so `{key}` cannot be set")]
    ManyMains {
        /// Which build.
        place: Place,
        /// How many packages it names.
        count: usize,
        /// `binary` or `id`.
        key: &'static str,
    },
    /// An archive that would hold more binaries for one platform than for another.
    #[error(
        "{0}: the archive would not hold the same number of binaries for every platform; name its builds with \
         `ids`, or set `allow_different_binary_count`"
    )]
    BinaryCount(Place),
    /// Two archives of the same name.
    #[error("{place}: there is another archive of the name {name:?}; its name template must tell them apart")]
    ArchiveExists {
        /// Which archive.
        place: Place,
        /// The name.
        name: String,
    },
    /// An archive of files that names none, or an SBOM without documents.
    #[error("{place}: `{key}` is empty")]
    Empty {
        /// Which.
        place: Place,
        /// The key.
        key: &'static str,
    },
    /// Documents where only one can be.
    #[error("{0}: only `artifacts: any` can have several documents")]
    ManyDocuments(Place),
    /// A name that would leave the directory, or is none.
    #[error("the name {0:?} is not one of a file in the output directory")]
    Name(String),
    /// More than any release has.
    #[error("the configuration asks for more than {max} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there can be.
        max: usize,
    },
}

/// Everything that keeps a configuration from being a plan, each once; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanErrors(pub Vec<PlanError>);

impl fmt::Display for PlanErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if at > 0 { "\n" } else { "" })?;
        }
        Ok(())
    }
}

impl std::error::Error for PlanErrors {}
