//! One connection attempt: TCP, a proxy when one is configured, then TLS, each under a deadline.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::Uri;

use super::{
    ConnectError, Proxies,
    proxy::{Proxy, encode_basic},
};

/// For the TCP connection, name look-up and the proxy's answer included.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// For the TLS handshake after it.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(5);
/// Longest answer a proxy may give to CONNECT, in bytes.
const PROXY_HEAD_LEN_MAX: usize = 8 * 1024;

/// `host:port`, the host without brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

impl Address {
    pub(super) fn parse(text: &str) -> Result<Self, ConnectError> {
        let refused = || ConnectError::Address(text.chars().take(200).collect());
        let (host, port) = host_and_port(text).map_err(|_| refused())?;
        if port == 0 {
            return Err(refused());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

/// The host, without brackets, and the port of `HOST:PORT`, or what is wrong with the text.
pub(crate) fn host_and_port(text: &str) -> Result<(&str, u16), &'static str> {
    let (host, port) = text.rsplit_once(':').ok_or("it has no port")?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let plain = !host.is_empty()
        && !host.contains(|c: char| matches!(c, ':' | '[' | ']' | '/' | '@') || c.is_whitespace());
    let host = bare
        .or(plain.then_some(host))
        .ok_or("its host is not a name or an address; an IPv6 address stands in brackets")?;
    let port = port.parse().map_err(|_| "its port is not a number up to 65535")?;
    Ok((host, port))
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Makes connections to one address; tonic calls it whenever it needs a new one.
#[derive(Clone)]
pub(super) struct Dialler {
    address: Arc<Address>,
    proxy: Option<Arc<Proxy>>,
    tls: Arc<ClientConfig>,
}

impl Dialler {
    pub(super) fn new(address: Address, tls: Arc<ClientConfig>, proxies: &Proxies) -> Self {
        let proxy = proxies.of(&address.host, address.port);
        Self { address: Arc::new(address), proxy, tls }
    }

    async fn dial(self) -> Result<TokioIo<TlsStream<TcpStream>>, ConnectError> {
        let (tls, _) = self.shake_hands().await?;
        Ok(TokioIo::new(tls))
    }

    /// Connects, and says how long the handshake took once there was a connection.
    pub(super) async fn shake_hands(&self) -> Result<(TlsStream<TcpStream>, Duration), ConnectError> {
        let target = self.address.to_string();
        let timed_out =
            |limit: Duration| ConnectError::TimedOut { target: target.clone(), seconds: limit.as_secs() };
        let tcp = async {
            match &self.proxy {
                None => direct(&self.address, &target).await,
                Some(proxy) => through(proxy, &target).await,
            }
        };
        let tcp =
            tokio::time::timeout(CONNECT_TIME_MAX, tcp).await.map_err(|_| timed_out(CONNECT_TIME_MAX))??;
        // The name is only a hint for routers on the way; the verifier looks at the id.
        let name = ServerName::try_from(self.address.host.clone())
            .or_else(|_| ServerName::try_from("meridian.invalid"))
            .map_err(|error| ConnectError::Configuration(error.to_string()))?;
        let began = Instant::now();
        let tls = TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp);
        let tls =
            tokio::time::timeout(HANDSHAKE_TIME_MAX, tls).await.map_err(|_| timed_out(HANDSHAKE_TIME_MAX))?;
        let tls = tls.map_err(|source| ConnectError::Untrusted { target: target.clone(), source })?;
        Ok((tls, began.elapsed()))
    }
}

async fn direct(address: &Address, target: &str) -> Result<TcpStream, ConnectError> {
    let tcp = async {
        let tcp = TcpStream::connect((address.host.as_str(), address.port)).await?;
        tcp.set_nodelay(true)?;
        Ok(tcp)
    };
    tcp.await.map_err(|source| ConnectError::Unreachable { target: target.to_owned(), source })
}

async fn through(proxy: &Proxy, target: &str) -> Result<TcpStream, ConnectError> {
    let failed = |reason: String| ConnectError::Proxy {
        target: target.to_owned(),
        proxy: proxy.address.to_string(),
        reason,
    };
    let mut tcp = direct(&proxy.address, target)
        .await
        .map_err(|error| failed(format!("cannot be reached: {error}")))?;
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    if let Some(credentials) = &proxy.credentials {
        request.push_str(&format!("Proxy-Authorization: Basic {}\r\n", encode_basic(credentials)));
    }
    request.push_str("\r\n");
    let head = async {
        tcp.write_all(request.as_bytes()).await?;
        read_head(&mut tcp).await
    };
    let head = head.await.map_err(|error| failed(format!("broke off: {error}")))?;
    let status = head.lines().next().unwrap_or_default();
    let code = status.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1));
    match code {
        Some(code) if code.len() == 3 && code.starts_with('2') => Ok(tcp),
        _ => Err(failed(format!("refused: {:?}", status.chars().take(120).collect::<String>()))),
    }
}

/// Reads up to and with the empty line, not one byte further: what follows is TLS.
async fn read_head(tcp: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == PROXY_HEAD_LEN_MAX {
            return Err(io::Error::other("its answer is longer than 8 KiB"));
        }
        head.push(tcp.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

impl tower::Service<Uri> for Dialler {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Self::Future {
        Box::pin(self.clone().dial())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        for (text, host, port) in
            [("a.example:443", "a.example", 443), ("[::1]:80", "::1", 80), ("127.0.0.1:9", "127.0.0.1", 9)]
        {
            let address = Address::parse(text).unwrap();
            assert_eq!((address.host.as_str(), address.port), (host, port));
            assert_eq!(address.to_string(), text);
        }
        for text in ["", "a", ":1", "a:", "a:0", "a:65536", "::1:80", "http://a:1", "a b:1", "u@a:1"] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }
}
