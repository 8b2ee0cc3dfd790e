//! Signing keys.

use bytes::Bytes;
use meridian_core::{
    keyring::{CertifiedKey, Grade, KeyAlgorithm, KeyClaim, KeyHolder, KeyUse},
    time::Wall,
};

use super::field::{ConvertError, message, required, text, unknown};
use crate::v1;

impl From<KeyAlgorithm> for v1::KeyAlgorithm {
    fn from(algorithm: KeyAlgorithm) -> Self {
        match algorithm {
            KeyAlgorithm::EcdsaP256 => Self::EcdsaP256,
            KeyAlgorithm::Ed25519 => Self::Ed25519,
        }
    }
}

/// The algorithm of a wire value.
///
/// # Errors
/// When this version does not know it.
pub fn key_algorithm(value: i32) -> Result<KeyAlgorithm, ConvertError> {
    Ok(match v1::KeyAlgorithm::try_from(value) {
        Ok(v1::KeyAlgorithm::EcdsaP256) => KeyAlgorithm::EcdsaP256,
        Ok(v1::KeyAlgorithm::Ed25519) => KeyAlgorithm::Ed25519,
        Ok(v1::KeyAlgorithm::Unspecified) | Err(_) => return Err(unknown("algorithm", value)),
    })
}

impl From<KeyUse> for v1::KeyUse {
    fn from(usage: KeyUse) -> Self {
        match usage {
            KeyUse::Artifact => Self::Artifact,
            KeyUse::Order => Self::Order,
            KeyUse::Acceptance => Self::Acceptance,
        }
    }
}

fn key_use(value: i32) -> Result<KeyUse, ConvertError> {
    Ok(match v1::KeyUse::try_from(value) {
        Ok(v1::KeyUse::Artifact) => KeyUse::Artifact,
        Ok(v1::KeyUse::Order) => KeyUse::Order,
        Ok(v1::KeyUse::Acceptance) => KeyUse::Acceptance,
        Ok(v1::KeyUse::Unspecified) | Err(_) => return Err(unknown("usage", value)),
    })
}

impl From<Grade> for v1::Grade {
    fn from(grade: Grade) -> Self {
        match grade {
            Grade::Dev => Self::Dev,
            Grade::Production => Self::Production,
        }
    }
}

fn grade(value: i32) -> Result<Grade, ConvertError> {
    Ok(match v1::Grade::try_from(value) {
        Ok(v1::Grade::Dev) => Grade::Dev,
        Ok(v1::Grade::Production) => Grade::Production,
        Ok(v1::Grade::Unspecified) | Err(_) => return Err(unknown("grade", value)),
    })
}

impl From<&KeyClaim> for v1::KeyClaim {
    fn from(claim: &KeyClaim) -> Self {
        use v1::key_claim::{Coordinator, Holder};
        Self {
            algorithm: v1::KeyAlgorithm::from(claim.algorithm).into(),
            spki: Bytes::copy_from_slice(&claim.spki),
            usage: v1::KeyUse::from(claim.usage).into(),
            holder: Some(match &claim.holder {
                KeyHolder::Coordinator => Holder::Coordinator(Coordinator {}),
                KeyHolder::Agent(agent) => Holder::Agent(agent.to_string()),
            }),
            grade: v1::Grade::from(claim.grade).into(),
        }
    }
}

impl TryFrom<v1::KeyClaim> for KeyClaim {
    type Error = ConvertError;

    fn try_from(wire: v1::KeyClaim) -> Result<Self, ConvertError> {
        use v1::key_claim::Holder;
        Ok(Self {
            algorithm: key_algorithm(wire.algorithm)?,
            spki: wire.spki.into(),
            usage: key_use(wire.usage)?,
            holder: match required(wire.holder, "holder")? {
                Holder::Coordinator(_) => KeyHolder::Coordinator,
                Holder::Agent(agent) => KeyHolder::Agent(text(&agent, "agent")?),
            },
            grade: grade(wire.grade)?,
        })
    }
}

impl From<&CertifiedKey> for v1::CertifiedKey {
    fn from(key: &CertifiedKey) -> Self {
        Self {
            claim: Some((&key.claim).into()),
            not_before_ms: key.not_before.0,
            not_after_ms: key.not_after.0,
            revoked_ms: key.revoked.map(|revoked| revoked.0),
        }
    }
}

impl TryFrom<v1::CertifiedKey> for CertifiedKey {
    type Error = ConvertError;

    fn try_from(wire: v1::CertifiedKey) -> Result<Self, ConvertError> {
        Ok(Self {
            claim: message(wire.claim, "claim")?,
            not_before: Wall(wire.not_before_ms),
            not_after: Wall(wire.not_after_ms),
            revoked: wire.revoked_ms.map(Wall),
        })
    }
}
