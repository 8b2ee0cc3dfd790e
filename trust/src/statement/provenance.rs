//! The provenance of one artifact.

use meridian_core::{build::TEXT_LEN_MAX, digest::Digest, time::Wall};

use super::{
    ExternalParameters, InternalParameters, ModuleUsed, ToolchainUsed, dependencies,
    wire::{
        BuildDefinition, Builder, BuilderVersion, Metadata, Predicate, RunDetails, Sha256, Statement,
        Subject as SubjectWire,
    },
};
use crate::{
    document::{self, DocumentError},
    dsse::{ENVELOPE_LEN_MAX, Envelope, EnvelopeError},
    holder::Holder,
    keys::{SignError, Signer, VerifyingKey},
    timestamp::{Timestamp, TimestampError},
};

/// The payload type of every in-toto statement.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// What the statement says: SLSA provenance, version 1.
pub const PREDICATE_TYPE: &str = "https://slsa.dev/provenance/v1";
/// What `externalParameters` and `internalParameters` mean: those of this crate. A name, not a page.
pub const BUILD_TYPE: &str = "https://meridian.build/go/v1";
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// The longest file name or version, in bytes.
const NAME_LEN_MAX: usize = 255;

/// How an artifact came to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    /// The artifact.
    pub subject: Subject,
    /// What was asked.
    pub external: ExternalParameters,
    /// How it was run.
    pub internal: InternalParameters,
    /// The Go that built it.
    pub toolchain: ToolchainUsed,
    /// Every module that was linked, the source's own apart; written sorted.
    pub modules: Vec<ModuleUsed>,
    /// Who built it: the agent's SPIFFE id.
    pub builder: Holder,
    /// The builder's version of Meridian.
    pub builder_version: String,
    /// When the attempt began.
    pub started: Wall,
    /// When it ended.
    pub finished: Wall,
}

/// An artifact by name and content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Its file name.
    pub name: String,
    /// Its SHA-256.
    pub digest: Digest,
}

