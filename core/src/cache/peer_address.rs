//! Where an agent's cache can be reached by other agents.

use std::{fmt, str::FromStr, sync::Arc};

/// The longest address that is taken, in bytes: the longest host name, and a port.
const ADDRESS_LEN_MAX: usize = 253 + 6;

/// `HOST:PORT`, the host by name, IPv4 or `[IPv6]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerAddress(Arc<str>);

/// A text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address: expected HOST:PORT with a port from 1 to 65535, an IPv6 host in brackets")]
pub struct ParsePeerAddressError(String);

impl PeerAddress {
    /// The whole address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerAddress({self})")
    }
}

impl FromStr for PeerAddress {
    type Err = ParsePeerAddressError;

    fn from_str(text: &str) -> Result<Self, ParsePeerAddressError> {
        if text.len() <= ADDRESS_LEN_MAX
            && text.rsplit_once(':').is_some_and(|(h, p)| is_host(h) && is_port(p))
        {
            return Ok(Self(text.into()));
        }
        Err(ParsePeerAddressError(text.chars().take(80).collect()))
    }
}

/// Whether it has the form of a host. Whether there is one, whoever dials it finds out.
fn is_host(text: &str) -> bool {
    if let Some(rest) = text.strip_prefix('[') {
        let inner = rest.strip_suffix(']').unwrap_or_default();
        return inner.contains(':')
            && inner.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'));
    }
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    !text.is_empty() && text.bytes().all(is_allowed)
}

fn is_port(text: &str) -> bool {
    text.starts_with(|c: char| matches!(c, '1'..='9')) && text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port_and_survives_its_own_text() {
        for text in ["a1.eu.example:7444", "127.0.0.1:1", "[::1]:65535", "[2001:db8::7]:7444", "a_b:80"] {
            assert_eq!(text.parse::<PeerAddress>().unwrap().to_string(), text);
        }
        let long = format!("{}:1", "a".repeat(300));
        for text in [
            "", "a", ":1", "a:", "a:0", "a:01", "a:+1", "a:65536", "::1:80", "[::1]", "[]:1", "[a]:1",
            "a b:1", &long,
        ] {
            assert!(text.parse::<PeerAddress>().is_err(), "{text:?}");
        }
    }
}
