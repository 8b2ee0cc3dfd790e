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
        let is_part = |part: &str| {
            let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
            !matches!(part, "" | "." | "..") && part.bytes().all(is_plain)
        };
        let parts = text.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/'));
        let is_id = parts.is_some_and(|(fleet, path)| is_part(fleet) && path.split('/').all(is_part));
        if is_id && text.len() <= ID_LEN_MAX {
            return Ok(Self(text.into()));
        }
        Err(ParseRequesterError(text.chars().take(120).collect()))
    }
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
