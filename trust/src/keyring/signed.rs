//! The keyring itself, and how the root signs it.

use std::collections::BTreeMap;

use meridian_core::{
    id::{FleetName, JournalIndex},
    time::Wall,
};
use serde::{Deserialize, Serialize};

use super::{Entry, KeyRefusal, KeyUse, KeyringError, Root, entry::EntryWire};
use crate::{
    document::{self, as_text},
    dsse::{ENVELOPE_LEN_MAX, Envelope},
    keys::{KeyId, SignError, Signer},
};

/// The payload type of a signed keyring.
pub const PAYLOAD_TYPE: &str = "application/vnd.meridian.keyring+json";
/// Most keys in a keyring: past agents' keys stay for as long as their artifacts should verify.
pub const ENTRIES_MAX: usize = 10_000;

/// The keys that the fleet's root vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyring {
    fleet: FleetName,
    version: JournalIndex,
    issued: Option<Wall>,
    entries: BTreeMap<KeyId, Entry>,
}

/// A keyring as it is written. Fields are in alphabetical order, entries sorted by key id.
#[derive(Serialize, Deserialize)]
struct KeyringWire {
    entries: Vec<EntryWire>,
    #[serde(with = "as_text")]
    fleet: FleetName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issued_ms: Option<u64>,
    version: u64,
}

impl Keyring {
    /// A keyring of a fleet as of an index of its journal.
    ///
    /// # Errors
    /// When a key is named twice, has a holder of another fleet or an empty window, or there are too many.
    pub fn new(
        fleet: FleetName,
        version: JournalIndex,
        entries: impl IntoIterator<Item = Entry>,
    ) -> Result<Self, KeyringError> {
        let mut sorted = BTreeMap::new();
        for entry in entries {
            let key = entry.key.id();
            if entry.holder.fleet() != fleet.as_str() {
                let holder = entry.holder.to_string();
                return Err(KeyringError::Holder { key, holder, fleet: fleet.to_string() });
            }
            if entry.not_before >= entry.not_after {
                return Err(KeyringError::Window(key));
            }
            if sorted.insert(key, entry).is_some() {
                return Err(KeyringError::Order(key));
            }
            if sorted.len() > ENTRIES_MAX {
                return Err(KeyringError::TooMany { max: ENTRIES_MAX });
            }
        }
        Ok(Self { fleet, version, issued: None, entries: sorted })
    }

    /// The same keyring, saying when it was issued: a verifier that asks for a fresh one needs to know.
    #[must_use]
    pub fn issued_at(self, issued: Wall) -> Self {
        Self { issued: Some(issued), ..self }
    }

    /// Whose it is.
    #[must_use]
    pub fn fleet(&self) -> &FleetName {
        &self.fleet
    }

    /// The index of the fleet's journal that it is from.
    #[must_use]
    pub fn version(&self) -> JournalIndex {
        self.version
    }

    /// When it was issued; `None` for one that does not say.
    #[must_use]
    pub fn issued(&self) -> Option<Wall> {
        self.issued
    }

    /// Whether it was issued after `other`; of the same moment, or where one does not say, whether it is from a later
    /// index of the fleet's journal. A coordinator that was restored from a backup counts its journal anew from there,
    /// so the index alone would not tell.
    #[must_use]
    pub fn is_later_than(&self, other: &Self) -> bool {
        match (self.issued, other.issued) {
            (Some(mine), Some(its)) => (mine, self.version) > (its, other.version),
            (mine, its) => (self.version, mine) > (other.version, its),
        }
    }

    /// What two keyrings of one fleet say together, as of the later one.
    ///
    /// **What the root signed stays said**: a key of either is known, for the longest window that either gives it, and
    /// revoked from the earliest moment that either says. So a keyring that lost a revocation, since a coordinator was
    /// restored from a backup, brings no key back, and one that has forgotten a key of long ago takes none away.
    ///
    /// # Errors
    /// When they are of different fleets.
    pub fn and(&self, other: &Self) -> Result<Self, KeyringError> {
        if self.fleet != other.fleet {
            return Err(KeyringError::Fleet { one: self.fleet.clone(), other: other.fleet.clone() });
        }
        let (later, earlier) = if self.is_later_than(other) { (self, other) } else { (other, self) };
        let mut both = later.clone();
        for (key, entry) in &earlier.entries {
            both.entries
                .entry(*key)
                .and_modify(|known| known.take_over(entry))
                .or_insert_with(|| entry.clone());
        }
        Ok(both)
    }

    /// Whether it knows a key, a moment of a key's window or a revocation that `other` does not.
    #[must_use]
    pub fn knows_more_than(&self, other: &Self) -> bool {
        self.and(other).is_ok_and(|both| both.entries != other.entries)
    }

    /// Whether it revokes a key that `other` does not revoke, or revokes it from an earlier moment on.
    #[must_use]
    pub fn revokes_more_than(&self, other: &Self) -> bool {
        let revoked_by =
            |keyring: &Self, key| keyring.entries.get(key).and_then(|entry: &Entry| entry.revoked);
        self.entries.iter().any(|(key, entry)| {
            entry.revoked.is_some_and(|since| revoked_by(other, key).is_none_or(|known| since < known))
        })
    }

    /// All keys, by their ids.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The entry of a key, whatever it may be used for.
    ///
    /// # Errors
    /// When the key is unknown.
    pub fn entry(&self, key: KeyId) -> Result<&Entry, KeyRefusal> {
        self.entries.get(&key).ok_or(KeyRefusal::Unknown(key))
    }

    /// The entry of a key that might be used for this at that moment.
    ///
    /// # Errors
    /// When the key is unknown, certified for something else, or not valid at that moment.
    pub fn find(&self, key: KeyId, wanted: KeyUse, at: Wall) -> Result<&Entry, KeyRefusal> {
        let entry = self.entry(key)?;
        entry.check(wanted, at)?;
        Ok(entry)
    }

    /// The signed form.
    ///
    /// # Errors
    /// When the root's holder does not sign.
    pub fn sign(&self, root: &dyn Signer) -> Result<Envelope, SignError> {
        let wire = KeyringWire {
            entries: self.entries.values().map(Entry::to_wire).collect(),
            fleet: self.fleet.clone(),
            issued_ms: self.issued.map(|issued| issued.0),
            version: self.version.0,
        };
        Envelope::sign(root, PAYLOAD_TYPE, document::write(&wire))
    }

    /// Reads a keyring that the root signed.
    ///
    /// Whether it is the fleet's that the root is known for is the caller's question ([`Root::fleet`]).
    ///
    /// # Errors
    /// When the root did not sign it, or what it signed is no keyring.
    pub fn open(envelope: &Envelope, root: &Root) -> Result<Self, KeyringError> {
        let payload = envelope.open(root.key(), PAYLOAD_TYPE)?;
        let wire: KeyringWire =
            document::parse_signed(payload, ENVELOPE_LEN_MAX).map_err(KeyringError::Document)?;
        let entries = wire.entries.into_iter().map(Entry::from_wire).collect::<Result<Vec<_>, _>>()?;
        let unsorted = entries.windows(2).find(|pair| pair[0].key.id() >= pair[1].key.id());
        if let Some([_, second]) = unsorted {
            return Err(KeyringError::Order(second.key.id()));
        }
        let keyring = Self::new(wire.fleet, JournalIndex(wire.version), entries)?;
        Ok(Self { issued: wire.issued_ms.map(Wall), ..keyring })
    }
}
