//! The coordinator's signed word that somebody may fetch a build's artifacts from whoever holds them.
//!
//! The agent that made an artifact may be next door to whoever wants it, while the coordinator is on another continent.
//! An agent knows nothing of teams; so the coordinator, which does, says who may have which content, and for an hour.
//! The agent compares the bearer with the certificate that the caller shows, so a grant that leaks is worth nothing to
//! somebody else.
//!
//! Not here: what the bearer gets. Content is named by its digest and checked by whoever fetches it.

use meridian_core::{digest::Digest, id::FleetName, quantity::Millis, requester::Requester, time::Wall};
use serde::{Deserialize, Serialize};

use crate::{
    cache_grant::CLOCK_SKEW_MAX,
    document::{self, DocumentError, as_number, as_text},
    dsse::{Envelope, EnvelopeError},
    keyring::{KeyRefusal, Keyring},
    keys::{SignError, Signer},
    timestamp::display,
};

/// The payload type of a signed grant.
pub const PAYLOAD_TYPE: &str = "application/vnd.meridian.artifact-grant+json";
/// How long a grant is good for.
pub const LIFE: Millis = Millis::minutes(60);
/// Most artifacts that a grant may name.
pub const ARTIFACTS_MAX: usize = 1_000;
const GRANT_LEN_MAX: usize = 128 << 10;

/// What one caller may fetch. Fields are in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct ArtifactGrant {
    /// What may be fetched.
    pub artifacts: Vec<DigestText>,
    /// By whom.
    #[serde(with = "as_text")]
    pub bearer: Requester,
    /// From this moment on it is over.
    #[serde(rename = "expires_ms", with = "as_number")]
    pub expires: Wall,
    /// The fleet.
    #[serde(with = "as_text")]
    pub fleet: FleetName,
    /// When it was given.
    #[serde(rename = "issued_ms", with = "as_number")]
    pub issued: Wall,
}

/// A digest as its own text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DigestText(#[serde(with = "as_text")] pub Digest);

/// Why a grant does not count.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactGrantError {
    /// Its key is not one for orders that counts.
    #[error(transparent)]
    Key(#[from] KeyRefusal),
    /// The key did not sign it.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The key signed something that is no grant.
    #[error("not an artifact grant: {0}")]
    Document(#[from] DocumentError),
    /// Of another fleet.
    #[error("the artifact grant is of fleet {found}, not of {wanted}")]
    Fleet {
        /// The keyring's.
        wanted: FleetName,
        /// The grant's.
        found: FleetName,
    },
    /// Shown by somebody else than it was given to.
    #[error("the artifact grant is for {found}, and {wanted} shows it")]
    Bearer {
        /// Who shows it.
        wanted: String,
        /// Whom it is for.
        found: Requester,
    },
    /// Over, from the future, or for longer than any grant is.
    #[error(
        "the artifact grant holds from {} to {}, and it is {}",
        display(*issued),
        display(*expires),
        display(*now)
    )]
    Time {
        /// When it was given.
        issued: Wall,
        /// When it is over.
        expires: Wall,
        /// The time told.
        now: Wall,
    },
}

impl ArtifactGrant {
    /// A grant that begins at `issued`.
    #[must_use]
    pub fn new(fleet: FleetName, bearer: Requester, artifacts: Vec<Digest>, issued: Wall) -> Self {
        let artifacts = artifacts.into_iter().take(ARTIFACTS_MAX).map(DigestText).collect();
        Self { artifacts, bearer, expires: issued.after(LIFE), fleet, issued }
    }

    /// Signs it with the coordinator's key for orders.
    ///
    /// # Errors
    /// When the key's holder does not sign.
    pub fn sign(&self, signer: &dyn Signer) -> Result<Envelope, SignError> {
        Envelope::sign(signer, PAYLOAD_TYPE, document::write(self))
    }

    /// Reads a grant that the caller with the identity `bearer`, a SPIFFE id, shows at `now`.
    ///
    /// # Errors
    /// When a key for orders of this fleet did not sign it, that key counts no more, or the grant is another caller's,
    /// over, from the future, or malformed.
    pub fn open(
        envelope: &Envelope,
        keyring: &Keyring,
        bearer: &str,
        now: Wall,
    ) -> Result<Self, ArtifactGrantError> {
        let entry = keyring.entry(envelope.key_id())?;
        let payload = envelope.open(&entry.key, PAYLOAD_TYPE)?;
        let grant: Self = document::parse_signed(payload, GRANT_LEN_MAX)?;
        entry.check_word(grant.issued, now)?;
        if grant.fleet != *keyring.fleet() {
            return Err(ArtifactGrantError::Fleet { wanted: keyring.fleet().clone(), found: grant.fleet });
        }
        if grant.bearer.to_string() != bearer {
            return Err(ArtifactGrantError::Bearer { wanted: bearer.to_owned(), found: grant.bearer });
        }
        let Self { issued, expires, .. } = grant;
        let is_now = issued <= now.after(CLOCK_SKEW_MAX) && now < expires.after(CLOCK_SKEW_MAX);
        if !is_now || expires <= issued || expires > issued.after(LIFE) {
            return Err(ArtifactGrantError::Time { issued, expires, now });
        }
        Ok(grant)
    }

