//! Who asked for a build: the identity that the coordinator authenticated.
//!
//! What a request says of its source's origin, of versions and of stamps is its requester's word. The name of whoever
//! gave that word goes with it, through the journal and the order into the provenance, so that a verifier can say
//! whose word counts. It is no part of a request's digest: the same request by somebody else is the same build.
//!
//! Ids are compared as text here; what their parts mean is not known.

use std::{fmt, str::FromStr, sync::Arc};

/// The longest id the SPIFFE standard lets everybody rely on, in bytes.
const ID_LEN_MAX: usize = 2048;

/// `spiffe://FLEET/PATH`: a member of a team, or the fleet's administrator.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requester(Arc<str>);

/// A text names nobody who could have asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a requester's SPIFFE id: expected spiffe://FLEET/PART/PART with parts of a-z, A-Z, 0-9, '.', '_' and '-'"
)]
pub struct ParseRequesterError(String);

impl Requester {
    /// The whole id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As the fleet's own people call them: the id without the fleet.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.splitn(4, '/').nth(3).unwrap_or(&self.0)
    }
}

impl fmt::Display for Requester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Requester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Requester({})", self.0)
    }
}

impl FromStr for Requester {
    type Err = ParseRequesterError;

    fn from_str(text: &str) -> Result<Self, ParseRequesterError> {
        if is_spiffe_id(text) {
            return Ok(Self(text.into()));
        }
        Err(ParseRequesterError(text.chars().take(120).collect()))
    }
}

/// Whether a text is a SPIFFE id with a path: `spiffe://FLEET/PART/PART` (the SPIFFE standard, SPIFFE-ID.md).
#[must_use]
pub fn is_spiffe_id(text: &str) -> bool {
    let is_lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    let is_part = |part: &str| {
        !matches!(part, "" | "." | "..") && part.bytes().all(|b| is_lower(b) || b.is_ascii_uppercase())
    };
    let parts = text.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/'));
    let has_form = parts.is_some_and(|(fleet, path)| {
        !fleet.is_empty() && fleet.bytes().all(is_lower) && path.split('/').all(is_part)
    });
    has_form && text.len() <= ID_LEN_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_requester_survives_its_own_text() {
        for text in ["spiffe://acme/team/web/member/ci", "spiffe://acme/admin"] {
            assert_eq!(text.parse::<Requester>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_spiffe_id_has_asked_for_nothing() {
        let long = format!("spiffe://acme/{}", "a".repeat(2048));
        for text in
            ["", "ci", "spiffe://acme", "spiffe://acme/", "spiffe://acme/../x", "spiffe://acme/a b", &long]
        {
            assert!(text.parse::<Requester>().is_err(), "{text}");
        }
    }
}
