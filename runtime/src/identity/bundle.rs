//! A process's own identity: private key, certificate chain and the authority that vouches for it.

use std::{
    fmt::{self, Write as _},
    path::Path,
    time::SystemTime,
};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::{RootCertStore, crypto::ring, pki_types::UnixTime, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject};

use super::{Facts, IdentityError, Pin, SpiffeId, authority::crypto, peer_id, spki_pin};
use crate::secret_file;

const FILE: &str = "identity.pem";
/// Longest chain that is accepted, in certificates.
const CHAIN_LEN_MAX: usize = 4;

/// A private key in PKCS#8 form. Its debug form shows nothing.
pub struct PrivateKey(PrivatePkcs8KeyDer<'static>);

impl Clone for PrivateKey {
    fn clone(&self) -> Self {
        Self(self.0.clone_key())
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

/// Makes an ECDSA P-256 key and a certificate request for it, DER, that names nothing: the authority decides the
/// names.
///
/// # Errors
/// When the system gives no randomness.
pub fn new_key_and_csr() -> Result<(PrivateKey, Vec<u8>), IdentityError> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(crypto)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let csr = params.serialize_request(&key).map_err(crypto)?;
    Ok((PrivateKey(key.into()), csr.der().to_vec()))
}

/// What a process shows to prove who it is, checked to be of one piece.
///
/// On disk it is one file, `identity.pem` with mode 0600, replaced in one step: a renewal that is cut short leaves the old
/// identity whole.
#[derive(Clone)]
pub struct Identity {
    id: SpiffeId,
    key: PrivateKey,
    chain: Vec<CertificateDer<'static>>,
    authority: CertificateDer<'static>,
    authority_pin: Pin,
    not_before: SystemTime,
    not_after: SystemTime,
}

impl Identity {
    /// Puts an identity together from a key, the DER chain that was issued for it (leaf first) and the
    /// authority's DER certificate.
    ///
    /// An identity that has run out is accepted here, so that it can still be read and renewed.
    ///
    /// # Errors
    /// When the leaf is not for this key, does not carry exactly one SPIFFE id, or does not chain to the authority.
    pub fn new(key: PrivateKey, chain: &[Vec<u8>], authority: &[u8]) -> Result<Self, IdentityError> {
        let [leaf, ..] = chain else {
            return Err(IdentityError::Certificate("the chain is empty".into()));
        };
        if chain.len() > CHAIN_LEN_MAX {
            return Err(IdentityError::Certificate("the chain is longer than 4 certificates".into()));
        }
        let facts = Facts::read(leaf)?;
        let id = peer_id(leaf)?;
        let identity = Self {
            id,
            key,
            chain: chain.iter().map(|der| CertificateDer::from(der.clone())).collect(),
            authority: CertificateDer::from(authority.to_vec()),
            authority_pin: spki_pin(authority)?,
            not_before: facts.not_before,
            not_after: facts.not_after,
        };
        identity.certified_key(false)?;
        identity.check_chain()?;
        Ok(identity)
    }

    fn check_chain(&self) -> Result<(), IdentityError> {
        let refused = |error: rustls::Error| IdentityError::Certificate(error.to_string());
        let since = self.not_before.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let leaf = rustls::server::ParsedCertificate::try_from(&self.chain[0]).map_err(refused)?;
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &leaf,
            &self.roots()?,
            &self.chain[1..],
            // Whether it has begun or run out is the peers' judgement, at the time of each handshake.
            UnixTime::since_unix_epoch(since + std::time::Duration::from_secs(1)),
            ring::default_provider().signature_verification_algorithms.all,
        )
        .map_err(refused)
    }

    /// Reads the identity that [`save`](Self::save) wrote to `dir`; `None` when there is none.
    ///
    /// # Errors
    /// When the file cannot be read, is damaged, or can be read by other users.
    pub fn load(dir: &Path) -> Result<Option<Self>, IdentityError> {
        let path = dir.join(FILE);
        let Some(content) = secret_file::read(&path)? else { return Ok(None) };
        let malformed = |reason: String| IdentityError::Malformed { path: path.clone(), reason };
        let key = PrivatePkcs8KeyDer::from_pem_slice(&content)
            .map_err(|error| malformed(format!("no private key: {error}")))?;
        let mut certificates = CertificateDer::pem_slice_iter(&content)
            .map(|der| der.map(|der| der.to_vec()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| malformed(format!("bad certificate: {error}")))?;
        let authority = certificates.pop().ok_or_else(|| malformed("no certificates".into()))?;
        Self::new(PrivateKey(key), &certificates, &authority)
            .map(Some)
            .map_err(|error| malformed(error.to_string()))
    }

    /// Writes the identity to `dir`, replacing an older one in one step.
    ///
    /// # Errors
    /// When the directory or file cannot be written.
    pub fn save(&self, dir: &Path) -> Result<(), IdentityError> {
        secret_file::make_dir(dir)?;
        let mut text = pem("PRIVATE KEY", self.key.0.secret_pkcs8_der());
        for certificate in self.chain.iter().chain([&self.authority]) {
            text.push_str(&pem("CERTIFICATE", certificate));
        }
        Ok(secret_file::replace(&dir.join(FILE), text.as_bytes())?)
    }

    /// Who this is.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The authority's certificate, DER.
    #[must_use]
    pub fn authority_der(&self) -> &[u8] {
        &self.authority
    }

    /// The pin of the authority's key: compare it with the join token's after enrolment.
    #[must_use]
    pub fn authority_pin(&self) -> Pin {
        self.authority_pin
    }

    /// When the certificate runs out.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// When it should be renewed: at two thirds of its life.
    #[must_use]
    pub fn renew_at(&self) -> SystemTime {
        let life = self.not_after.duration_since(self.not_before).unwrap_or_default();
        self.not_before + life / 3 * 2
    }

    /// Whether it is time to renew.
    #[must_use]
    pub fn renewal_due(&self, now: SystemTime) -> bool {
        now >= self.renew_at()
    }

    pub(super) fn roots(&self) -> Result<RootCertStore, IdentityError> {
        let mut roots = RootCertStore::empty();
        roots
            .add(self.authority.clone())
            .map_err(|error| IdentityError::Certificate(format!("bad authority: {error}")))?;
        Ok(roots)
    }

    /// The key and chain as rustls presents them; `with_root` appends the authority, for newcomers who know only its
    /// pin.
    pub(super) fn certified_key(&self, with_root: bool) -> Result<CertifiedKey, IdentityError> {
        let mut chain = self.chain.clone();
        if with_root {
            chain.push(self.authority.clone());
        }
        CertifiedKey::from_der(chain, self.key.0.clone_key().into(), &ring::default_provider())
            .map_err(|error| IdentityError::Certificate(error.to_string()))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.id)
    }
}

/// The PEM form of one object.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(64) {
        let _ = writeln!(text, "{}", str::from_utf8(line).expect("base64 is ASCII"));
    }
    let _ = writeln!(text, "-----END {label}-----");
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::identity::Authority;

    fn authority(fleet: &str) -> (tempfile::TempDir, Authority) {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(dir.path(), fleet).unwrap();
        (dir, authority)
    }

    fn identity(authority: &Authority, lifetime: Duration) -> Identity {
        let (key, csr) = new_key_and_csr().unwrap();
        let id = SpiffeId::new(authority.fleet(), &["agent", "fra", "a1"]).unwrap();
        let chain = authority.issue(&csr, &id, lifetime, &[]).unwrap();
        Identity::new(key, &chain, authority.certificate_der()).unwrap()
    }

    #[test]
    fn an_identity_survives_its_directory() {
        let (_keep, authority) = authority("acme");
        let identity = identity(&authority, Duration::from_secs(3600));
        let dir = tempfile::tempdir().unwrap();
        assert!(Identity::load(dir.path()).unwrap().is_none());
        identity.save(dir.path()).unwrap();
        let loaded = Identity::load(dir.path()).unwrap().unwrap();
        assert_eq!(loaded.id().as_str(), "spiffe://acme/agent/fra/a1");
        assert_eq!(loaded.chain, identity.chain);
        assert_eq!(loaded.authority_pin(), authority.pin());
    }

    #[test]
    fn renewal_is_due_at_two_thirds_of_the_life() {
        let (_keep, authority) = authority("acme");
        let identity = identity(&authority, Duration::from_secs(3 * 3600));
        let now = SystemTime::now();
        // Its life began a while before it was issued, for those whose clocks are behind.
        assert!(!identity.renewal_due(now + Duration::from_secs(2 * 3600 - 600)));
        assert!(identity.renewal_due(now + Duration::from_secs(2 * 3600)));
    }

    #[test]
    fn parts_that_do_not_belong_together_are_refused() {
        let (_a, acme) = authority("acme");
        let (_b, other) = authority("acme");
        let (key, csr) = new_key_and_csr().unwrap();
        let (stranger, _) = new_key_and_csr().unwrap();
        let id = SpiffeId::new("acme", &["x"]).unwrap();
        let chain = acme.issue(&csr, &id, Duration::from_secs(60), &[]).unwrap();
        assert!(Identity::new(stranger, &chain, acme.certificate_der()).is_err(), "another key");
        assert!(Identity::new(key.clone(), &chain, other.certificate_der()).is_err(), "another authority");
        assert!(Identity::new(key.clone(), &[], acme.certificate_der()).is_err(), "no chain");
        assert!(Identity::new(key, &chain, acme.certificate_der()).is_ok());
    }
}
