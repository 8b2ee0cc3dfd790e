//! Which HTTP proxy to dial through, as `HTTPS_PROXY` and `NO_PROXY` say.

use std::{fmt, net::IpAddr, sync::Arc};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::dial::Address;

/// One proxy that tunnels by CONNECT.
pub(super) struct Proxy {
    pub(super) address: Address,
    /// `user:password`, decoded.
    pub(super) credentials: Option<String>,
}

/// The proxy to use, and the hosts that are reached without it. The default is none.
///
/// Only plain `http://` proxies are spoken to: what travels through is TLS end to end anyway. Loopback addresses are always reached
/// directly.
#[derive(Clone, Default)]
pub struct Proxies {
    proxy: Option<Arc<Proxy>>,
    direct: Arc<[String]>,
}

impl Proxies {
    /// Dials everything directly.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Reads `HTTPS_PROXY` and `NO_PROXY`, or their lower-case forms. A proxy that cannot be used is logged and not used.
    #[must_use]
    pub fn from_env() -> Self {
        let read = |upper: &str, lower: &str| {
            [upper, lower].iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
        };
        let Some(url) = read("HTTPS_PROXY", "https_proxy") else { return Self::none() };
        let direct = read("NO_PROXY", "no_proxy").unwrap_or_default();
        Self::new(&url, &direct).unwrap_or_else(|reason| {
            tracing::warn!(reason, "HTTPS_PROXY is not used");
            Self::none()
        })
    }

    /// A proxy given as `http://[user:password@]host:port`, and a comma-separated list of hosts to reach directly: names
    /// (with all below them), addresses, networks such as `10.0.0.0/8`, or `*`.
    ///
    /// # Errors
    /// What is wrong with the proxy, without its credentials.
    pub fn new(proxy_url: &str, no_proxy: &str) -> Result<Self, String> {
        let rest = match proxy_url.split_once("://") {
            None => proxy_url,
            Some(("http", rest)) => rest,
            Some((scheme, _)) => {
                return Err(format!("proxies of scheme {scheme:?} are not supported, only http"));
            }
        };
        let rest = rest.trim_end_matches('/');
        let (credentials, host) = match rest.rsplit_once('@') {
            Some((credentials, host)) => (Some(percent_decode(credentials)), host),
            None => (None, rest),
        };
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
        let host = if has_port { host.to_owned() } else { format!("{host}:80") };
        let address = Address::parse(&host).map_err(|error| error.to_string())?;
        let direct = no_proxy.split(',').map(|entry| entry.trim().to_ascii_lowercase());
        Ok(Self {
            proxy: Some(Arc::new(Proxy { address, credentials })),
            direct: direct.filter(|entry| !entry.is_empty()).collect(),
        })
    }

    /// The proxy for this host, if it is to be reached through one.
    pub(super) fn of(&self, host: &str, port: u16) -> Option<Arc<Proxy>> {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let addr: Option<IpAddr> = host.parse().ok();
        let loopback = host == "localhost" || addr.is_some_and(|addr| addr.is_loopback());
        if loopback || self.direct.iter().any(|entry| matches(entry, &host, addr, port)) {
            return None;
        }
        self.proxy.clone()
    }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The credentials stay out of it.
        let proxy = self.proxy.as_ref().map(|proxy| proxy.address.to_string());
        f.debug_struct("Proxies").field("proxy", &proxy).field("direct", &self.direct).finish()
    }
}

fn matches(entry: &str, host: &str, addr: Option<IpAddr>, port: u16) -> bool {
    if entry == "*" {
        return true;
    }
    if let Some((network, bits)) = entry.split_once('/') {
        let network = network.parse().ok().zip(bits.parse().ok());
        return addr.zip(network).is_some_and(|(addr, (network, bits))| within(addr, network, bits));
    }
    if let Some(addr) = addr {
        return entry.trim_matches(['[', ']']).parse() == Ok(addr)
            || entry == Address { host: host.to_owned(), port }.to_string();
    }
    let (name, same_port) = match entry.rsplit_once(':') {
        Some((name, wanted)) => (name, wanted.parse() == Ok(port)),
        None => (entry, true),
    };
    let name = name.trim_start_matches("*.").trim_start_matches('.');
    same_port && (host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')))
}

fn within(addr: IpAddr, network: IpAddr, bits: u32) -> bool {
    match (addr, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) if bits <= 32 => {
            (a.to_bits() ^ n.to_bits()).checked_shr(32 - bits).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(n)) if bits <= 128 => {
            (a.to_bits() ^ n.to_bits()).checked_shr(128 - bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// The value of a `Basic` authorization header.
pub(super) fn encode_basic(credentials: &str) -> String {
    STANDARD.encode(credentials)
}

fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let pair = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_used_except_for_the_hosts_that_are_named() {
        let no_proxy = "Corp.example, 10.0.0.0/8,192.0.2.1,only.example:8443,.dotted.example,[2001:db8::1]";
        let proxies = Proxies::new("http://u%40x:p@proxy.example:3128/", no_proxy).unwrap();
        let proxy = proxies.of("far.example", 443).unwrap();
        assert_eq!(proxy.address.to_string(), "proxy.example:3128");
        assert_eq!(proxy.credentials.as_deref(), Some("u@x:p"));
        for (host, port, through) in [
            ("corp.example", 1, false),
            ("a.corp.example.", 1, false),
            ("notcorp.example", 1, true),
            ("10.9.8.7", 1, false),
            ("11.0.0.1", 1, true),
            ("192.0.2.1", 1, false),
            ("2001:db8::1", 1, false),
            ("only.example", 8443, false),
            ("only.example", 443, true),
            ("x.dotted.example", 1, false),
            ("localhost", 1, false),
            ("127.8.0.1", 1, false),
            ("::1", 1, false),
        ] {
            assert_eq!(proxies.of(host, port).is_some(), through, "{host}:{port}");
        }
        assert!(Proxies::new("http://proxy", "*").unwrap().of("far.example", 443).is_none());
        assert!(!format!("{proxies:?}").contains("u@x"));
    }

    proptest::proptest! {
        #[test]
        fn no_variables_make_it_panic(url in "\\PC{0,40}", list in "[a-z0-9.:/,*\\[\\]é%-]{0,40}", host in "\\PC{0,20}", port: u16) {
            if let Ok(proxies) = Proxies::new(&url, &list) {
                let _ = proxies.of(&host, port);
            }
            let _ = Proxies::new("http://p", &list).unwrap().of(&host, port);
            if let Ok(address) = Address::parse(&url) {
                proptest::prop_assert_eq!(Address::parse(&address.to_string()).unwrap(), address);
            }
        }
    }

    #[test]
    fn what_cannot_be_a_proxy_is_refused_without_its_password() {
        for url in ["https://p:1", "socks5://p:1", "http://", "http://me:secret@:80"] {
            let reason = Proxies::new(url, "").unwrap_err();
            assert!(!reason.contains("secret"), "{reason}");
        }
    }
}
