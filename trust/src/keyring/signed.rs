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
#[serde(deny_unknown_fields)]
struct KeyringWire {
    entries: Vec<EntryWire>,
    #[serde(with = "as_text")]
    fleet: FleetName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issued_ms: Option<u64>,
    version: u64,
}

impl Keyring {
    /// A keyring of a fleet as of an index of its journal: a later one replaces an earlier one.
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

    /// Whether it replaces `other`: it is from a later index of the fleet's journal, or of the same and was issued
    /// later.
    #[must_use]
    pub fn is_later_than(&self, other: &Self) -> bool {
        (self.version, self.issued) > (other.version, other.issued)
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
        let wire: KeyringWire = document::parse(payload, ENVELOPE_LEN_MAX).map_err(KeyringError::Document)?;
        let entries = wire.entries.into_iter().map(Entry::from_wire).collect::<Result<Vec<_>, _>>()?;
        let unsorted = entries.windows(2).find(|pair| pair[0].key.id() >= pair[1].key.id());
        if let Some([_, second]) = unsorted {
            return Err(KeyringError::Order(second.key.id()));
        }
        let keyring = Self::new(wire.fleet, JournalIndex(wire.version), entries)?;
        Ok(Self { issued: wire.issued_ms.map(Wall), ..keyring })
    }
}
