//! The coordinator's word for when it accepted an artifact.
//!
//! A signature says who, not when; whoever has a stolen key can sign with yesterday's date. The coordinator,
//! which checked the result against what it ordered, countersigns the moment at which it accepted it, and a
//! verifier judges the signer's key at that moment. A result has one acceptance for each of its artifacts.

use meridian_core::{
    digest::Digest,
    id::{Fence, FleetName, TaskId},
    time::Wall,
};
use serde::{Deserialize, Serialize};

use crate::{
    document::{self, DocumentError, as_number, as_text},
    dsse::{Envelope, EnvelopeError},
    keyring::{Entry, KeyRefusal, KeyUse, Keyring},
    keys::{KeyId, SignError, Signer},
    timestamp::display,
};

/// The payload type of a signed acceptance.
pub const PAYLOAD_TYPE: &str = "application/vnd.meridian.acceptance+json";
const ACCEPTANCE_LEN_MAX: usize = 4096;

/// An artifact that was accepted. Fields are in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Acceptance {
    /// When it was accepted.
    #[serde(rename = "accepted_ms", with = "as_number")]
    pub accepted: Wall,
    /// The artifact's SHA-256.
    #[serde(with = "as_text")]
    pub artifact: Digest,
    /// The lease under which it was built.
    #[serde(with = "as_number")]
    pub fence: Fence,
    /// The fleet.
    #[serde(with = "as_text")]
    pub fleet: FleetName,
    /// The SHA-256 of its provenance: of the whole file `X.intoto.sigstore.json`.
    #[serde(with = "as_text")]
    pub provenance: Digest,
    /// The task; its build and project are part of it.
    #[serde(with = "as_text")]
    pub task: TaskId,
}

/// Why an acceptance does not count.
#[derive(Debug, thiserror::Error)]
pub enum AcceptanceError {
    /// Its key is not one for acceptances, or was not at the time it says.
    #[error(transparent)]
    Key(#[from] KeyRefusal),
    /// Its key was revoked, so the time it says proves nothing.
    #[error("key {key} proves times and was revoked at {}: no time that it says counts", display(*since))]
    Revoked {
        /// The key.
        key: KeyId,
        /// Since when it is revoked.
        since: Wall,
    },
    /// The key did not sign it.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The key signed something that is no acceptance.
    #[error("not an acceptance: {0}")]
    Document(#[from] DocumentError),
    /// Of another fleet.
    #[error("the acceptance is of fleet {found}, not of {wanted}")]
    Fleet {
        /// The keyring's.
        wanted: FleetName,
        /// The acceptance's.
        found: FleetName,
    },
}

impl Acceptance {
    /// Signs the acceptance with the coordinator's key for acceptances.
    ///
    /// # Errors
    /// When the key's holder does not sign.
    pub fn sign(&self, signer: &dyn Signer) -> Result<Envelope, SignError> {
        Envelope::sign(signer, PAYLOAD_TYPE, document::write(self))
    }

    /// Reads an acceptance that counts.
    ///
    /// # Errors
    /// As [`Acceptance::read`] and [`Acceptance::judge`].
    pub fn open(envelope: &Envelope, keyring: &Keyring) -> Result<Self, AcceptanceError> {
        let (acceptance, entry) = Self::read(envelope, keyring)?;
        acceptance.judge(entry)?;
        Ok(acceptance)
    }

    /// Reads what a key of the keyring signed, with that key's entry. Whether it counts is the next question.
    ///
    /// # Errors
    /// When the keyring has no such key, the key did not sign it, or it is another fleet's: it was altered, or never
    /// was an acceptance of this fleet.
    pub fn read<'ring>(
        envelope: &Envelope,
        keyring: &'ring Keyring,
    ) -> Result<(Self, &'ring Entry), AcceptanceError> {
        let entry = keyring.entry(envelope.key_id())?;
        let payload = envelope.open(&entry.key, PAYLOAD_TYPE)?;
        let acceptance: Self = document::parse_signed(payload, ACCEPTANCE_LEN_MAX)?;
        if acceptance.fleet != *keyring.fleet() {
            return Err(AcceptanceError::Fleet { wanted: keyring.fleet().clone(), found: acceptance.fleet });
        }
        Ok((acceptance, entry))
    }

    /// What an envelope merely claims to be, whoever signed it; `None` when it is no acceptance. To tell whom a refusal
    /// is about, and for nothing else.
    #[must_use]
    pub fn claimed(envelope: &Envelope) -> Option<Self> {
        document::parse_signed(envelope.claim(), ACCEPTANCE_LEN_MAX).ok()
    }

    /// Whether the key that signed it may say so.
    ///
    /// It must have been valid at the time that it says. A *revoked* key proves no time at all: whoever stole it can
    /// say any. So revoking this key reaches back, unlike revoking any other.
    ///
    /// # Errors
    /// When the key is not one for acceptances, was not valid at that time, or is revoked.
    pub fn judge(&self, entry: &Entry) -> Result<(), AcceptanceError> {
        if let Some(since) = entry.revoked {
            return Err(AcceptanceError::Revoked { key: entry.key.id(), since });
        }
        Ok(entry.check(KeyUse::Acceptance, self.accepted)?)
    }
}

#[cfg(test)]
mod tests {
    use meridian_core::id::JournalIndex;

