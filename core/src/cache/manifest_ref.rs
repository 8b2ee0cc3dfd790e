//! A manifest by its digest: the list of cache entries that one build used.

use crate::{digest::Digest, quantity::ByteCount};

/// The largest manifest that is taken note of. One entry has about 150 bytes, and the largest programs use ten thousand.
pub const MANIFEST_SIZE_MAX: ByteCount = ByteCount::mib(64);

/// A manifest: which blob it is, and how much it lists. The figures are its maker's word and only for estimates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ManifestRef {
    /// Its content.
    pub digest: Digest,
    /// How large it is.
    pub size: ByteCount,
    /// How many entries it lists.
    pub entries: u64,
    /// How many bytes the outputs of its entries have.
    pub bytes: ByteCount,
}

impl ManifestRef {
    /// Whether such a manifest can be: neither empty nor beyond what anybody would read, and each entry written down.
    #[must_use]
    pub fn is_plausible(&self) -> bool {
        self.size > ByteCount(0) && self.size <= MANIFEST_SIZE_MAX && self.entries <= self.size.0
    }
}
