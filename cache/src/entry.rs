//! What the cache is about: an action, and the output that answers it.

use meridian_core::digest::Digest;

/// Go's name for a question: a hash of everything that the result depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActionId(pub [u8; 32]);

/// What answers an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The SHA-256 of the output's body.
    pub output: Digest,
    /// The body's length in bytes.
    pub size: u64,
    /// When it was put, in nanoseconds since the Unix epoch.
    pub time_ns: u64,
}

/// Within what an action means one thing: a toolchain and a scope.
///
/// A patched toolchain may carry the version string of the original, and Go's action ids would not tell them apart;
/// and what one scope says of an action is not believed in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Namespace(Digest);

impl Namespace {
    /// The namespace of `scope` for the toolchain whose own files have this digest.
    #[must_use]
    pub fn new(toolchain: &Digest, scope: &str) -> Self {
        let mut bytes = toolchain.as_bytes().to_vec();
        bytes.extend_from_slice(scope.as_bytes());
        Self(Digest::of(&bytes))
    }

    /// As bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}
