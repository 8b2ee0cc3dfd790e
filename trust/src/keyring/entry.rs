//! One key of a keyring.

use meridian_core::{
    keyring::{Grade, KeyUse},
    time::Wall,
};
use serde::{Deserialize, Serialize};

use super::{KeyRefusal, KeyringError};
use crate::{
    document::{as_base64, as_text},
    holder::Holder,
    keys::{Algorithm, KeyId, VerifyingKey},
};

/// What a key is certified for, as it is written.
#[derive(Serialize, Deserialize)]
#[serde(remote = "KeyUse", rename_all = "kebab-case")]
enum KeyUseWire {
    Artifact,
    Order,
    Acceptance,
}

/// How much a key is worth, as it is written.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Grade", rename_all = "kebab-case")]
enum GradeWire {
    Dev,
    Production,
}

/// A key that the root vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: VerifyingKey,
    /// What for.
    pub key_use: KeyUse,
    /// Who holds it.
    pub holder: Holder,
    /// How much it is worth.
    pub grade: Grade,
    /// Valid from this moment on.
    pub not_before: Wall,
    /// Valid before this moment.
    pub not_after: Wall,
    /// No longer valid from this moment on.
    pub revoked: Option<Wall>,
}

/// An entry as it is written. Fields are in alphabetical order.
#[derive(Serialize, Deserialize)]
pub(super) struct EntryWire {
    #[serde(with = "as_text")]
    algorithm: Algorithm,
    #[serde(with = "GradeWire")]
    grade: Grade,
    #[serde(with = "as_text")]
    holder: Holder,
    #[serde(with = "as_text")]
    key_id: KeyId,
    not_after_ms: u64,
    not_before_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revoked_ms: Option<u64>,
    #[serde(with = "as_base64")]
    spki: Vec<u8>,
    #[serde(rename = "use", with = "KeyUseWire")]
    key_use: KeyUse,
}

impl Entry {
    /// Whether the key might be used for `wanted` at that moment.
    ///
    /// # Errors
    /// The first reason why not.
    pub fn check(&self, wanted: KeyUse, at: Wall) -> Result<(), KeyRefusal> {
        let key = self.key.id();
        if self.key_use != wanted {
            return Err(KeyRefusal::Use { key, certified: self.key_use, wanted });
        }
        if at < self.not_before {
            return Err(KeyRefusal::NotYetValid { key, at, from: self.not_before });
        }
        if let Some(since) = self.revoked.filter(|since| at >= *since) {
            return Err(KeyRefusal::Revoked { key, at, since });
        }
        if at >= self.not_after {
            return Err(KeyRefusal::Expired { key, at, until: self.not_after });
        }
        Ok(())
    }

    /// Whether what the coordinator signed with the key for orders at `issued`, by the clock that gave the key its window as
    /// well, counts at `now`: a revocation is heard of later, and takes it all.
    ///
    /// # Errors
    /// The first reason why not.
    pub(crate) fn check_word(&self, issued: Wall, now: Wall) -> Result<(), KeyRefusal> {
        self.check(KeyUse::Order, issued)?;
        match self.revoked.filter(|since| *since <= now) {
            Some(since) => Err(KeyRefusal::Revoked { key: self.key.id(), at: now, since }),
            None => Ok(()),
        }
    }

    /// Takes over what an earlier keyring of the fleet says of the same key.
    ///
    /// What the root once signed stays true: the window is the longest that it said, a revocation the earliest. Of use,
    /// holder and grade a coordinator never says two things; were they two, the later word stands with its own window,
    /// and the revocation counts all the same.
    pub(super) fn take_over(&mut self, earlier: &Self) {
        if (self.key_use, &self.holder, self.grade) == (earlier.key_use, &earlier.holder, earlier.grade) {
            self.not_before = self.not_before.min(earlier.not_before);
            self.not_after = self.not_after.max(earlier.not_after);
        }
        self.revoked = [self.revoked, earlier.revoked].into_iter().flatten().min();
    }

    pub(super) fn to_wire(&self) -> EntryWire {
        EntryWire {
            algorithm: self.key.algorithm(),
            grade: self.grade,
            holder: self.holder.clone(),
            key_id: self.key.id(),
            not_after_ms: self.not_after.0,
            not_before_ms: self.not_before.0,
            revoked_ms: self.revoked.map(|at| at.0),
            spki: self.key.to_spki(),
            key_use: self.key_use,
        }
    }

    pub(super) fn from_wire(wire: EntryWire) -> Result<Self, KeyringError> {
        let unfit = || KeyringError::Entry(wire.key_id);
        let key = VerifyingKey::from_spki(&wire.spki).map_err(|_| unfit())?;
        if key.id() != wire.key_id || key.algorithm() != wire.algorithm {
            return Err(unfit());
        }
        Ok(Self {
            key,
            key_use: wire.key_use,
            holder: wire.holder,
            grade: wire.grade,
            not_before: Wall(wire.not_before_ms),
            not_after: Wall(wire.not_after_ms),
            revoked: wire.revoked_ms.map(Wall),
        })
    }
}
