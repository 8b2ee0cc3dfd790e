//! The coordinator's signed order: who may build what, until when.
//!
//! A signer trusts neither the agent beside it nor the connection that an order came over. It signs only what
//! an order names, and an order counts only when a key of the fleet's keyring signed it, for this agent, and
//! it is not over. The parameters are those that the provenance will repeat, so comparing the two is
//! comparing two values.

use meridian_core::{
    digest::Digest,
    id::{AgentId, Fence, FleetName, PlacementNumber, TaskId},
    quantity::Millis,
    requester::Requester,
    time::Wall,
};
use serde::{Deserialize, Serialize};

use crate::{
    document::{self, DocumentError, as_number, as_optional_text, as_text},
    dsse::{Envelope, EnvelopeError},
    keyring::{KeyRefusal, KeyUse, Keyring},
    keys::{SignError, Signer},
    statement::ExternalParameters,
    timestamp::display,
};

/// The payload type of a signed order.
pub const PAYLOAD_TYPE: &str = "application/vnd.meridian.order+json";
/// How far an agent's clock may be behind the coordinator's.
pub const CLOCK_SKEW_MAX: Millis = Millis::minutes(1);
/// The longest order: its flags alone may have 96 KiB.
const ORDER_LEN_MAX: usize = 1 << 20;

/// An order to build one task under one lease. Fields are in the order of their names.
///
/// What a later release adds beside them is passed over; of the parameters, each of which the provenance repeats,
/// nothing may be unknown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Order {
    /// Who may build it.
    #[serde(with = "as_text")]
    pub agent: AgentId,
    /// From this moment on it is over.
    #[serde(rename = "expires_ms", with = "as_number")]
    pub expires: Wall,
    /// The lease.
    #[serde(with = "as_number")]
    pub fence: Fence,
    /// The fleet.
    #[serde(with = "as_text")]
    pub fleet: FleetName,
    /// When it was given.
    #[serde(rename = "issued_ms", with = "as_number")]
    pub issued: Wall,
    /// What is built, and how.
    pub parameters: ExternalParameters,
    /// The placement that put the task there.
    #[serde(with = "as_number")]
    pub placement: PlacementNumber,
    /// The digest of the whole request.
    #[serde(with = "as_text")]
    pub request_digest: Digest,
    /// Who asked for the build; orders of before this was kept do not say.
    #[serde(default, with = "as_optional_text", skip_serializing_if = "Option::is_none")]
    pub requester: Option<Requester>,
    /// Whether it may be built without a sandbox.
    pub sandbox: SandboxWanted,
    /// The task; its build and project are part of it.
    #[serde(with = "as_text")]
    pub task: TaskId,
}

/// Whether a task may be built without a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SandboxWanted {
    /// It may, where the machine allows none.
    WherePossible,
    /// It must not.
    Required,
}

/// Why an order does not count.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// Its key is not one for orders now.
    #[error(transparent)]
    Key(#[from] KeyRefusal),
    /// The key did not sign it.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The key signed something that is no order.
    #[error("not an order: {0}")]
    Document(#[from] DocumentError),
    /// Of another fleet.
    #[error("the order is of fleet {found}, not of {wanted}")]
    Fleet {
        /// The keyring's.
        wanted: FleetName,
        /// The order's.
        found: FleetName,
    },
    /// For somebody else.
    #[error("the order is for agent {found}, and this is {wanted}")]
    Agent {
        /// Who reads it.
        wanted: AgentId,
        /// Whom it is for.
        found: AgentId,
    },
    /// Over.
    #[error("the order expired at {}, and it is {}", display(*expired), display(*now))]
    Expired {
        /// When.
        expired: Wall,
        /// The time told.
        now: Wall,
    },
    /// From the future.
    #[error(
        "the order is from {}, and it is {}: this machine's clock is behind by more than a minute",
        display(*issued),
        display(*now)
    )]
    Future {
        /// When it was given.
        issued: Wall,
        /// The time told.
        now: Wall,
    },
    /// Its window is none.
    #[error("the order expires before it was given")]
    Window,
}

