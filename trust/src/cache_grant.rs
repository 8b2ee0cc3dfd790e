//! The coordinator's signed word for what a cache may read and write, and with which key it signs.
//!
//! Agents exchange cache entries among themselves, over the whole world and without asking the coordinator. Each shows
//! a grant: this agent's cache, which signs with this key, may read these scopes and write that one, for a day. A reader
//! trusts nobody between itself and the fleet's root: the root certified the coordinator's key for orders, that key
//! signed the grant, and the key in the grant signed the manifest or the entry.
//!
//! Two moments count. Whoever *asks* shows a grant that holds now ([`CacheGrant::open`]); what was *written* is judged
//! by the moment at which its writer says that it was ([`CacheGrant::open_written`]), since a manifest outlives the day
//! of its grant. That moment is the writer's word: an agent whose key was stolen is revoked, and then nothing of it
//! counts any more, whatever it says of times. So it is with the coordinator's key: a grant under a key that is revoked
//! counts no more, from whenever it is.
//!
//! Clocks of two regions may differ: each comparison of times allows for [`CLOCK_SKEW_MAX`].
//!
//! Not here: which agents are revoked (the coordinator tells that with the shards), and the documents that a grant's key
//! signs (`meridian-cache`).

use meridian_core::{
    cache::{offer::CacheKey, scope::Scope},
    id::{AgentId, FleetName},
    quantity::Millis,
    time::Wall,
};
use serde::{Deserialize, Serialize};

use crate::{
    document::{self, DocumentError, as_number, as_text},
    dsse::{Envelope, EnvelopeError},
    keyring::{KeyRefusal, Keyring},
    keys::{KeyError, SignError, Signer, VerifyingKey},
    timestamp::display,
};

/// The payload type of a signed grant.
pub const PAYLOAD_TYPE: &str = "application/vnd.meridian.cache-grant+json";
/// How far two clocks may be apart.
pub const CLOCK_SKEW_MAX: Millis = Millis::minutes(10);
/// The longest life that a grant may have. One that never ended would outlive every change of who is trusted.
pub const LIFE_MAX: Millis = Millis::days(7);
/// Most scopes that a grant may name.
pub const SCOPES_MAX: usize = 16;
const GRANT_LEN_MAX: usize = 16 << 10;

/// What an agent's cache may read and write. Fields are in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct CacheGrant {
    /// Whose cache.
    #[serde(with = "as_text")]
    pub agent: AgentId,
    /// What it signs with.
    #[serde(with = "as_text")]
    pub cache_key: CacheKey,
    /// From this moment on it is over.
    #[serde(rename = "expires_ms", with = "as_number")]
    pub expires: Wall,
    /// The fleet.
    #[serde(with = "as_text")]
    pub fleet: FleetName,
    /// When it was given.
    #[serde(rename = "issued_ms", with = "as_number")]
    pub issued: Wall,
    /// What it may read, in the order in which it looks.
    pub reads: Vec<ScopeText>,
    /// What it may write; one of those that it may read.
    #[serde(with = "as_text")]
    pub writes: Scope,
}

/// A scope as its own text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ScopeText(#[serde(with = "as_text")] pub Scope);

