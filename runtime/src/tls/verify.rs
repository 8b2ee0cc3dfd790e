//! Whom to believe: chains to the fleet's authority, and exactly the expected id.

use std::{fmt, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{WebPkiSupportedAlgorithms, ring, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use crate::identity::{Facts, Identity, IdentityError, Pin, SpiffeId, peer_id};

/// What a client trusts a server by.
#[derive(Debug)]
enum Anchor {
    Roots(RootCertStore),
    Pinned(Pin),
}

/// The part of a verifier that both ends have: signatures of TLS 1.3 by ring's algorithms, and none of TLS 1.2. A
/// macro, because rustls asks for it in each of its two traits.
macro_rules! signatures_of_tls13 {
    () => {
        fn verify_tls12_signature(
            &self,
            _message: &[u8],
            _cert: &CertificateDer<'_>,
            _dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(Error::General("only TLS 1.3 is spoken".into()))
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, cert, dss, &algorithms())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            algorithms().supported_schemes()
        }
    };
}

/// Checks servers: the chain ends at the anchor, and the leaf carries exactly the expected id. Host names play no part.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    anchor: Anchor,
    expected: SpiffeId,
}

impl ServerVerifier {
    pub(super) fn trusting(authority_der: &[u8], expected: SpiffeId) -> Result<Self, Error> {
        Ok(Self { anchor: Anchor::Roots(roots(authority_der)?), expected })
    }

    pub(super) fn pinned(pin: Pin, expected: SpiffeId) -> Self {
        Self { anchor: Anchor::Pinned(pin), expected }
    }
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    ring::default_provider().signature_verification_algorithms
}

fn roots(authority_der: &[u8]) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(authority_der.to_vec()))?;
    Ok(roots)
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let leaf = ParsedCertificate::try_from(end_entity)?;
        let check = |roots: &RootCertStore| {
            verify_server_cert_signed_by_trust_anchor(&leaf, roots, intermediates, now, algorithms().all)
        };
        match &self.anchor {
            Anchor::Roots(roots) => check(roots)?,
            Anchor::Pinned(pin) => check(&pinned_roots(intermediates, *pin)?)?,
        }
        let found = peer_id(end_entity).map_err(refused)?;
        if found != self.expected {
            return Err(refused(WrongPeer { expected: self.expected.clone(), found }));
        }
        Ok(ServerCertVerified::assertion())
    }

    signatures_of_tls13!();
}

/// The authority among the presented certificates whose key has the pin.
fn pinned_roots(presented: &[CertificateDer<'_>], pin: Pin) -> Result<RootCertStore, Error> {
    let is_pinned =
        |der: &&CertificateDer<'_>| Facts::read(der).is_ok_and(|facts| facts.is_ca && facts.pin == pin);
    presented.iter().find(is_pinned).map_or_else(|| Err(refused(NotPinned)), |der| roots(der))
}

/// Checks clients that present a certificate: it chains to the authority, is no authority itself, and carries
/// exactly one id, of this fleet.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    fleet: String,
}

impl ClientVerifier {
    pub(super) fn new(identity: &Identity) -> Result<Self, String> {
        let roots = roots(identity.authority_der()).map_err(|error| error.to_string())?;
        let chain =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()))
                .allow_unauthenticated()
                .build()
                .map_err(|error| error.to_string())?;
        Ok(Self { chain, fleet: identity.id().fleet().to_owned() })
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        let id = peer_id(end_entity).map_err(refused)?;
        if id.fleet() != self.fleet {
            return Err(refused(IdentityError::Certificate(format!("{id} is of another fleet"))));
        }
        Ok(verified)
    }

    signatures_of_tls13!();
}

#[derive(Debug, thiserror::Error)]
#[error("the server is {found}, not {expected}")]
struct WrongPeer {
    expected: SpiffeId,
    found: SpiffeId,
}

#[derive(Debug, thiserror::Error)]
#[error("the server does not show the authority that the join token pins")]
struct NotPinned;

/// A refusal whose reason a person can read in the error's text.
fn refused(reason: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Readable(reason)))))
}

/// rustls prints refusals in their debug form; this makes that form the sentence itself.
struct Readable<E>(E);

impl<E: fmt::Display> fmt::Debug for Readable<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl<E: fmt::Display> fmt::Display for Readable<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl<E: fmt::Display> std::error::Error for Readable<E> {}
