//! SPIFFE ids: `spiffe://FLEET/PATH`.

use std::{fmt, str::FromStr, sync::Arc};

/// The longest id the SPIFFE standard lets everybody rely on, in bytes.
const ID_LEN_MAX: usize = 2048;
/// The longest trust domain, in bytes.
const FLEET_LEN_MAX: usize = 255;

/// The name of a process or person within a fleet, as it stands in a certificate's one URI name.
///
/// The trust domain is the fleet. Ids are compared as text; the standard leaves nothing to normalise.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    text: Arc<str>,
    fleet_end: usize,
}

/// Why a text is not a SPIFFE id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a SPIFFE id: {reason}")]
pub struct ParseSpiffeIdError {
    text: String,
    reason: &'static str,
}

const SCHEME: &str = "spiffe://";

impl SpiffeId {
    /// Builds `spiffe://FLEET/SEGMENT/SEGMENT…`.
    ///
    /// # Errors
    /// When the fleet or a segment is empty or has a character the standard forbids.
    pub fn new(fleet: &str, segments: &[&str]) -> Result<Self, ParseSpiffeIdError> {
        format!("{SCHEME}{fleet}/{}", segments.join("/")).parse()
    }

    /// The fleet: the id's trust domain.
    #[must_use]
    pub fn fleet(&self) -> &str {
        &self.text[SCHEME.len()..self.fleet_end]
    }

    /// The path's parts in order: `["agent", "fra", "a1"]`.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.text[self.fleet_end + 1..].split('/')
    }

    /// The whole id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for SpiffeId {
    type Err = ParseSpiffeIdError;

    fn from_str(text: &str) -> Result<Self, ParseSpiffeIdError> {
        let refuse = |reason| Err(ParseSpiffeIdError { text: text.chars().take(120).collect(), reason });
        if text.len() > ID_LEN_MAX {
            return refuse("longer than 2048 bytes");
        }
        let Some(rest) = text.strip_prefix(SCHEME) else {
            return refuse("it does not start with spiffe://");
        };
        let Some((fleet, path)) = rest.split_once('/') else {
            return refuse("it names no path after the fleet");
        };
        if !is_fleet_name(fleet) {
            return refuse("the fleet must be 1 to 255 of a-z, 0-9, '.', '_' and '-'");
        }
        if !path.split('/').all(is_segment) {
            return refuse(
                "each part of the path must be of a-z, A-Z, 0-9, '.', '_' and '-', and not '.' or '..'",
            );
        }
        Ok(Self { text: text.into(), fleet_end: SCHEME.len() + fleet.len() })
    }
}

pub(crate) fn is_fleet_name(fleet: &str) -> bool {
    (1..=FLEET_LEN_MAX).contains(&fleet.len())
        && fleet
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'))
}

fn is_segment(segment: &str) -> bool {
    !matches!(segment, "" | "." | "..")
        && segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpiffeId({})", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_its_fleet_and_its_parts() {
        let id: SpiffeId = "spiffe://acme/agent/fra/a1".parse().unwrap();
        assert_eq!(id.fleet(), "acme");
        assert_eq!(id.segments().collect::<Vec<_>>(), ["agent", "fra", "a1"]);
        assert_eq!(id.to_string(), "spiffe://acme/agent/fra/a1");
        assert_eq!(SpiffeId::new("acme", &["agent", "fra", "a1"]).unwrap(), id);
    }

    proptest::proptest! {
        #[test]
        fn an_id_is_its_fleet_and_parts_put_together_again(fleet in "[a-z0-9._-]{1,20}", parts in proptest::collection::vec("[a-zA-Z0-9_-]{1,9}", 1..5)) {
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            let id = SpiffeId::new(&fleet, &parts).unwrap();
            proptest::prop_assert_eq!(id.fleet(), fleet);
            proptest::prop_assert_eq!(id.segments().collect::<Vec<_>>(), parts);
            proptest::prop_assert_eq!(id.as_str().parse::<SpiffeId>().unwrap(), id);
        }

        #[test]
        fn no_text_makes_it_panic(text in "(spiffe://)?\\PC{0,40}") {
            let _ = text.parse::<SpiffeId>();
        }
    }

    #[test]
    fn what_is_not_an_id_is_refused_with_the_reason() {
        for (text, part) in [
            ("https://acme/x", "spiffe://"),
            ("spiffe://acme", "no path"),
            ("spiffe://acme/", "each part"),
            ("spiffe:///x", "the fleet"),
            ("spiffe://Acme/x", "the fleet"),
            ("spiffe://acme:80/x", "the fleet"),
            ("spiffe://acme/a//b", "each part"),
            ("spiffe://acme/../b", "each part"),
            ("spiffe://acme/a b", "each part"),
            ("spiffe://acme/a%20b", "each part"),
            ("spiffe://acme/a?b", "each part"),
        ] {
            let error = text.parse::<SpiffeId>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(format!("spiffe://acme/{}", "a".repeat(2048)).parse::<SpiffeId>().is_err());
    }
}
