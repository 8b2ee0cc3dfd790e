//! What can go wrong when listening and connecting.

use std::{error::Error as StdError, io};

/// Why a listener could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process listens there.
    #[error(
        "{addr} is already in use: stop the process that listens there (`ss -ltnp` names it), or set another address"
    )]
    InUse {
        /// The address that was asked for.
        addr: String,
    },
    /// The system refused for another reason.
    #[error("cannot listen on {addr}: {source}")]
    Io {
        /// The address that was asked for.
        addr: String,
        /// What the system said.
        source: io::Error,
    },
    /// The identity cannot serve.
    #[error("cannot serve with this identity: {0}")]
    Tls(String),
}

/// Why a connection could not be made. It is in the source chain of the `tonic::Status` that a call fails with: see
/// [`ConnectError::of`].
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is not `host:port`.
    #[error("{0:?} is not an address: expected host:port")]
    Address(String),
    /// Nobody answered there.
    #[error("cannot reach {target}: {source}")]
    Unreachable {
        /// Where to.
        target: String,
        /// What the system said.
        source: io::Error,
    },
    /// No answer in time.
    #[error("cannot reach {target}: no connection within {seconds} s")]
    TimedOut {
        /// Where to.
        target: String,
        /// The limit, in seconds.
        seconds: u64,
    },
    /// The proxy on the way refused or spoke nonsense.
    #[error("cannot reach {target}: proxy {proxy} {reason}")]
    Proxy {
        /// Where to.
        target: String,
        /// The proxy's address, without credentials.
        proxy: String,
        /// What happened.
        reason: String,
    },
    /// Somebody answered who is not the expected peer, or does not speak TLS.
    #[error("no trusted connection to {target}: {source}")]
    Untrusted {
        /// Where to.
        target: String,
        /// What the TLS layer said.
        source: io::Error,
    },
    /// The connection cannot be set up from this configuration.
    #[error("cannot connect with this configuration: {0}")]
    Configuration(String),
}

impl ConnectError {
    /// The connection error that made `error` happen, when there is one: gives a person the cause instead of a
    /// transport error.
    #[must_use]
    pub fn of<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            next = error.source();
        }
        None
    }
}
