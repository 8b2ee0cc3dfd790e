//! The `[remote_cache]` table of `agent.toml`: a server that is not of the fleet and keeps what the region builds.

use std::{net::IpAddr, path::PathBuf};

use meridian_agent::{OutsideCredentials, OutsideSettings};
use meridian_runtime::{
    config::{HOST_PORT, Key, Kind, Problem},
    tls::ForeignTls,
};
use serde::Deserialize;

/// The table's keys.
pub(super) const KEYS: &[Key] = &[
    Key::required("url", URL),
    Key::optional("instance", Kind::Text),
    Key::optional("ca", Kind::Text),
    Key::optional("certificate", Kind::Text),
    Key::optional("key", Kind::Text),
    Key::optional("token", Kind::Text),
    Key::optional("basic", Kind::Text),
];

const URL: Kind = Kind::Parsed {
    expected: "grpc://HOST:PORT or grpcs://HOST:PORT",
    check: |text| {
        let (_, address) = parts(text).ok_or("it begins with neither")?;
        let Kind::Parsed { check, .. } = HOST_PORT else { return Ok(()) };
        check(address)
    },
};

/// Whether it is secured, and `HOST:PORT`.
fn parts(url: &str) -> Option<(bool, &str)> {
    let plain = url.strip_prefix("grpc://").map(|address| (false, address));
    plain.or_else(|| url.strip_prefix("grpcs://").map(|address| (true, address)))
}

/// What the file says.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct RemoteCacheTable {
    url: String,
    #[serde(default)]
    instance: String,
    ca: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    token: Option<PathBuf>,
    basic: Option<PathBuf>,
}

impl RemoteCacheTable {
    /// What is wrong with it as a whole.
    pub(super) fn problem(&self) -> Option<Problem> {
        const URL: &str = "remote_cache.url";
        const CA: &str = "remote_cache.ca";
        const CERTIFICATE: &str = "remote_cache.certificate";
        const KEY: &str = "remote_cache.key";
        const TOKEN: &str = "remote_cache.token";
        const BASIC: &str = "remote_cache.basic";
        let (is_secured, address) = parts(&self.url)?;
        let told = |paths: &[&str], what: &str| Some(Problem::new(paths, what));
        if is_secured && self.ca.is_none() {
            return told(
                &[CA, URL],
                "grpcs needs the certificates of whoever signed the server's, such as /etc/ssl/certs/ca-certificates.crt",
            );
        }
        if !is_secured && (self.ca.is_some() || self.certificate.is_some() || self.key.is_some()) {
            return told(&[URL, CA, CERTIFICATE, KEY], "certificates are shown and checked with grpcs alone");
        }
        if self.certificate.is_some() != self.key.is_some() {
            let paths = if self.certificate.is_some() { [KEY, CERTIFICATE] } else { [CERTIFICATE, KEY] };
            return told(&paths, "certificate and key are said together, or neither");
        }
        if self.token.is_some() && self.basic.is_some() {
            return told(&[BASIC, TOKEN], "say token or basic, not both");
        }
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
        let is_here = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        if !is_secured && !is_here && (self.token.is_some() || self.basic.is_some()) {
            return told(&[URL, TOKEN, BASIC], "a secret would go over the network in the clear: use grpcs");
        }
        None
    }

    /// What the agent is told.
    pub(super) fn settings(self) -> Option<OutsideSettings> {
        let (is_secured, address) = parts(&self.url)?;
        let shown = self.certificate.zip(self.key);
        let tls = self.ca.filter(|_| is_secured).map(|authorities| ForeignTls { authorities, shown });
        let basic = self.basic.map(OutsideCredentials::Basic);
        Some(OutsideSettings {
            address: address.to_owned(),
            tls,
            instance: self.instance,
            credentials: self.token.map(OutsideCredentials::Token).or(basic),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn table(said: Value) -> RemoteCacheTable {
        serde_json::from_value(said).unwrap()
    }

    #[test]
    fn a_secret_never_goes_over_the_network_in_the_clear() {
        let is_wrong = |said: Value| table(said).problem().is_some();
        assert!(is_wrong(json!({ "url": "grpc://cache.example:9092", "token": "/token" })));
        assert!(!is_wrong(json!({ "url": "grpc://cache.example:9092" })));
        assert!(!is_wrong(json!({ "url": "grpc://127.0.0.1:9092", "basic": "/basic" })));
        assert!(!is_wrong(json!({ "url": "grpc://[::1]:9092", "token": "/token" })));
        assert!(!is_wrong(json!({ "url": "grpcs://cache.example:9092", "ca": "/ca", "token": "/token" })));
        assert!(
            is_wrong(json!({ "url": "grpcs://cache.example:9092", "token": "/token" })),
            "who signed it?"
        );
        assert!(is_wrong(json!({ "url": "grpcs://cache.example:9092", "ca": "/ca", "key": "/key" })));
        assert!(is_wrong(json!({ "url": "grpc://cache.example:9092", "ca": "/ca" })));
    }

    #[test]
    fn the_url_says_where_it_is_and_whether_it_is_secured() {
        let settings = |said: Value| table(said).settings().unwrap();
        let plain = settings(json!({ "url": "grpc://127.0.0.1:9092" }));
        assert_eq!((plain.address.as_str(), plain.tls.is_none()), ("127.0.0.1:9092", true));
        let secured = settings(json!({ "url": "grpcs://c.example:1", "ca": "/ca", "token": "/token" }));
        assert_eq!(secured.address, "c.example:1");
        assert!(
            matches!(secured.credentials, Some(OutsideCredentials::Token(path)) if path.as_os_str() == "/token")
        );
        assert_eq!(secured.tls.unwrap().authorities, PathBuf::from("/ca"));
    }
}