/// Why a grant does not count.
#[derive(Debug, thiserror::Error)]
pub enum CacheGrantError {
    /// Its key is not one for orders that counts.
    #[error(transparent)]
    Key(#[from] KeyRefusal),
    /// The key did not sign it.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The key signed something that is no grant.
    #[error("not a cache grant: {0}")]
    Document(#[from] DocumentError),
    /// Of another fleet.
    #[error("the cache grant is of fleet {found}, not of {wanted}")]
    Fleet {
        /// The keyring's.
        wanted: FleetName,
        /// The grant's.
        found: FleetName,
    },
    /// Shown by somebody else than it was given to.
    #[error("the cache grant is for agent {found}, and {wanted} shows it")]
    Agent {
        /// Who shows it.
        wanted: AgentId,
        /// Whom it is for.
        found: AgentId,
    },
    /// Over.
    #[error("the cache grant expired at {}, and it is used at {}", display(*expired), display(*at))]
    Expired {
        /// When.
        expired: Wall,
        /// When it was used.
        at: Wall,
    },
    /// Used before it was given.
    #[error(
        "the cache grant is from {}, and it is used at {}: one of the two clocks is off by more than 10 minutes",
        display(*issued),
        display(*at)
    )]
    Future {
        /// When it was given.
        issued: Wall,
        /// When it was used.
        at: Wall,
    },
    /// What was written under it says that it is from a time that has not come.
    #[error(
        "it was written at {}, and it is {}: one of the two clocks is off by more than 10 minutes",
        display(*written),
        display(*now)
    )]
    WrittenLater {
        /// When, by its writer's word.
        written: Wall,
        /// The time told.
        now: Wall,
    },
    /// Its window is none, or for longer than any grant is.
    #[error("the cache grant expires before it was given, or more than 7 days after that")]
    Window,
    /// Its scopes are none, too many, or the one that it writes is not among those that it reads.
    #[error("the cache grant names no scope, more than 16, or does not read what it writes")]
    Scopes,
}

impl CacheGrant {
    /// Signs the grant with the coordinator's key for orders.
    ///
    /// # Errors
    /// When the key's holder does not sign.
    pub fn sign(&self, signer: &dyn Signer) -> Result<Envelope, SignError> {
        Envelope::sign(signer, PAYLOAD_TYPE, document::write(self))
    }

    /// Reads a grant that `agent` shows at `now`.
    ///
    /// # Errors
    /// When a key for orders of this fleet did not sign it, that key counts no more, or the grant is another agent's,
    /// over, from the future, or malformed.
    pub fn open(
        envelope: &Envelope,
        keyring: &Keyring,
        agent: &AgentId,
        now: Wall,
    ) -> Result<Self, CacheGrantError> {
        let grant = Self::judged(envelope, keyring, now, now)?;
        if grant.agent != *agent {
            return Err(CacheGrantError::Agent { wanted: agent.clone(), found: grant.agent });
        }
        Ok(grant)
    }

    /// Reads, at `now`, a grant under which something was written at `written` by its writer's word; whoever passed it
    /// on. The caller asks whether the writer was revoked since.
    ///
    /// # Errors
    /// As [`CacheGrant::open`], judged by the moment of writing; and when that lies in the future.
    pub fn open_written(
        envelope: &Envelope,
        keyring: &Keyring,
        written: Wall,
        now: Wall,
    ) -> Result<Self, CacheGrantError> {
        if written > now.after(CLOCK_SKEW_MAX) {
            return Err(CacheGrantError::WrittenLater { written, now });
        }
        Self::judged(envelope, keyring, written, now)
    }

    fn judged(envelope: &Envelope, keyring: &Keyring, at: Wall, now: Wall) -> Result<Self, CacheGrantError> {
        let entry = keyring.entry(envelope.key_id())?;
        let payload = envelope.open(&entry.key, PAYLOAD_TYPE)?;
        let grant: Self = document::parse_signed(payload, GRANT_LEN_MAX)?;
        entry.check_word(grant.issued, now)?;
        if grant.fleet != *keyring.fleet() {
            return Err(CacheGrantError::Fleet { wanted: keyring.fleet().clone(), found: grant.fleet });
        }
        if grant.expires <= grant.issued || grant.expires > grant.issued.after(LIFE_MAX) {
            return Err(CacheGrantError::Window);
        }
        if grant.reads.len() > SCOPES_MAX || !grant.may_read(&grant.writes) {
            return Err(CacheGrantError::Scopes);
        }
        if grant.expires.after(CLOCK_SKEW_MAX) <= at {
            return Err(CacheGrantError::Expired { expired: grant.expires, at });
        }
        if grant.issued > at.after(CLOCK_SKEW_MAX) {
            return Err(CacheGrantError::Future { issued: grant.issued, at });
        }
        Ok(grant)
    }

