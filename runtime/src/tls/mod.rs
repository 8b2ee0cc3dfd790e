//! Connections on which both ends know who the other is: TLS 1.3, ring, HTTP/2, SPIFFE ids instead of host names.
//!
//! One port serves everybody. A client's certificate is optional at this level, so that a newcomer can enroll; a
//! handler reads who is calling from [`PeerIdentity`] in the request's extensions. Sessions are never resumed: each
//! connection checks certificates anew, which is what makes short lives mean something.
//!
//! Not here: authorization, and any listener for HTTP/1 or TLS 1.2.

mod client;
mod crypto;
mod dial;
mod error;
mod foreign;
mod proxy;
mod server;
mod verify;

#[cfg(test)]
mod tests;

pub use client::{ChannelOptions, ClientTls, Profile, channel, enroll_channel, round_trip};
pub use crypto::install_crypto;
pub(crate) use dial::host_and_port;
pub use error::{BindError, ConnectError};
pub use foreign::{ForeignTls, foreign_channel};
pub use proxy::Proxies;
pub use server::{Connection, Incoming, Limits, Listener, PeerIdentity, server};
