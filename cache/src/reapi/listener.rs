//! A port for stock clients. They know neither the fleet's certificates nor TLS 1.3 alone, so they do not come in by
//! the fleet's own port.
//!
//! Without certificates it listens on this machine alone, where a token cannot be read off the wire.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::{ServerConfig, crypto::ring, version};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Server, server::Connected};

use super::server::Reapi;

/// How long a client may take to shake hands.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// Most connections at once. Each may have a window's worth of bytes here that nobody has looked at yet.
const CONNECTIONS_MAX: usize = 256;

/// How long it waits after it could not accept, so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Certificate and key files in PEM.
#[derive(Debug, Clone)]
pub struct StockTls {
    /// The chain, the server's own certificate first.
    pub certificates: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why the port for stock clients was not opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// It would be open to the network without TLS.
    #[error("{addr} is not of this machine alone: name certificate and key, or listen on a loopback address")]
    Exposed {
        /// Where it should have listened.
        addr: SocketAddr,
    },
    /// The address cannot be had.
    #[error("cannot listen on {addr}: {source}")]
    Bind {
        /// Which.
        addr: SocketAddr,
        /// The system's words.
        source: io::Error,
    },
    /// Certificate or key are not usable.
    #[error("cannot serve with {path}: {why}", path = path.display())]
    Tls {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// A port for stock clients.
pub struct StockListener {
    tcp: TcpListener,
    addr: SocketAddr,
    tls: Option<TlsAcceptor>,
}

impl StockListener {
    /// Listens on `addr`, with TLS 1.2 and 1.3 where certificates are given. Without them `addr` must be a loopback
    /// address.
    ///
    /// # Errors
    /// As [`ListenError`] says.
    pub async fn bind(addr: SocketAddr, tls: Option<&StockTls>) -> Result<Self, ListenError> {
        let tls = secured(addr, tls)?;
        let failed = |source| ListenError::Bind { addr, source };
        let tcp = TcpListener::bind(addr).await.map_err(failed)?;
        let addr = tcp.local_addr().map_err(failed)?;
        Ok(Self { tcp, addr, tls })
    }

    /// Whether it could be bound, without keeping the port.
    ///
    /// # Errors
    /// As [`ListenError`] says.
    pub fn check(addr: SocketAddr, tls: Option<&StockTls>) -> Result<(), ListenError> {
        secured(addr, tls)?;
        std::net::TcpListener::bind(addr).map(drop).map_err(|source| ListenError::Bind { addr, source })
    }

    /// Where it listens: the real port where 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until `stop` is done.
    ///
    /// # Errors
    /// When the transport fails as a whole.
    pub async fn serve(
        self,
        reapi: &Reapi,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<(), tonic::transport::Error> {
        let (ready, connections) = mpsc::channel(16);
        let accepting = tokio::spawn(self.accept(ready));
        let served = tuned_server()
            .add_routes(reapi.routes())
            .serve_with_incoming_shutdown(ReceiverStream::new(connections), stop)
            .await;
        accepting.abort();
        served
    }

    async fn accept(self, ready: mpsc::Sender<io::Result<Connection>>) {
        let open = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut handshakes = JoinSet::new();
        loop {
            while handshakes.try_join_next().is_some() {}
            // The semaphore is never closed, so this only waits.
            let Ok(slot) = Arc::clone(&open).acquire_owned().await else { return };
            let (tcp, addr) = match self.tcp.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (tls, ready) = (self.tls.clone(), ready.clone());
            handshakes.spawn(async move {
                match timeout(HANDSHAKE_MAX, shake(tls, tcp)).await {
                    // Nobody takes it when the server has stopped.
                    Ok(Ok(bytes)) => drop(ready.send(Ok(Connection { bytes, _slot: slot })).await),
                    Ok(Err(error)) => tracing::debug!(%addr, %error, "handshake failed"),
                    Err(_) => tracing::debug!(%addr, "handshake took too long"),
                }
            });
        }
    }
}

/// A tonic server tuned for blobs: wide windows, large frames, and pings that find dead peers.
#[must_use]
pub fn tuned_server() -> Server {
    Server::builder()
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(16 << 20)
        .max_frame_size(256 << 10)
        .max_concurrent_streams(512)
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
}

/// What secures a port at this address; nothing where nobody else can listen in.
fn secured(addr: SocketAddr, tls: Option<&StockTls>) -> Result<Option<TlsAcceptor>, ListenError> {
    if tls.is_none() && !addr.ip().is_loopback() {
        return Err(ListenError::Exposed { addr });
    }
    tls.map(acceptor).transpose()
}

async fn shake(tls: Option<TlsAcceptor>, tcp: TcpStream) -> io::Result<Transport> {
    tcp.set_nodelay(true)?;
    Ok(match tls {
        Some(acceptor) => Transport::Tls(Box::new(acceptor.accept(tcp).await?)),
        None => Transport::Plain(tcp),
    })
}

fn acceptor(files: &StockTls) -> Result<TlsAcceptor, ListenError> {
    let told = |path: &PathBuf| {
        let path = path.clone();
        move |why: String| ListenError::Tls { path, why }
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&files.certificates)
        .map_err(|error| told(&files.certificates)(error.to_string()))?
        .collect();
    let chain = chain.map_err(|error| told(&files.certificates)(error.to_string()))?;
    let key =
        PrivateKeyDer::from_pem_file(&files.key).map_err(|error| told(&files.key)(error.to_string()))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key));
    let mut config = config.map_err(|error| told(&files.certificates)(error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection whose handshake is done.
struct Connection {
    bytes: Transport,
    _slot: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.bytes {
            Transport::Plain(tcp) => Pin::new(tcp).poll_read(context, buffer),
            Transport::Tls(tls) => Pin::new(tls).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.bytes {
            Transport::Plain(tcp) => Pin::new(tcp).poll_write(context, buffer),
            Transport::Tls(tls) => Pin::new(tls).poll_write(context, buffer),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.bytes {
            Transport::Plain(tcp) => Pin::new(tcp).poll_write_vectored(context, buffers),
            Transport::Tls(tls) => Pin::new(tls).poll_write_vectored(context, buffers),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.bytes {
            Transport::Plain(tcp) => tcp.is_write_vectored(),
            Transport::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.bytes {
            Transport::Plain(tcp) => Pin::new(tcp).poll_flush(context),
            Transport::Tls(tls) => Pin::new(tls).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.bytes {
            Transport::Plain(tcp) => Pin::new(tcp).poll_shutdown(context),
            Transport::Tls(tls) => Pin::new(tls).poll_shutdown(context),
        }
    }
}
