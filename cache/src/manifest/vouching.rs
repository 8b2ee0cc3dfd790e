//! Whose word a manifest is.

use bytes::Bytes;

use super::document::Manifest;

/// What a signature's text begins with, so that it is never taken for a signature of something else.
pub const DOMAIN: &[u8] = b"meridian cache manifest 1\n";

/// A signature, and the coordinator's word on the key that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voucher {
    /// The coordinator's signed word: which key, of which agent, may write which scope.
    pub grant: Bytes,
    /// Over [`DOMAIN`] and the manifest.
    pub signature: Bytes,
}

/// Why a manifest or a caller does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct VouchingError(pub String);

/// Signs and checks manifests, and tells who may read which scope.
///
/// The agent brings it: it has the keys, the fleet's root and the list of those whose identities were taken back.
pub trait Vouching: Send + Sync {
    /// Signs what this agent made in `scope`.
    ///
    /// # Errors
    /// When it has no grant to write there.
    fn sign(&self, scope: &str, manifest: &[u8]) -> Result<Voucher, VouchingError>;

    /// Whether whoever signed could write the manifest's scope when it was made, and signed these bytes of it.
    ///
    /// # Errors
    /// Why it does not count.
    fn check(&self, manifest: &Manifest, bytes: &[u8], voucher: &Voucher) -> Result<(), VouchingError>;

    /// The grant to show when asking others for what is in `scope`.
    fn grant_to_read(&self, scope: &str) -> Option<Bytes>;

    /// The grant to show when bringing others what is in `scope`.
    fn grant_to_write(&self, scope: &str) -> Option<Bytes>;

    /// Whether a caller who shows `grant` may read `scope`. `caller` is the name in its certificate, such as
    /// `eu-central/a1`, or nothing on a connection without one.
    ///
    /// # Errors
    /// Why it may not.
    fn may_read(&self, scope: &str, grant: &[u8], caller: Option<&str>) -> Result<(), VouchingError>;

    /// Whether a caller who shows `grant` may write `scope`; as [`Self::may_read`].
    ///
    /// # Errors
    /// Why it may not.
    fn may_write(&self, scope: &str, grant: &[u8], caller: Option<&str>) -> Result<(), VouchingError>;
}
