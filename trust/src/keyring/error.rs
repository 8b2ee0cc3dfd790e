//! Why a keyring or a key in it does not count.

use meridian_core::{id::FleetName, time::Wall};

use super::KeyUse;
use crate::{
    document::DocumentError,
    dsse::EnvelopeError,
    keys::{Algorithm, KeyId},
    timestamp::display,
};

/// Why a keyring was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// Not a keyring file.
    #[error("not a keyring file: {0}")]
    File(DocumentError),
    /// Not signed by the pinned root.
    #[error("the keyring is not the pinned root's: {0}")]
    Envelope(#[from] EnvelopeError),
    /// The root signed something that is no keyring.
    #[error("not a keyring: {0}")]
    Document(DocumentError),
    /// A root of another algorithm than a fleet's authority has.
    #[error("a fleet's root is an ECDSA P-256 key, and this is an {0} key")]
    Root(Algorithm),
    /// Two entries for one key, or entries that are not in order.
    #[error("the keyring's entries are not sorted by key id, or name key {0} twice")]
    Order(KeyId),
    /// An entry says another id or algorithm than its key has.
    #[error("the entry of key {0} does not fit its own public key")]
    Entry(KeyId),
    /// A window that no moment lies in.
    #[error("key {0} is never valid: its window ends before it begins")]
    Window(KeyId),
    /// A key whose holder is of another fleet.
    #[error("key {key} is held by {holder}, who is not of fleet {fleet}")]
    Holder {
        /// The key.
        key: KeyId,
        /// Its holder.
        holder: String,
        /// The keyring's fleet.
        fleet: String,
    },
    /// Two keyrings under one root that are of different fleets.
    #[error("one keyring is of fleet {one}, another of fleet {other}")]
    Fleet {
        /// The fleet of one.
        one: FleetName,
        /// The fleet of the other.
        other: FleetName,
    },
    /// More entries than a keyring may have.
    #[error("more than {max} keys")]
    TooMany {
        /// How many it may have.
        max: usize,
    },
}

/// Why a key must not be used for this at that time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefusal {
    /// Not in the keyring.
    #[error("key {0} is not in the fleet's keyring")]
    Unknown(KeyId),
    /// Certified for something else.
    #[error("key {key} is certified for {certified}, not for {wanted}")]
    Use {
        /// The key.
        key: KeyId,
        /// What it is certified for.
        certified: KeyUse,
        /// What it was used for.
        wanted: KeyUse,
    },
    /// Too early.
    #[error("key {key} was not yet valid at {}: it is from {}", display(*at), display(*from))]
    NotYetValid {
        /// The key.
        key: KeyId,
        /// When it was used.
        at: Wall,
        /// From when on it may be.
        from: Wall,
    },
    /// Too late.
    #[error("key {key} had expired at {}: it was valid until {}", display(*at), display(*until))]
    Expired {
        /// The key.
        key: KeyId,
        /// When it was used.
        at: Wall,
        /// Until when it might have been.
        until: Wall,
    },
    /// Revoked before.
    #[error("key {key} was revoked at {} and used at {}", display(*since), display(*at))]
    Revoked {
        /// The key.
        key: KeyId,
        /// When it was used.
        at: Wall,
        /// Since when it must not be.
        since: Wall,
    },
}
