//! What makes an artifact worth trusting: signatures, statements about how it was built, and their
//! verification.
//!
//! The formats are those that stock tools accept (DSSE, Sigstore bundles, in-toto, SLSA provenance,
//! CycloneDX), so that nobody needs Meridian to check what Meridian made.
//!
//! Bytes come in, bytes or verdicts go out. Not here: files, sockets and clocks (`now` is told), where a key
//! is kept, and which result the coordinator accepts (`meridian-core` decides that from the facts read here).

pub mod acceptance;
pub mod agreement;
pub mod artifact_grant;
pub mod bundle;
pub mod cache_grant;
pub mod document;
pub mod dsse;
pub mod evidence;
pub mod executable;
pub mod holder;
pub mod keyring;
pub mod keys;
pub mod message;
pub mod modfiles;
pub mod order;
pub mod proof;
pub mod sbom;
pub mod sidecar;
pub mod statement;
pub mod timestamp;
pub mod verify;