    /// Whether it lets its agent read a scope.
    #[must_use]
    pub fn may_read(&self, scope: &Scope) -> bool {
        self.reads.iter().any(|read| read.0 == *scope)
    }

    /// Whether it lets its agent write a scope.
    #[must_use]
    pub fn may_write(&self, scope: &Scope) -> bool {
        self.writes == *scope
    }

    /// The key by which its agent's cache signs.
    ///
    /// # Errors
    /// When the 32 bytes are no usable key.
    pub fn key(&self) -> Result<VerifyingKey, KeyError> {
        VerifyingKey::from_ed25519_bytes(self.cache_key.as_bytes())
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
        message::Message,
    };

    const DAY: u64 = 86_400_000;
    const SKEW: u64 = CLOCK_SKEW_MAX.0;
    const ISSUED: Wall = Wall(10 * DAY);
    const NOW: Wall = Wall(10 * DAY + 1_000);
    const EXPIRES: Wall = Wall(11 * DAY);

    fn order_key() -> SigningKey {
        SigningKey::from_seed(Algorithm::EcdsaP256, &[7; 32]).unwrap()
    }

    fn cache_key() -> SigningKey {
        SigningKey::from_seed(Algorithm::Ed25519, &[9; 32]).unwrap()
    }

    fn entry() -> Entry {
        Entry {
            key: order_key().public().clone(),
            key_use: KeyUse::Order,
            holder: Holder::new("spiffe://acme/coordinator").unwrap(),
            grade: Grade::Production,
            not_before: Wall(9 * DAY),
            not_after: Wall(12 * DAY),
            revoked: None,
        }
    }

    fn keyring_of(entry: Entry) -> Keyring {
        Keyring::new(FleetName::new("acme").unwrap(), JournalIndex(1), [entry]).unwrap()
    }

    fn agent() -> AgentId {
        "eu-central/a1".parse().unwrap()
    }

    fn scope(text: &str) -> Scope {
        text.parse().unwrap()
    }

    fn grant() -> CacheGrant {
        let spki = cache_key().public().to_spki();
        CacheGrant {
            agent: agent(),
            cache_key: CacheKey::new(spki[spki.len() - 32..].try_into().unwrap()),
            expires: EXPIRES,
            fleet: FleetName::new("acme").unwrap(),
            issued: ISSUED,
            reads: ["acme/member/ann", "acme/trusted"].map(|text| ScopeText(scope(text))).to_vec(),
            writes: scope("acme/member/ann"),
        }
    }

    fn open(grant: &CacheGrant, now: Wall) -> Result<CacheGrant, CacheGrantError> {
        CacheGrant::open(&grant.sign(&order_key()).unwrap(), &keyring_of(entry()), &agent(), now)
    }

