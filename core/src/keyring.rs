//! The keys whose signatures the fleet vouches for, and when each of them counts.
//!
//! A signing key is not a TLS identity: it lives longer, has one use, and stays in the keyring after its time, so
//! that what it signed in its time can still be checked.
//!
//! Not here: signatures and encodings (`meridian-trust`), and where a private key is kept.

use std::{fmt, str::FromStr};

use crate::{
    digest::{Digest, ParseDigestError},
    id::AgentId,
    time::Wall,
};

/// Longest public key that is certified, as SPKI in DER: P-256 has 91 bytes, Ed25519 has 44.
pub const SPKI_LEN_MAX: usize = 256;

/// A signing key's name: the SHA-256 of its public key (SPKI, DER).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub Digest);

impl KeyId {
    /// The name of a public key.
    #[must_use]
    pub fn of(spki: &[u8]) -> Self {
        Self(Digest::of(spki))
    }

    /// Wraps the SHA-256 of a key's DER form.
    #[must_use]
    pub const fn new(digest: Digest) -> Self {
        Self(digest)
    }

    /// The raw SHA-256.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.0
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for KeyId {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        text.parse().map(Self)
    }
}

/// How a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyAlgorithm {
    /// ECDSA over P-256 and SHA-256, deterministic (RFC 6979) where Meridian holds the key.
    EcdsaP256,
    /// Pure Ed25519 (RFC 8032) over the whole message.
    Ed25519,
}

/// Not the name of an algorithm.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a key algorithm: expected ecdsa-p256 or ed25519")]
pub struct ParseKeyAlgorithmError(String);

impl KeyAlgorithm {
    /// The name in documents and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EcdsaP256 => "ecdsa-p256",
            Self::Ed25519 => "ed25519",
        }
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for KeyAlgorithm {
    type Err = ParseKeyAlgorithmError;

    fn from_str(text: &str) -> Result<Self, ParseKeyAlgorithmError> {
        [Self::EcdsaP256, Self::Ed25519]
            .into_iter()
            .find(|algorithm| algorithm.name() == text)
            .ok_or_else(|| ParseKeyAlgorithmError(text.chars().take(40).collect()))
    }
}

/// What a key may sign, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyUse {
    /// Artifacts and the statements of how they were built.
    Artifact,
    /// The coordinator's orders to signers.
    Order,
    /// The coordinator's word for when it accepted a result.
    Acceptance,
}

impl fmt::Display for KeyUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Artifact => "artifacts",
            Self::Order => "orders",
            Self::Acceptance => "acceptances",
        })
    }
}

/// How far a key can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grade {
    /// A local fleet's: whoever built could have signed anything.
    Dev,
    /// A fleet's whose signers run no build step.
    Production,
}

impl fmt::Display for Grade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dev => "dev",
            Self::Production => "production",
        })
    }
}

/// Whose key it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyHolder {
    /// The coordinator.
    Coordinator,
    /// An agent's signer.
    Agent(AgentId),
}

impl fmt::Display for KeyHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coordinator => f.write_str("the coordinator"),
            Self::Agent(agent) => write!(f, "agent {agent}"),
        }
    }
}

/// What somebody asks to have certified.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyClaim {
    /// How it signs.
    pub algorithm: KeyAlgorithm,
    /// The public key: SPKI, DER.
    pub spki: Vec<u8>,
    /// What it may sign.
    pub usage: KeyUse,
    /// Whose it is.
    pub holder: KeyHolder,
    /// How far it can be trusted.
    pub grade: Grade,
}

/// A key that the fleet vouches for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CertifiedKey {
    /// Which key, and for what.
    pub claim: KeyClaim,
    /// From when on what it signs counts.
    pub not_before: Wall,
    /// Until when.
    pub not_after: Wall,
    /// From when on it counts no more, whatever its window says.
    pub revoked: Option<Wall>,
}

/// Why a key does not count for something at a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefusal {
    /// It was certified for something else.
    #[error("key {0} was certified for another use")]
    Use(KeyId),
    /// It is somebody else's.
    #[error("key {key} belongs to {holder}")]
    Holder {
        /// Which key.
        key: KeyId,
        /// Whose it is.
        holder: KeyHolder,
    },
    /// Its time had not come.
    #[error("key {0} was not valid yet")]
    NotYetValid(KeyId),
    /// Its time had passed.
    #[error("key {0} had expired")]
    Expired(KeyId),
    /// It was taken back.
    #[error("key {0} was revoked")]
    Revoked(KeyId),
}

impl CertifiedKey {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> KeyId {
        KeyId::of(&self.claim.spki)
    }

    /// Whether a signature that `holder` made for `usage` at `at` counts.
    ///
    /// # Errors
    /// The first reason why it does not.
    pub fn check(&self, usage: KeyUse, holder: &KeyHolder, at: Wall) -> Result<(), KeyRefusal> {
        self.refusals(usage, holder, at).into_iter().next().map_or(Ok(()), Err)
    }

    /// Every reason why such a signature does not count.
    #[must_use]
    pub fn refusals(&self, usage: KeyUse, holder: &KeyHolder, at: Wall) -> Vec<KeyRefusal> {
        let key = self.id();
        let mut refusals = Vec::new();
        if self.claim.usage != usage {
            refusals.push(KeyRefusal::Use(key));
        }
        if self.claim.holder != *holder {
            refusals.push(KeyRefusal::Holder { key, holder: self.claim.holder.clone() });
        }
        if at < self.not_before {
            refusals.push(KeyRefusal::NotYetValid(key));
        }
        if at >= self.not_after {
            refusals.push(KeyRefusal::Expired(key));
        }
        if self.revoked.is_some_and(|revoked| at >= revoked) {
            refusals.push(KeyRefusal::Revoked(key));
        }
        refusals
    }

    /// Whether it may still sign at `at`.
    #[must_use]
    pub fn is_live(&self, at: Wall) -> bool {
        at < self.not_after && self.revoked.is_none_or(|revoked| at < revoked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> CertifiedKey {
        CertifiedKey {
            claim: KeyClaim {
                algorithm: KeyAlgorithm::EcdsaP256,
                spki: vec![1, 2, 3],
                usage: KeyUse::Artifact,
                holder: KeyHolder::Agent("eu/a".parse().unwrap()),
                grade: Grade::Production,
            },
            not_before: Wall(100),
            not_after: Wall(200),
            revoked: Some(Wall(150)),
        }
    }

    #[test]
    fn a_key_counts_for_its_holder_its_use_and_its_time_only() {
        let (key, holder) = (key(), KeyHolder::Agent("eu/a".parse().unwrap()));
        let id = key.id();
        let check = |usage, at| key.check(usage, &holder, Wall(at));
        assert_eq!(check(KeyUse::Artifact, 100), Ok(()));
        assert_eq!(check(KeyUse::Artifact, 149), Ok(()));
        assert_eq!(check(KeyUse::Artifact, 150), Err(KeyRefusal::Revoked(id)));
        assert_eq!(check(KeyUse::Artifact, 99), Err(KeyRefusal::NotYetValid(id)));
        assert_eq!(check(KeyUse::Artifact, 200), Err(KeyRefusal::Expired(id)));
        assert_eq!(check(KeyUse::Order, 120), Err(KeyRefusal::Use(id)));
        let refused = key.check(KeyUse::Artifact, &KeyHolder::Coordinator, Wall(120));
        assert_eq!(refused, Err(KeyRefusal::Holder { key: id, holder }));
        assert!(key.is_live(Wall(149)) && !key.is_live(Wall(150)));
    }
}
