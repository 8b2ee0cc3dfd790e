//! The listening end.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::{ServerConfig, crypto::ring, version::TLS13};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::AbortHandle,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::Stream;
use tonic::transport::server::Connected;

use super::{BindError, client::Tuning, verify::ClientVerifier};
use crate::identity::{LiveIdentity, SpiffeId, peer_id};

/// How long to wait after the system could not accept, for example because no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Finished handshakes that wait to be served.
const READY_MAX: usize = 64;

/// Who is at the other end of a connection. It stands in the extensions of every request that came over a
/// [`Listener`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The id in the client's certificate; `None` when it showed none.
    pub id: Option<SpiffeId>,
    /// Where it connected from; a relay's or proxy's address when there is one.
    pub addr: SocketAddr,
}

/// Bounds on what strangers can make a listener hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Handshakes in flight at once; further connections wait in the system's backlog.
    pub handshakes_max: usize,
    /// Open connections at once, handshakes included; further ones wait in the system's backlog.
    pub connections_max: usize,
    /// A handshake that takes longer is cut off.
    pub handshake_time_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { handshakes_max: 256, connections_max: 8192, handshake_time_max: Duration::from_secs(10) }
    }
}

/// A bound port that speaks TLS with a live identity.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    local_addr: SocketAddr,
    acceptor: Acceptor,
    limits: Limits,
}

#[derive(Clone)]
struct Acceptor(TlsAcceptor);

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Acceptor")
    }
}

impl Listener {
    /// Listens on `addr` (`host:port`; port 0 picks a free one) with the default [`Limits`].
    ///
    /// # Errors
    /// When the address is taken or not ours, or the identity cannot serve.
    pub async fn bind(addr: &str, identity: LiveIdentity) -> Result<Self, BindError> {
        let io = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse { addr: addr.to_owned() },
            _ => BindError::Io { addr: addr.to_owned(), source },
        };
        let tcp = TcpListener::bind(addr).await.map_err(io)?;
        let local_addr = tcp.local_addr().map_err(io)?;
        let config = server_config(identity).map_err(BindError::Tls)?;
        let acceptor = Acceptor(TlsAcceptor::from(Arc::new(config)));
        Ok(Self { tcp, local_addr, acceptor, limits: Limits::default() })
    }

    /// The same listener under other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Where it listens: the real port when port 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Starts accepting; the stream is for tonic's `serve_with_incoming`. Dropping it closes the port and cuts
    /// off handshakes in flight. Must be called within a tokio runtime.
    #[must_use]
    pub fn incoming(self) -> Incoming {
        let (ready, connections) = mpsc::channel(READY_MAX);
        let task = tokio::spawn(self.accept(ready));
        Incoming { connections, task: task.abort_handle() }
    }

    async fn accept(self, ready: mpsc::Sender<Connection>) {
        let handshakes = Arc::new(Semaphore::new(self.limits.handshakes_max));
        let open = Arc::new(Semaphore::new(self.limits.connections_max));
        let mut tasks = tokio::task::JoinSet::new();
        loop {
            while tasks.try_join_next().is_some() {}
            // Neither semaphore is ever closed, so this only waits.
            let Ok(slot) = Arc::clone(&open).acquire_owned().await else { return };
            let Ok(handshake) = Arc::clone(&handshakes).acquire_owned().await else { return };
            let (tcp, addr) = match self.tcp.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (acceptor, ready, limits) = (self.acceptor.clone(), ready.clone(), self.limits);
            tasks.spawn(async move {
                let tls = tokio::time::timeout(limits.handshake_time_max, shake(&acceptor.0, tcp));
                let outcome = match tls.await {
                    Ok(outcome) => outcome,
                    Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut)),
                };
                match outcome {
                    Ok((tls, id)) => {
                        let peer = PeerIdentity { id, addr };
                        // Nobody takes it when the server has stopped.
                        let _ = ready.send(Connection { tls, peer, _slot: slot }).await;
                    }
                    Err(error) => tracing::debug!(%addr, %error, "handshake failed"),
                }
                drop(handshake);
            });
        }
    }
}

async fn shake(
    acceptor: &TlsAcceptor,
    tcp: TcpStream,
) -> io::Result<(Box<TlsStream<TcpStream>>, Option<SpiffeId>)> {
    tcp.set_nodelay(true)?;
    let tls = acceptor.accept(tcp).await?;
    let presented = tls.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let id = presented.map(|leaf| peer_id(leaf)).transpose().map_err(io::Error::other)?;
    Ok((Box::new(tls), id))
}

fn server_config(identity: LiveIdentity) -> Result<ServerConfig, String> {
    let verifier = ClientVerifier::new(&identity.current())?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| error.to_string())?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(identity));
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would skip the check of a certificate that has run out since.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Ok(config)
}

/// A tonic server tuned as the channels of this crate are: wide windows, 256 KiB frames, keep-alive pings that find dead peers.
#[must_use]
pub fn server() -> tonic::transport::Server {
    let tuning = Tuning::SERVER;
    tonic::transport::Server::builder()
        .initial_stream_window_size(tuning.stream_window)
        .initial_connection_window_size(tuning.connection_window)
        .max_frame_size(tuning.frame_max)
        .max_concurrent_streams(1024)
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
}

/// Accepted connections, as `serve_with_incoming` takes them.
#[derive(Debug)]
pub struct Incoming {
    connections: mpsc::Receiver<Connection>,
    task: AbortHandle,
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.connections.poll_recv(context).map(|connection| connection.map(Ok))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection whose handshake is done.
#[derive(Debug)]
pub struct Connection {
    tls: Box<TlsStream<TcpStream>>,
    peer: PeerIdentity,
    _slot: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = PeerIdentity;

    fn connect_info(&self) -> PeerIdentity {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }
}