/// Why there is no such provenance.
#[derive(Debug, thiserror::Error)]
pub enum ProvenanceError {
    /// Not a statement of this shape.
    #[error("not meridian's provenance statement: {0}")]
    Document(#[from] DocumentError),
    /// Another kind of statement.
    #[error("{what} is {found:?}, expected {wanted}")]
    Kind {
        /// Which field.
        what: &'static str,
        /// What it says.
        found: String,
        /// What it should say.
        wanted: &'static str,
    },
    /// What went in cannot be said like this.
    #[error("resolved dependencies: {0}")]
    Dependency(String),
    /// A module twice.
    #[error("resolved dependencies: {0} is there twice")]
    Twice(String),
    /// A text that is too long or holds what it must not.
    #[error("the {0} is empty, too long or holds a character that it must not")]
    Text(&'static str),
    /// It ended before it began.
    #[error("the build ended before it began")]
    Times,
    /// A moment that cannot be written.
    #[error(transparent)]
    Timestamp(#[from] TimestampError),
    /// What is said twice differs.
    #[error("a field contradicts another one, or is not where it belongs")]
    Contradiction,
    /// Not signed by the key.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The key's holder did not sign.
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl Provenance {
    /// The id of the attempt: the task and the fence under which it was leased.
    #[must_use]
    pub fn invocation_id(&self) -> String {
        format!("{}/{}", self.internal.task, self.internal.fence)
    }

    /// The statement's one JSON.
    ///
    /// # Errors
    /// When a field holds what cannot be said.
    pub fn to_statement(&self) -> Result<Vec<u8>, ProvenanceError> {
        self.check()?;
        let dependencies =
            dependencies::to_descriptors(&self.external.source, &self.toolchain, &self.modules)?;
        let statement = Statement {
            statement_type: STATEMENT_TYPE.to_owned(),
            subject: [SubjectWire {
                name: self.subject.name.clone(),
                digest: Sha256 { sha256: self.subject.digest },
            }],
            predicate_type: PREDICATE_TYPE.to_owned(),
            predicate: Predicate {
                build_definition: BuildDefinition {
                    build_type: BUILD_TYPE.to_owned(),
                    external_parameters: self.external.clone(),
                    internal_parameters: self.internal.clone(),
                    resolved_dependencies: dependencies,
                },
                run_details: RunDetails {
                    builder: Builder {
                        id: self.builder.clone(),
                        version: BuilderVersion { meridian: self.builder_version.clone() },
                    },
                    metadata: Metadata {
                        invocation_id: self.invocation_id(),
                        started_on: Timestamp::new(self.started)?,
                        finished_on: Timestamp::new(self.finished)?,
                    },
                },
            },
        };
        Ok(document::write(&statement))
    }

    /// Reads a statement.
    ///
    /// # Errors
    /// When the bytes are not exactly what [`Provenance::to_statement`] gives for what they say.
    pub fn from_statement(bytes: &[u8]) -> Result<Self, ProvenanceError> {
        let statement: Statement = document::parse(bytes, ENVELOPE_LEN_MAX)?;
        check_kind("_type", statement.statement_type, STATEMENT_TYPE)?;
        check_kind("predicateType", statement.predicate_type, PREDICATE_TYPE)?;
        let Predicate { build_definition: build, run_details: run } = statement.predicate;
        check_kind("buildType", build.build_type, BUILD_TYPE)?;
        let [subject] = statement.subject;
        let (toolchain, modules) =
            dependencies::from_descriptors(&build.external_parameters.source, &build.resolved_dependencies)?;
        let provenance = Self {
            subject: Subject { name: subject.name, digest: subject.digest.sha256 },
            external: build.external_parameters,
            internal: build.internal_parameters,
            toolchain,
            modules,
            builder: run.builder.id,
            builder_version: run.builder.version.meridian,
            started: run.metadata.started_on.wall(),
            finished: run.metadata.finished_on.wall(),
        };
        // Whatever is derived (the commit's address, the invocation's id, the order) must be as it is
        // derived.
        if provenance.to_statement()? == bytes { Ok(provenance) } else { Err(ProvenanceError::Contradiction) }
    }

    /// Signs the statement.
    ///
    /// # Errors
    /// When a field holds what cannot be said, or the key's holder does not sign.
    pub fn sign(&self, signer: &dyn Signer) -> Result<Envelope, ProvenanceError> {
        Ok(Envelope::sign(signer, PAYLOAD_TYPE, self.to_statement()?)?)
    }

    /// Reads a statement that a key signed.
    ///
    /// # Errors
    /// When the key did not sign it, or it is no such statement.
    pub fn open(envelope: &Envelope, key: &VerifyingKey) -> Result<Self, ProvenanceError> {
        Self::from_statement(envelope.open(key, PAYLOAD_TYPE)?)
    }

    /// What the types alone do not say. That the parameters themselves make sense is checked where they
    /// enter.
    fn check(&self) -> Result<(), ProvenanceError> {
        let name = &self.subject.name;
        if !is_text(name, NAME_LEN_MAX) || name.contains(['/', '\\']) || matches!(name.as_str(), "." | "..") {
            return Err(ProvenanceError::Text("subject's name"));
        }
        if !is_text(&self.internal.package, TEXT_LEN_MAX) {
            return Err(ProvenanceError::Text("package"));
        }
        if !is_text(&self.builder_version, NAME_LEN_MAX) {
            return Err(ProvenanceError::Text("builder's version"));
        }
        let is_word = |word: &String| {
            (1..=63).contains(&word.len())
                && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        let sandbox = &self.internal.sandbox;
        let is_sorted = sandbox.features.is_sorted_by(|a, b| a < b);
        if !is_sorted || !sandbox.features.iter().chain([&sandbox.kind]).all(is_word) {
            return Err(ProvenanceError::Text("sandbox's kind or list of features"));
        }
        if self.finished < self.started {
            return Err(ProvenanceError::Times);
        }
        Ok(())
    }
}

fn is_text(text: &str, len_max: usize) -> bool {
    (1..=len_max).contains(&text.len()) && !text.chars().any(char::is_control)
}

fn check_kind(what: &'static str, found: String, wanted: &'static str) -> Result<(), ProvenanceError> {
    if found == wanted {
        return Ok(());
    }
    Err(ProvenanceError::Kind { what, found: found.chars().take(100).collect(), wanted })
}
