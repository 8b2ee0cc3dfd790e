//! Who holds a key or builds: a SPIFFE id, as text.
//!
//! What the parts of the path mean is not known here; ids are compared as text.

use std::{fmt, str::FromStr, sync::Arc};

use meridian_core::{id::FleetName, keyring::KeyHolder, requester::is_spiffe_id};

const SCHEME: &str = "spiffe://";

/// `spiffe://FLEET/PATH`: an agent, a coordinator.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder(Arc<str>);

/// Why a text names no holder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a SPIFFE id: expected spiffe://FLEET/PART/PART with parts of a-z, A-Z, 0-9, '.', '_' and '-'"
)]
pub struct ParseHolderError(String);

/// The id of whoever holds a key of a fleet, as text.
pub(crate) fn id_of(fleet: &FleetName, holder: &KeyHolder) -> String {
    match holder {
        KeyHolder::Coordinator => format!("{SCHEME}{fleet}/coordinator"),
        KeyHolder::Agent(agent) => format!("{SCHEME}{fleet}/agent/{agent}"),
    }
}

impl Holder {
    /// Whoever holds a key of a fleet.
    ///
    /// # Errors
    /// When the names make an id that is too long.
    pub fn of(fleet: &FleetName, holder: &KeyHolder) -> Result<Self, ParseHolderError> {
        Self::new(&id_of(fleet, holder))
    }

    /// Checks and wraps an id.
    ///
    /// # Errors
    /// When the text is no SPIFFE id with a path.
    pub fn new(text: &str) -> Result<Self, ParseHolderError> {
        if is_spiffe_id(text) {
            return Ok(Self(text.into()));
        }
        Err(ParseHolderError(text.chars().take(120).collect()))
    }

    /// The fleet: the id's trust domain.
    #[must_use]
    pub fn fleet(&self) -> &str {
        self.0.strip_prefix(SCHEME).and_then(|rest| rest.split('/').next()).unwrap_or_default()
    }

    /// The whole id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Holder({})", self.0)
    }
}

impl FromStr for Holder {
    type Err = ParseHolderError;

    fn from_str(text: &str) -> Result<Self, ParseHolderError> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_says_its_fleet() {
        let holder = Holder::new("spiffe://acme/agent/eu-central/a1").unwrap();
        assert_eq!(holder.fleet(), "acme");
        assert_eq!(holder.as_str().parse(), Ok(holder));
    }

    #[test]
    fn whoever_holds_a_key_has_the_id_of_his_certificate() {
        let fleet = FleetName::new("acme").unwrap();
        for (holder, id) in [
            (KeyHolder::Coordinator, "spiffe://acme/coordinator"),
            (KeyHolder::Agent("eu-central/a1".parse().unwrap()), "spiffe://acme/agent/eu-central/a1"),
        ] {
            assert_eq!(Holder::of(&fleet, &holder).unwrap().as_str(), id);
        }
    }

    #[test]
    fn what_is_no_spiffe_id_is_refused() {
        let long = format!("spiffe://acme/{}", "a".repeat(2048));
        for text in [
            "",
            "acme/x",
            "https://acme/x",
            "spiffe://acme",
            "spiffe://acme/",
            "spiffe:///x",
            "spiffe://Acme/x",
            "spiffe://acme:80/x",
            "spiffe://acme/a//b",
            "spiffe://acme/../b",
            "spiffe://acme/a b",
            "spiffe://acme/a?b",
            "spiffe://acme/*",
            long.as_str(),
        ] {
            assert!(Holder::new(text).is_err(), "{text}");
        }
    }
}
