//! What an agent says of its cache when it attaches.

use std::{fmt, str::FromStr};

use crate::{
    cache::peer_address::PeerAddress,
    digest::{Digest, ParseDigestError},
};

/// The greatest weight that is believed: 64 TiB. A shard of more than that would starve all others by mistake.
pub const WEIGHT_MAX: u32 = 1 << 16;

/// The public half of the Ed25519 key by which one process signs what its cache says. A restart makes another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheKey([u8; 32]);

/// What an agent says of its cache when it attaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheOffer {
    /// Where other agents reach it; `None` when it only fetches.
    pub address: Option<PeerAddress>,
    /// What it signs with.
    pub key: CacheKey,
    /// Its capacity in GiB, which decides how many keys it is a home of. With 0 it is none's, and still serves the
    /// manifests that it holds.
    pub weight: u32,
}

impl CacheKey {
    /// Wraps the 32 bytes of the key.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for CacheKey {
    type Err = ParseDigestError;

    /// Reads what `Display` writes: 64 lower-case hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        text.parse().map(|bytes: Digest| Self(*bytes.as_bytes()))
    }
}

impl fmt::Display for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CacheKey({self})")
    }
}

impl CacheOffer {
    /// The weight that is believed.
    #[must_use]
    pub fn believed_weight(&self) -> u32 {
        self.weight.min(WEIGHT_MAX)
    }
}
