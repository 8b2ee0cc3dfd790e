//! A software bill of materials for one executable: CycloneDX 1.6 as JSON, made only from what the executable says
//! of itself and from its name, digest and size.
//!
//! It is a function of its subject: no time stamp, no tool version, and a serial number made from the digest. So
//! whoever has the executable can make it again and see that a bill found beside it belongs to it.
//!
//! A module's `h1:` hash is a SHA-256 of a list of its files, not of any one file, and CycloneDX has no name for
//! that; calling it `SHA-256` would make every other tool fail to verify it. It stands as the property
//! `meridian:go:h1`. Paths keep their letter case in package URLs: Go's module paths differ by it.
//!
//! Not here: licences, vulnerabilities, and modules that were required but gave no package to the executable (Go
//! does not record them). A build info is only as honest as its builder; provenance says who that was.

mod bill;
mod document;
mod purl;
mod serial;

pub use bill::{Component, Sbom, SbomError, SbomMismatch, Subject};
pub use serial::urn_of;
