//! The keyring: which keys the fleet's root vouches for, for what, and when.
//!
//! Signing keys are not TLS identities: those live for days, and an artifact must verify for years. So the
//! root certifies each signing key for one use, one holder and a window of time, in a document that it signs
//! and that travels with `dist/`. A key is judged at the time at which the coordinator accepted what it
//! signed, which an acceptance says; so an artifact outlives the key that signed it, and a revocation reaches
//! no further back than it says. A keyring is believed only under a root that was pinned beforehand, never
//! because it came along. **Keyrings add up**: what the root once signed stays said, so of several that are known none
//! replaces another ([`Keyring::and`]).

mod entry;
mod error;
mod file;
mod root;
mod signed;

pub use entry::Entry;
pub use error::{KeyRefusal, KeyringError};
pub use file::{ACCEPTANCES_MAX, KeyringFile};
pub use meridian_core::keyring::{Grade, KeyUse};
pub use root::Root;
pub use signed::{ENTRIES_MAX, Keyring, PAYLOAD_TYPE};

#[cfg(test)]
mod tests;