    #[track_caller]
    fn refused(verdict: Result<CacheGrant, CacheGrantError>, part: &str) {
        let error = verdict.unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn a_grant_survives_signing_and_says_what_may_be_done() {
        let read = open(&grant(), NOW).unwrap();
        assert_eq!(read, grant());
        assert!(read.may_read(&scope("acme/trusted")) && read.may_read(&scope("acme/member/ann")));
        assert!(!read.may_read(&scope("acme/member/bob")) && !read.may_read(&scope("web/trusted")));
        assert!(read.may_write(&scope("acme/member/ann")) && !read.may_write(&scope("acme/trusted")));
        let message = Message::of(b"an entry");
        let signature = cache_key().sign(&message).unwrap();
        assert!(read.key().unwrap().verify(&message, &signature).is_ok());
    }

    #[test]
    fn a_grant_is_written_as_in_the_golden_file() {
        let envelope = grant().sign(&order_key()).unwrap();
        let golden = include_str!("../tests/golden/cache-grant.json");
        assert_eq!(String::from_utf8_lossy(envelope.claim()), golden);
        let later = golden.replacen('{', r#"{"a_note":1,"#, 1).into_bytes();
        let envelope = Envelope::sign(&order_key(), PAYLOAD_TYPE, later).unwrap();
        let read = CacheGrant::open(&envelope, &keyring_of(entry()), &agent(), NOW).unwrap();
        assert_eq!(read, grant(), "what a later release adds is passed over");
    }

    #[test]
    fn no_field_can_be_changed_without_the_coordinators_key() {
        let golden = include_str!("../tests/golden/cache-grant.json");
        let genuine = grant().sign(&order_key()).unwrap();
        let key = grant().cache_key.to_string();
        let other = CacheKey::new([1; 32]).to_string();
        for (field, changed) in [
            ("eu-central/a1", "eu-central/a2"),
            (key.as_str(), other.as_str()),
            (r#""expires_ms":950400000"#, r#""expires_ms":950400001"#),
            (r#""fleet":"acme""#, r#""fleet":"acmf""#),
            (r#""issued_ms":864000000"#, r#""issued_ms":863999999"#),
            (r#"["acme/member/ann","acme/trusted"]"#, r#"["acme/member/ann","web/trusted"]"#),
            (r#""writes":"acme/member/ann""#, r#""writes":"acme/trusted""#),
        ] {
            assert!(golden.contains(field), "{field}");
            let payload = golden.replacen(field, changed, 1).into_bytes();
            // With the genuine signature over what was said before, and with that of another key.
            let (_, _, signature) = genuine.parts();
            let (payload_type, id) = (PAYLOAD_TYPE.to_owned(), genuine.key_id());
            let forged = Envelope::of_parts(payload.clone(), payload_type, id, signature.to_vec());
            let verdict = CacheGrant::open(&forged, &keyring_of(entry()), &agent(), NOW);
            assert!(matches!(verdict, Err(CacheGrantError::Envelope(_))), "{changed}: {verdict:?}");
            let own = Envelope::sign(&cache_key(), PAYLOAD_TYPE, payload).unwrap();
            let verdict = CacheGrant::open(&own, &keyring_of(entry()), &agent(), NOW);
            let is_unknown = matches!(verdict, Err(CacheGrantError::Key(KeyRefusal::Unknown(_))));
            assert!(is_unknown, "{changed}: {verdict:?}");
        }
    }

    #[test]
    fn a_grant_counts_for_its_agent_its_fleet_and_its_scopes_only() {
        let good = grant();
        let other_agent = CacheGrant { agent: "eu-central/a2".parse().unwrap(), ..good.clone() };
        refused(open(&other_agent, NOW), "for agent eu-central/a2, and eu-central/a1 shows it");
        let other_fleet = CacheGrant { fleet: FleetName::new("other").unwrap(), ..good.clone() };
        refused(open(&other_fleet, NOW), "of fleet other, not of acme");
        let blind = CacheGrant { writes: scope("acme/trusted"), reads: Vec::new(), ..good.clone() };
        refused(open(&blind, NOW), "names no scope");
        let writes_more = CacheGrant { writes: scope("web/trusted"), ..good.clone() };
        refused(open(&writes_more, NOW), "does not read what it writes");
        let many = vec![good.reads[0].clone(); SCOPES_MAX + 1];
        refused(open(&CacheGrant { reads: many, ..good }, NOW), "more than 16");
    }

    #[test]
    fn a_grant_holds_for_its_time_and_for_clocks_that_are_ten_minutes_off() {
        let good = grant();
        for now in [ISSUED.0 - SKEW, EXPIRES.0 + SKEW - 1] {
            assert!(open(&good, Wall(now)).is_ok(), "{now}");
        }
        refused(open(&good, Wall(ISSUED.0 - SKEW - 1)), "clocks is off");
        refused(open(&good, Wall(EXPIRES.0 + SKEW)), "expired at");
        refused(open(&CacheGrant { expires: ISSUED, ..good.clone() }, NOW), "expires before");
        let eternal = CacheGrant { expires: Wall(ISSUED.0 + LIFE_MAX.0 + 1), ..good };
        refused(open(&eternal, NOW), "more than 7 days");
    }

    #[test]
    fn what_was_written_in_time_is_read_for_long_after() {
        let envelope = grant().sign(&order_key()).unwrap();
        let keyring = keyring_of(entry());
        let read = |written, now| CacheGrant::open_written(&envelope, &keyring, Wall(written), Wall(now));
        // The coordinator's key for orders has had its time as well.
        let late = 300 * DAY;
        assert_eq!(read(NOW.0, late).unwrap(), grant(), "whoever passes it on");
        assert!(read(ISSUED.0 - SKEW, late).is_ok() && read(EXPIRES.0 + SKEW - 1, late).is_ok());
        refused(read(EXPIRES.0 + SKEW, late), "expired at");
        refused(read(ISSUED.0 - SKEW - 1, late), "is from");
        assert!(read(NOW.0 + SKEW, NOW.0).is_ok());
        refused(read(NOW.0 + SKEW + 1, NOW.0), "it was written at");
    }

    #[test]
    fn a_grant_under_a_key_that_counts_for_no_orders_is_refused() {
        let envelope = grant().sign(&order_key()).unwrap();
        let check = |entry: Entry, now| CacheGrant::open(&envelope, &keyring_of(entry), &agent(), now);
        for key_use in [KeyUse::Acceptance, KeyUse::Artifact] {
            let verdict = check(Entry { key_use, ..entry() }, NOW);
            assert!(matches!(verdict, Err(CacheGrantError::Key(KeyRefusal::Use { .. }))), "{verdict:?}");
        }
        let verdict = check(Entry { not_before: Wall(ISSUED.0 + 1), ..entry() }, NOW);
        assert!(matches!(verdict, Err(CacheGrantError::Key(KeyRefusal::NotYetValid { .. }))), "{verdict:?}");
        let verdict = check(Entry { not_after: ISSUED, ..entry() }, NOW);
        assert!(matches!(verdict, Err(CacheGrantError::Key(KeyRefusal::Expired { .. }))), "{verdict:?}");
        // A revoked key may have said any time, so it does not matter when it says that it signed.
        let revoked = Entry { revoked: Some(NOW), ..entry() };
        let verdict = check(revoked.clone(), NOW);
        assert!(matches!(verdict, Err(CacheGrantError::Key(KeyRefusal::Revoked { .. }))), "{verdict:?}");
        let verdict = CacheGrant::open_written(&envelope, &keyring_of(revoked), ISSUED, Wall(300 * DAY));
        assert!(matches!(verdict, Err(CacheGrantError::Key(KeyRefusal::Revoked { .. }))), "{verdict:?}");
        let later = Entry { revoked: Some(Wall(NOW.0 + 1)), ..entry() };
        assert!(check(later, NOW).is_ok());
    }

    #[test]
    fn an_order_never_passes_as_a_grant() {
        let payload = document::write(&grant());
        let envelope = Envelope::sign(&order_key(), crate::order::PAYLOAD_TYPE, payload).unwrap();
        let verdict = CacheGrant::open(&envelope, &keyring_of(entry()), &agent(), NOW);
        let is_type = matches!(verdict, Err(CacheGrantError::Envelope(EnvelopeError::PayloadType { .. })));
        assert!(is_type, "{verdict:?}");
    }

    #[test]
    fn no_flipped_bit_of_a_grant_counts() {
        let good = grant().sign(&order_key()).unwrap().to_json();
        let keyring = keyring_of(entry());
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let Ok(envelope) = Envelope::parse(&bytes) else { continue };
            assert!(CacheGrant::open(&envelope, &keyring, &agent(), NOW).is_err(), "bit {bit}");
        }
    }
}