    /// Whether an artifact may be fetched.
    #[must_use]
    pub fn names(&self, artifact: &Digest) -> bool {
        self.artifacts.iter().any(|named| named.0 == *artifact)
    }
}

#[cfg(test)]
mod tests {
    use meridian_core::id::JournalIndex;

    use super::*;
    use crate::{
        holder::Holder,
        keyring::{Entry, Grade, KeyUse},
        keys::{Algorithm, SigningKey},
    };

    const HOUR: u64 = 3_600_000;
    const ISSUED: Wall = Wall(10 * HOUR);
    const ANN: &str = "spiffe://acme/team/web/member/ann";

    fn order_key() -> SigningKey {
        SigningKey::from_seed(Algorithm::EcdsaP256, &[7; 32]).unwrap()
    }

    fn keyring(fleet: &str, revoked: Option<Wall>) -> Keyring {
        let entry = Entry {
            key: order_key().public().clone(),
            key_use: KeyUse::Order,
            holder: Holder::new(&format!("spiffe://{fleet}/coordinator")).unwrap(),
            grade: Grade::Production,
            not_before: Wall(9 * HOUR),
            not_after: Wall(99 * HOUR),
            revoked,
        };
        Keyring::new(FleetName::new(fleet).unwrap(), JournalIndex(1), [entry]).unwrap()
    }

    fn grant() -> ArtifactGrant {
        let artifacts = vec![Digest::of(b"one"), Digest::of(b"two")];
        ArtifactGrant::new(FleetName::new("acme").unwrap(), ANN.parse().unwrap(), artifacts, ISSUED)
    }

    fn open(grant: &ArtifactGrant, bearer: &str, now: Wall) -> Result<ArtifactGrant, ArtifactGrantError> {
        ArtifactGrant::open(&grant.sign(&order_key()).unwrap(), &keyring("acme", None), bearer, now)
    }

    #[test]
    fn a_grant_names_what_its_bearer_may_fetch_for_an_hour() {
        let read = open(&grant(), ANN, Wall(ISSUED.0 + HOUR / 2)).unwrap();
        assert_eq!(read, grant());
        assert!(read.names(&Digest::of(b"one")) && !read.names(&Digest::of(b"three")));
    }

    #[test]
    fn a_grant_is_nothing_to_another_caller_or_fleet_at_another_time_or_once_its_key_is_revoked() {
        let refused = |verdict: Result<ArtifactGrant, ArtifactGrantError>, part: &str| {
            let error = verdict.unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        let now = Wall(ISSUED.0 + 1);
        refused(
            open(&grant(), "spiffe://acme/team/web/member/bob", now),
            "for spiffe://acme/team/web/member/ann",
        );
        let skew = CLOCK_SKEW_MAX.0;
        assert!(open(&grant(), ANN, Wall(ISSUED.0 + HOUR + skew - 1)).is_ok());
        refused(open(&grant(), ANN, Wall(ISSUED.0 + HOUR + skew)), "holds from");
        assert!(open(&grant(), ANN, Wall(ISSUED.0 - skew)).is_ok());
        refused(open(&grant(), ANN, Wall(ISSUED.0 - skew - 1)), "holds from");
        let endless = ArtifactGrant { expires: Wall(ISSUED.0 + HOUR + 1), ..grant() };
        refused(open(&endless, ANN, now), "holds from");
        let signed = grant().sign(&order_key()).unwrap();
        refused(ArtifactGrant::open(&signed, &keyring("other", None), ANN, now), "fleet");
        refused(ArtifactGrant::open(&signed, &keyring("acme", Some(now)), ANN, now), "revoked");
        let other = SigningKey::from_seed(Algorithm::EcdsaP256, &[8; 32]).unwrap();
        let forged = grant().sign(&other).unwrap();
        assert!(ArtifactGrant::open(&forged, &keyring("acme", None), ANN, now).is_err());
        let cache = Envelope::sign(&order_key(), crate::cache_grant::PAYLOAD_TYPE, document::write(&grant()));
        assert!(ArtifactGrant::open(&cache.unwrap(), &keyring("acme", None), ANN, now).is_err());
    }

    #[test]
    fn a_grant_is_written_as_in_the_golden_file() {
        let envelope = grant().sign(&order_key()).unwrap();
        let golden = include_str!("../tests/golden/artifact-grant.json");
        assert_eq!(String::from_utf8_lossy(envelope.claim()), golden);
        let later = golden.replacen('{', r#"{"a_note":1,"#, 1).into_bytes();
        let envelope = Envelope::sign(&order_key(), PAYLOAD_TYPE, later).unwrap();
        let read = ArtifactGrant::open(&envelope, &keyring("acme", None), ANN, ISSUED).unwrap();
        assert_eq!(read, grant(), "what a later release adds is passed over");
    }
}
