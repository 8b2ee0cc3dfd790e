//! Forms of text that several configurations have: addresses and host names.

use std::net::SocketAddr;

use rustls::pki_types::ServerName;

use super::schema::Kind;
use crate::tls::host_and_port;

/// Where somebody else is: `HOST:PORT`.
pub const HOST_PORT: Kind = Kind::Parsed { expected: "HOST:PORT", check: host_port };

/// Where to listen: `HOST:PORT`, of which port 0 is any free one.
pub const LISTEN: Kind =
    Kind::Parsed { expected: "HOST:PORT", check: |text| Ok(host_and_port(text).map(|_| ())?) };

/// Where to listen, without asking anybody what a name means: `IP:PORT`.
pub const IP_PORT: Kind = Kind::Parsed { expected: "IP:PORT", check: ip_port };

/// A host by name or address, as a certificate carries it.
pub const HOST: Kind = Kind::Parsed { expected: "a host name or an address", check: host };

fn host_port(text: &str) -> Result<(), String> {
    match host_and_port(text)? {
        (_, 0) => Err("nobody can be reached at port 0".to_owned()),
        _ => Ok(()),
    }
}

fn ip_port(text: &str) -> Result<(), String> {
    text.parse::<SocketAddr>().map(|_| ()).map_err(|error| error.to_string())
}

fn host(text: &str) -> Result<(), String> {
    // A certificate may speak for every host of a domain.
    let name = text.strip_prefix("*.").unwrap_or(text);
    ServerName::try_from(name)
        .map(|_| ())
        .map_err(|_| "it is neither; a port does not belong to it".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: Kind, good: &[&str], bad: &[&str]) {
        let Kind::Parsed { check, .. } = kind else { panic!("a form is parsed") };
        for text in good {
            assert_eq!(check(text), Ok(()), "{text:?}");
        }
        for text in bad {
            assert!(check(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_address_to_reach_has_a_port_and_one_to_listen_at_may_take_any() {
        check(
            HOST_PORT,
            &["a.example:1", "[::1]:443"],
            &["", "a", "a:", "a:x", "a:65536", ":1", "::1:1", "a:0"],
        );
        check(LISTEN, &["0.0.0.0:0", "[::]:7443", "localhost:1"], &["", "7443", ":7443", "http://a:1"]);
        check(IP_PORT, &["127.0.0.1:80", "[::1]:0"], &["", "localhost:80", "127.0.0.1", ":80"]);
    }

    #[test]
    fn a_host_is_a_name_or_an_address_without_a_port() {
        check(
            HOST,
            &["a.example", "*.a.example", "10.0.0.1", "::1"],
            &["", "a b", "a.example:1", "https://a"],
        );
    }
}