    use super::*;
    use crate::{
        holder::Holder,
        keyring::{Entry, Grade},
        keys::{Algorithm, SigningKey},
    };

    fn key() -> SigningKey {
        SigningKey::from_seed(Algorithm::EcdsaP256, &[7; 32]).unwrap()
    }

    fn keyring(key_use: KeyUse, revoked: Option<Wall>) -> Keyring {
        let entry = Entry {
            key: key().public().clone(),
            key_use,
            holder: Holder::new("spiffe://acme/coordinator").unwrap(),
            grade: Grade::Production,
            not_before: Wall(1_000),
            not_after: Wall(9_000),
            revoked,
        };
        Keyring::new(FleetName::new("acme").unwrap(), JournalIndex(1), [entry]).unwrap()
    }

    fn acceptance() -> Acceptance {
        Acceptance {
            accepted: Wall(5_000),
            artifact: Digest::of(b"an artifact"),
            fence: Fence(3),
            fleet: FleetName::new("acme").unwrap(),
            provenance: Digest::of(b"a provenance"),
            task: "acme/web/17/0".parse().unwrap(),
        }
    }

    fn open(acceptance: &Acceptance, keyring: &Keyring) -> Result<Acceptance, AcceptanceError> {
        Acceptance::open(&acceptance.sign(&key()).unwrap(), keyring)
    }

    #[test]
    fn an_acceptance_survives_signing() {
        let keyring = keyring(KeyUse::Acceptance, None);
        assert_eq!(open(&acceptance(), &keyring).unwrap(), acceptance());
        assert_eq!(
            String::from_utf8(document::write(&acceptance())).unwrap(),
            include_str!("../tests/golden/acceptance.json")
        );
    }

    #[test]
    fn an_acceptance_of_a_later_release_is_read_without_what_it_adds() {
        let keyring = keyring(KeyUse::Acceptance, None);
        let text = String::from_utf8(document::write(&acceptance())).unwrap();
        let read = |text: String| {
            let envelope = Envelope::sign(&key(), PAYLOAD_TYPE, text.into_bytes()).unwrap();
            Acceptance::open(&envelope, &keyring)
        };
        assert_eq!(read(text.replacen('{', r#"{"a_witness":"x","#, 1)).unwrap(), acceptance());
        assert!(matches!(read(text.replacen('{', "{ ", 1)), Err(AcceptanceError::Document(_))));
    }

    #[test]
    fn an_acceptance_outside_its_key_s_window_use_or_fleet_is_refused() {
        let good = keyring(KeyUse::Acceptance, None);
        let other = Acceptance { fleet: FleetName::new("other").unwrap(), ..acceptance() };
        for (acceptance, keyring, part) in [
            (Acceptance { accepted: Wall(999), ..acceptance() }, &good, "not yet valid"),
            (Acceptance { accepted: Wall(9_000), ..acceptance() }, &good, "expired"),
            (acceptance(), &keyring(KeyUse::Order, None), "not for acceptances"),
            (acceptance(), &keyring(KeyUse::Artifact, None), "not for acceptances"),
            (other, &good, "of fleet other"),
        ] {
            let error = open(&acceptance, keyring).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_revoked_key_proves_no_time_not_even_an_earlier_one() {
        let verdict = open(&acceptance(), &keyring(KeyUse::Acceptance, Some(Wall(8_000))));
        assert!(matches!(verdict, Err(AcceptanceError::Revoked { .. })), "{verdict:?}");
    }

    #[test]
    fn no_flipped_bit_of_an_acceptance_counts() {
        let good = acceptance().sign(&key()).unwrap().to_json();
        let keyring = keyring(KeyUse::Acceptance, None);
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let Ok(envelope) = Envelope::parse(&bytes) else { continue };
            assert!(Acceptance::open(&envelope, &keyring).is_err(), "bit {bit}");
        }
    }
}
