//! The fleet's root as a verifier knows it.

use meridian_core::id::FleetName;

use super::KeyringError;
use crate::keys::{Algorithm, VerifyingKey};

/// The one key that is trusted beforehand: pinned when the fleet was joined, or given by whoever verifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    key: VerifyingKey,
    fleet: Option<FleetName>,
}

impl Root {
    /// Trusts a key. A bare `fleet.pub` names no fleet; a root that was pinned on joining does.
    ///
    /// # Errors
    /// When the key is not an ECDSA P-256 key, as every fleet's authority is: Ed25519 is a choice for signing
    /// keys.
    pub fn new(key: VerifyingKey, fleet: Option<FleetName>) -> Result<Self, KeyringError> {
        match key.algorithm() {
            Algorithm::EcdsaP256 => Ok(Self { key, fleet }),
            other => Err(KeyringError::Root(other)),
        }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &VerifyingKey {
        &self.key
    }

    /// The fleet that it is known to be the root of.
    #[must_use]
    pub fn fleet(&self) -> Option<&FleetName> {
        self.fleet.as_ref()
    }
}
