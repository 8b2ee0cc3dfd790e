//! Manifests: the mappings that one build used, in the order in which it first asked for them.
//!
//! A manifest is what one agent tells another about a build: [`Recorder`] writes down what cmd/go asks, [`Manifest`]
//! is its document, signed by whoever made it, and [`Library`] keeps the documents of one agent. A mapping is believed
//! only as a part of a manifest whose signature counts ([`Vouching`]).
//!
//! Not here: fetching what a manifest names; see [`crate::prefetch`].

mod document;
mod library;
mod recorder;
mod vouching;

pub use document::{Binary, Listed, Manifest, ManifestError, SignedManifest};
pub(crate) use document::{ENTRIES_MAX, LEN_MAX as MANIFEST_LEN_MAX};
pub use library::Library;
pub use recorder::Recorder;
pub use vouching::{DOMAIN, Voucher, Vouching, VouchingError};
