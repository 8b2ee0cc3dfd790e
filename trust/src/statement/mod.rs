//! What is said of an artifact: an in-toto Statement v1 with SLSA provenance v1.
//!
//! Who built it, from what, on whose order and with which settings. [`Provenance`] is the typed value; its
//! JSON is canonical, and is read back only when it is exactly what the value that was read would write
//! again. So what stands in it twice (a commit as a parameter and as a dependency, the task in the
//! invocation's id) can never differ, and a field that this version does not know is refused rather than
//! overlooked.
//!
//! Formats: `https://in-toto.io/Statement/v1`, `https://slsa.dev/provenance/v1`, digests named as in
//! in-toto's DigestSet (`goModuleH1` is an `h1:` hash in hexadecimal), modules as package URLs. Not here:
//! whether any of it is true. The signer fills the fields from its own build, and the coordinator compares
//! them with what it ordered.

mod core_types;
mod dependencies;
mod parameters;
mod provenance;
mod wire;

pub(crate) use dependencies::DEVEL;
pub use dependencies::{ModuleContent, ModuleUsed, ModuleVersion, ToolchainUsed};
pub use parameters::{ExternalParameters, InternalParameters, Sandbox, Source};
pub use provenance::{BUILD_TYPE, PAYLOAD_TYPE, PREDICATE_TYPE, Provenance, ProvenanceError, Subject};

#[cfg(test)]
pub(crate) mod tests;