impl Order {
    /// Signs the order with the coordinator's key for orders.
    ///
    /// # Errors
    /// When the key's holder does not sign.
    pub fn sign(&self, signer: &dyn Signer) -> Result<Envelope, SignError> {
        Envelope::sign(signer, PAYLOAD_TYPE, document::write(self))
    }

    /// Reads what an envelope claims to order. Nothing says who made it: for whoever passes it on, not for its signer.
    ///
    /// # Errors
    /// When it is no order.
    pub fn claimed(envelope: &Envelope) -> Result<Self, DocumentError> {
        document::parse_signed(envelope.claim(), ORDER_LEN_MAX)
    }

    /// Reads an order that `agent` was given and may follow at `now`.
    ///
    /// # Errors
    /// When the keyring has no such key for orders now, the key did not sign it, or it is another fleet's,
    /// another agent's, over, or from the future.
    pub fn open(
        envelope: &Envelope,
        keyring: &Keyring,
        agent: &AgentId,
        now: Wall,
    ) -> Result<Self, OrderError> {
        let entry = keyring.find(envelope.key_id(), KeyUse::Order, now)?;
        let payload = envelope.open(&entry.key, PAYLOAD_TYPE)?;
        let order: Self = document::parse_signed(payload, ORDER_LEN_MAX)?;
        if order.fleet != *keyring.fleet() {
            return Err(OrderError::Fleet { wanted: keyring.fleet().clone(), found: order.fleet });
        }
        if order.agent != *agent {
            return Err(OrderError::Agent { wanted: agent.clone(), found: order.agent });
        }
        if order.expires <= order.issued {
            return Err(OrderError::Window);
        }
        if order.expires <= now {
            return Err(OrderError::Expired { expired: order.expires, now });
        }
        if order.issued > now.after(CLOCK_SKEW_MAX) {
            return Err(OrderError::Future { issued: order.issued, now });
        }
        Ok(order)
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
        statement::tests::provenance,
    };

    const NOW: Wall = Wall(5_000_000);

    fn key() -> SigningKey {
        SigningKey::from_seed(Algorithm::EcdsaP256, &[7; 32]).unwrap()
    }

    fn keyring(key_use: KeyUse) -> Keyring {
        let entry = Entry {
            key: key().public().clone(),
            key_use,
            holder: Holder::new("spiffe://acme/coordinator").unwrap(),
            grade: Grade::Production,
            not_before: Wall(1_000_000),
            not_after: Wall(9_000_000),
            revoked: None,
        };
        Keyring::new(FleetName::new("acme").unwrap(), JournalIndex(1), [entry]).unwrap()
    }

    fn agent() -> AgentId {
        "eu-central/a1".parse().unwrap()
    }

    fn order() -> Order {
        let provenance = provenance();
        Order {
            agent: agent(),
            expires: Wall(6_000_000),
            fence: provenance.internal.fence,
            fleet: FleetName::new("acme").unwrap(),
            issued: Wall(4_000_000),
            parameters: provenance.external,
            placement: provenance.internal.placement,
            request_digest: provenance.internal.request_digest,
            requester: provenance.internal.requester,
            sandbox: SandboxWanted::Required,
            task: provenance.internal.task,
        }
    }

    fn open(order: &Order, now: Wall) -> Result<Order, OrderError> {
        Order::open(&order.sign(&key()).unwrap(), &keyring(KeyUse::Order), &agent(), now)
    }

    #[test]
    fn an_order_survives_signing() {
        let order = order();
        assert_eq!(open(&order, NOW).unwrap(), order);
    }

    #[test]
    fn an_order_is_written_as_in_the_golden_file() {
        let envelope = order().sign(&key()).unwrap();
        let payload = envelope.open(key().public(), PAYLOAD_TYPE).unwrap();
        assert_eq!(String::from_utf8_lossy(payload), include_str!("../tests/golden/order.json"));
    }

