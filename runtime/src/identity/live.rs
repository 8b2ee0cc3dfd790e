//! An identity that is renewed while connections are being made.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{
    SignatureScheme,
    client::ResolvesClientCert,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{Identity, IdentityError};

/// A handle to the identity a process shows now. Clones share it: after [`replace`](Self::replace) every new handshake uses
/// the new certificate, while connections that stand keep theirs.
#[derive(Clone)]
pub struct LiveIdentity(Arc<ArcSwap<Presented>>);

struct Presented {
    identity: Identity,
    as_client: Arc<CertifiedKey>,
    as_server: Arc<CertifiedKey>,
}

impl Presented {
    fn new(identity: Identity) -> Result<Self, IdentityError> {
        Ok(Self {
            as_client: Arc::new(identity.certified_key(false)?),
            as_server: Arc::new(identity.certified_key(true)?),
            identity,
        })
    }
}

impl LiveIdentity {
    /// Starts with `identity`.
    ///
    /// # Errors
    /// When the key cannot be used.
    pub fn new(identity: Identity) -> Result<Self, IdentityError> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(Presented::new(identity)?))))
    }

    /// Shows `identity` from now on.
    ///
    /// # Errors
    /// When it is another id or another authority's, or its key cannot be used; the old one then stays.
    pub fn replace(&self, identity: Identity) -> Result<(), IdentityError> {
        let current = self.0.load();
        if current.identity.id() != identity.id()
            || current.identity.authority_der() != identity.authority_der()
        {
            return Err(IdentityError::Certificate(format!(
                "{} cannot become {} or change its authority without a restart",
                current.identity.id(),
                identity.id()
            )));
        }
        self.0.store(Arc::new(Presented::new(identity)?));
        Ok(())
    }

    /// The identity as it is now.
    #[must_use]
    pub fn current(&self) -> Identity {
        self.0.load().identity.clone()
    }
}

impl fmt::Debug for LiveIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LiveIdentity({})", self.0.load().identity.id())
    }
}

impl ResolvesServerCert for LiveIdentity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().as_server))
    }
}

impl ResolvesClientCert for LiveIdentity {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().as_client))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
