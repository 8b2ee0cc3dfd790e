//! The dialling end.

use std::{sync::Arc, time::Duration};

use rustls::{ClientConfig, client::Resumption, crypto::ring, version::TLS13};
use tonic::transport::{Channel, Endpoint, Uri};

use super::{
    ConnectError, Proxies,
    dial::{Address, Dialler},
    verify::ServerVerifier,
};
use crate::identity::{LiveIdentity, Pin, SpiffeId};

/// Pings keep middle boxes from forgetting an idle connection, and find a dead one.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// What a client trusts and who it says it is.
#[derive(Debug, Clone)]
pub struct ClientTls {
    /// The fleet's authority, DER: the server must chain to it.
    pub authority: Vec<u8>,
    /// What this process shows; `None` connects as nobody.
    pub identity: Option<LiveIdentity>,
    /// The one id the server must have.
    pub server: SpiffeId,
}

/// What a channel is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// Orders, reports and questions: small windows, little memory.
    #[default]
    Control,
    /// Blobs and logs: wide windows and frames, for long ways at full speed.
    Bulk,
}

/// How a channel connects.
#[derive(Debug, Clone, Default)]
pub struct ChannelOptions {
    /// What it is for.
    pub profile: Profile,
    /// Proxies to dial through; [`Proxies::from_env`] reads the usual variables.
    pub proxies: Proxies,
}

impl ChannelOptions {
    /// For `profile`, through the proxies that the environment names.
    #[must_use]
    pub fn from_env(profile: Profile) -> Self {
        Self { profile, proxies: Proxies::from_env() }
    }
}

/// HTTP/2 numbers, in bytes.
///
/// A connection's window is wider than a stream's: what one call is sent and does not read yet holds up no other call on
/// its connection. So much of each connection may be in memory before anybody has looked at it.
pub(super) struct Tuning {
    pub(super) stream_window: u32,
    pub(super) connection_window: u32,
    pub(super) frame_max: u32,
}

impl Tuning {
    /// Measured: with TLS such frames double what the defaults reach on one machine. On a long way a window is all that
    /// a round trip can bring: this one is a gigabit a second at a quarter of a second. The other end hears of what was read
    /// when it is half of it, so for a reader that is always behind it is that at an eighth.
    const BULK: Self = Self { stream_window: 32 << 20, connection_window: 40 << 20, frame_max: 256 << 10 };
    const CONTROL: Self = Self { stream_window: 256 << 10, connection_window: 1 << 20, frame_max: 16 << 10 };
    /// What a server takes in: much from many, who are seldom far away.
    pub(super) const SERVER: Self =
        Self { stream_window: 8 << 20, connection_window: 16 << 20, frame_max: 256 << 10 };
}

impl Profile {
    /// Gives an endpoint the numbers of HTTP/2 that this profile's channels have.
    #[must_use]
    pub fn tune(self, endpoint: Endpoint) -> Endpoint {
        let tuning = match self {
            Self::Control => Tuning::CONTROL,
            Self::Bulk => Tuning::BULK,
        };
        endpoint
            .initial_stream_window_size(tuning.stream_window)
            .initial_connection_window_size(tuning.connection_window)
            .max_frame_size(tuning.frame_max)
    }
}

/// A channel to the server `tls.server` at `target` (`host:port`). It connects at the first call and again
/// after every loss; what was wrong stands in the failed call's source chain ([`ConnectError::of`]). Must be called
/// within a tokio runtime.
///
/// # Errors
/// When `target` is not an address or the authority is not a certificate.
pub fn channel(target: &str, tls: ClientTls, options: &ChannelOptions) -> Result<Channel, ConnectError> {
    let verifier = ServerVerifier::trusting(&tls.authority, tls.server).map_err(configuration)?;
    connect(target, verifier, tls.identity, options)
}

/// A channel for a newcomer who has no identity and knows the authority only by its pin: the server must show a
/// chain that ends at an authority with that pin, and be `server`.
///
/// # Errors
/// When `target` is not an address.
pub fn enroll_channel(
    target: &str,
    pin: Pin,
    server: SpiffeId,
    options: &ChannelOptions,
) -> Result<Channel, ConnectError> {
    connect(target, ServerVerifier::pinned(pin, server), None, options)
}

/// How long the way to the server `tls.server` at `target` (`host:port`) is: a connection is made and given up again, and what
/// is measured is its TLS handshake, which is one round trip and proves who answered. Other than a connection of TCP alone
/// that cannot be answered by a proxy in between.
///
/// # Errors
/// When the server cannot be reached, or is another one.
pub async fn round_trip(
    target: &str,
    tls: ClientTls,
    options: &ChannelOptions,
) -> Result<Duration, ConnectError> {
    let verifier = ServerVerifier::trusting(&tls.authority, tls.server).map_err(configuration)?;
    let config = client_config(verifier, tls.identity).map_err(configuration)?;
    let dialler = Dialler::new(Address::parse(target)?, Arc::new(config), &options.proxies);
    dialler.shake_hands().await.map(|(_, took)| took)
}

fn connect(
    target: &str,
    verifier: ServerVerifier,
    identity: Option<LiveIdentity>,
    options: &ChannelOptions,
) -> Result<Channel, ConnectError> {
    let address = Address::parse(target)?;
    let config = client_config(verifier, identity).map_err(configuration)?;
    let dialler = Dialler::new(address, Arc::new(config), &options.proxies);
    // The connector does TLS itself, so tonic must see a plain scheme; peers are told the true one.
    let uri = |scheme| Uri::builder().scheme(scheme).authority(target).path_and_query("/").build();
    let endpoint = Endpoint::from(uri("http").map_err(configuration)?);
    let endpoint = options
        .profile
        .tune(endpoint)
        .origin(uri("https").map_err(configuration)?)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true);
    Ok(endpoint.connect_with_connector_lazy(dialler))
}

fn client_config(
    verifier: ServerVerifier,
    identity: Option<LiveIdentity>,
) -> Result<ClientConfig, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(identity)),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn configuration(error: impl std::fmt::Display) -> ConnectError {
    ConnectError::Configuration(error.to_string())
}