    #[test]
    fn an_order_counts_for_its_agent_its_fleet_and_its_time_only() {
        let order = order();
        let other_fleet = Order { fleet: FleetName::new("other").unwrap(), ..order.clone() };
        let other_agent = Order { agent: "eu-central/a2".parse().unwrap(), ..order.clone() };
        let empty = Order { expires: order.issued, ..order.clone() };
        for (order, now, part) in [
            (&other_fleet, NOW, "of fleet other, not of acme"),
            (&other_agent, NOW, "for agent eu-central/a2, and this is eu-central/a1"),
            (&empty, NOW, "expires before"),
            (&order, Wall(6_000_000), "expired at"),
            (&order, Wall(3_939_999), "clock is behind"),
        ] {
            let error = open(order, now).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert!(open(&order, Wall(5_999_999)).is_ok());
        assert!(open(&order, Wall(3_940_000)).is_ok());
    }

    #[test]
    fn an_order_under_a_key_that_is_not_for_orders_now_is_refused() {
        let envelope = order().sign(&key()).unwrap();
        let verdict = Order::open(&envelope, &keyring(KeyUse::Acceptance), &agent(), NOW);
        assert!(matches!(verdict, Err(OrderError::Key(KeyRefusal::Use { .. }))), "{verdict:?}");
        let late = Order { expires: Wall(20_000_000), ..order() };
        let verdict = open(&late, Wall(9_000_000));
        assert!(matches!(verdict, Err(OrderError::Key(KeyRefusal::Expired { .. }))), "{verdict:?}");
        let other = SigningKey::generate(Algorithm::EcdsaP256).unwrap();
        let envelope = order().sign(&other).unwrap();
        let verdict = Order::open(&envelope, &keyring(KeyUse::Order), &agent(), NOW);
        assert!(matches!(verdict, Err(OrderError::Key(KeyRefusal::Unknown(_)))), "{verdict:?}");
    }

    #[test]
    fn an_acceptance_or_a_keyring_never_passes_as_an_order() {
        let payload = document::write(&order());
        let envelope =
            Envelope::sign(&key(), "application/vnd.meridian.acceptance+json", payload.clone()).unwrap();
        let verdict = Order::open(&envelope, &keyring(KeyUse::Order), &agent(), NOW);
        let is_type = matches!(verdict, Err(OrderError::Envelope(EnvelopeError::PayloadType { .. })));
        assert!(is_type, "{verdict:?}");
    }

    #[test]
    fn an_order_of_an_earlier_or_a_later_release_is_read_and_unknown_parameters_are_refused() {
        let read = |text: String| {
            let envelope = Envelope::sign(&key(), PAYLOAD_TYPE, text.into_bytes()).unwrap();
            Order::open(&envelope, &keyring(KeyUse::Order), &agent(), NOW)
        };
        let mut from_scratch = order();
        from_scratch.parameters.from_scratch = true;
        let later = include_str!("../tests/golden/order-from-scratch.json").to_owned();
        assert_eq!(read(later).unwrap(), from_scratch);
        let early = include_str!("../tests/golden/order.json").to_owned();
        assert_eq!(read(early.clone()).unwrap(), order());
        assert_eq!(read(early.replacen('{', r#"{"a_note":1,"#, 1)).unwrap(), order());
        for (known, unknown) in [
            (r#""parameters":{"#, r#""parameters":{"a":1,"#),
            (r#""flags":{"#, r#""flags":{"a":1,"#),
            (r#""platform":{"#, r#""platform":{"a":1,"#),
            (r#""kind":"tree","#, r#""kind":"tree","a":1,"#),
            (r#""sandbox":"required""#, r#""sandbox":"certified""#),
        ] {
            let verdict = read(early.replacen(known, unknown, 1));
            assert!(matches!(verdict, Err(OrderError::Document(_))), "{unknown}: {verdict:?}");
        }
    }

    #[test]
    fn no_flipped_bit_of_an_order_counts() {
        let good = order().sign(&key()).unwrap().to_json();
        let keyring = keyring(KeyUse::Order);
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let Ok(envelope) = Envelope::parse(&bytes) else { continue };
            assert!(Order::open(&envelope, &keyring, &agent(), NOW).is_err(), "bit {bit}");
        }
    }
}
