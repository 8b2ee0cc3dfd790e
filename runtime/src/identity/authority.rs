//! The fleet's certificate authority: one root key that signs short-lived identities.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer, pem::PemObject};

use super::{Facts, IdentityError, Pin, SpiffeId, bundle::pem, spiffe::is_fleet_name};
use crate::secret_file;

const FILE: &str = "authority.pem";
const ROOT_LIFE: Duration = Duration::from_secs(3653 * 24 * 3600);
/// How far certificates are dated back, for peers whose clocks run behind: by ten minutes and some more.
const BACK_DATE: Duration = Duration::from_secs(660);
/// How far at least, where they live for less than that: one that is renewed by its age must not be old when it is new.
const BACK_DATE_MIN: Duration = Duration::from_secs(60);
/// Larger than any honest request, in bytes.
const CSR_LEN_MAX: usize = 16 * 1024;

/// A fleet's authority, opened with its private key.
///
/// It is kept in one file, `authority.pem` (key and certificate, mode 0600), so that no crash can leave a key without
/// its certificate. Whoever reads that file can be anybody in the fleet.
pub struct Authority {
    fleet: String,
    certificate: CertificateDer<'static>,
    pin: Pin,
    not_after: SystemTime,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// The file in which the authority of `dir` is kept.
    #[must_use]
    pub fn file_in(dir: &Path) -> PathBuf {
        dir.join(FILE)
    }

    /// Opens the authority of `fleet` in `dir`, making it first when there is none.
    ///
    /// # Errors
    /// When the files cannot be read or written, are damaged, or belong to another fleet.
    pub fn open_or_create(dir: &Path, fleet: &str) -> Result<Self, IdentityError> {
        if let Some(authority) = Self::read(dir)? {
            return authority.of(dir, fleet);
        }
        let content = new_root(fleet)?;
        secret_file::make_dir(dir)?;
        // When another process was faster its authority is the one that counts.
        secret_file::create(&dir.join(FILE), content.as_bytes())?;
        Self::open(dir)?.of(dir, fleet)
    }

    /// Opens an existing authority.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn open(dir: &Path) -> Result<Self, IdentityError> {
        Self::read(dir)?.ok_or_else(|| IdentityError::File {
            path: dir.join(FILE),
            source: std::io::Error::new(std::io::ErrorKind::NotFound, "no authority here"),
        })
    }

    fn of(self, dir: &Path, fleet: &str) -> Result<Self, IdentityError> {
        if self.fleet == fleet {
            return Ok(self);
        }
        Err(IdentityError::OtherFleet { path: dir.join(FILE), found: self.fleet, wanted: fleet.to_owned() })
    }

    fn read(dir: &Path) -> Result<Option<Self>, IdentityError> {
        let path = dir.join(FILE);
        let Some(content) = secret_file::read(&path)? else { return Ok(None) };
        Self::parse(&path, &content).map(Some)
    }

    fn parse(path: &Path, content: &[u8]) -> Result<Self, IdentityError> {
        let malformed = |reason: String| IdentityError::Malformed { path: path.to_owned(), reason };
        let certificate = CertificateDer::from_pem_slice(content)
            .map_err(|error| malformed(format!("no certificate: {error}")))?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(content)
            .map_err(|error| malformed(format!("no private key: {error}")))?;
        let key = KeyPair::try_from(&key).map_err(|error| malformed(format!("bad private key: {error}")))?;
        let facts = Facts::read(&certificate)?;
        let fleet = facts.common_name.ok_or_else(|| malformed("the certificate names no fleet".into()))?;
        if Pin(sha256(&rcgen::PublicKeyData::subject_public_key_info(&key))) != facts.pin {
            return Err(malformed("the key is not the certificate's".into()));
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key)
            .map_err(|error| malformed(format!("not an authority's certificate: {error}")))?;
        Ok(Self { fleet, pin: facts.pin, not_after: facts.not_after, certificate, issuer })
    }

    /// The root's private key, PKCS#8 in DER, for what else the root signs. Whoever gets it can be anybody in the
    /// fleet.
    #[must_use]
    pub fn key_pkcs8(&self) -> Vec<u8> {
        self.issuer.key().serialize_der()
    }

    /// The fleet this authority vouches for.
    #[must_use]
    pub fn fleet(&self) -> &str {
        &self.fleet
    }

    /// The root certificate, DER.
    #[must_use]
    pub fn certificate_der(&self) -> &[u8] {
        &self.certificate
    }

    /// The pin of the root's key, for join tokens.
    #[must_use]
    pub fn pin(&self) -> Pin {
        self.pin
    }

    /// Issues a certificate for the key in `csr_der`, with `id` as its one URI name.
    ///
    /// Only the public key is taken from the request, whose signature proves that the asker holds it; names and uses
    /// in it are ignored. `names` are further DNS names and IP addresses, for servers that
    /// stock clients check by host name. Returns the chain in DER, leaf first, without the root.
    ///
    /// # Errors
    /// When the request is malformed, not signed by its own key, or not for an ECDSA P-256 key; when `id` is of
    /// another fleet; when a name is not a DNS name or address.
    pub fn issue(
        &self,
        csr_der: &[u8],
        id: &SpiffeId,
        lifetime: Duration,
        names: &[String],
    ) -> Result<Vec<Vec<u8>>, IdentityError> {
        if id.fleet() != self.fleet {
            return Err(IdentityError::Request(format!("{id} is not of fleet {:?}", self.fleet)));
        }
        let request = read_request(csr_der)?;
        let now = SystemTime::now();
        let mut params = CertificateParams::new(names)
            .map_err(|error| IdentityError::Request(format!("bad host name: {error}")))?;
        let uri = id.as_str().try_into().map_err(crypto)?;
        params.subject_alt_names.push(SanType::URI(uri));
        params.distinguished_name = DistinguishedName::new();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial()?);
        params.not_before = (now - BACK_DATE.min(lifetime).max(BACK_DATE_MIN)).into();
        params.not_after = now.checked_add(lifetime).map_or(self.not_after, |t| t.min(self.not_after)).into();
        let leaf = params.signed_by(&request.public_key, &self.issuer).map_err(crypto)?;
        Ok(vec![leaf.der().to_vec()])
    }
}

/// Checks a certificate request as [`Authority::issue`] would, so that what it costs to ask is not spent on one
/// that cannot be met.
///
/// # Errors
/// When the request is malformed, not signed by its own key, or not for an ECDSA P-256 key.
pub fn check_request(csr_der: &[u8]) -> Result<(), IdentityError> {
    read_request(csr_der).map(|_| ())
}

fn read_request(csr_der: &[u8]) -> Result<CertificateSigningRequestParams, IdentityError> {
    if csr_der.len() > CSR_LEN_MAX {
        return Err(IdentityError::Request("larger than 16 KiB".into()));
    }
    let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr_der))
        .map_err(|error| IdentityError::Request(error.to_string()))?;
    let raw_key = rcgen::PublicKeyData::der_bytes(&request.public_key);
    if *request.public_key.algorithm() != rcgen::PKCS_ECDSA_P256_SHA256 || raw_key.len() != 65 {
        return Err(IdentityError::Request("only ECDSA P-256 keys are certified".into()));
    }
    Ok(request)
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({}, {})", self.fleet, self.pin)
    }
}

fn new_root(fleet: &str) -> Result<String, IdentityError> {
    if !is_fleet_name(fleet) || fleet.len() > 63 {
        return Err(IdentityError::Request(format!(
            "{fleet:?} is not a fleet's name: 1 to 63 of a-z, 0-9, '.', '_' and '-'"
        )));
    }
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(crypto)?;
    let now = SystemTime::now();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, fleet);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(serial()?);
    params.not_before = (now - BACK_DATE).into();
    params.not_after = (now + ROOT_LIFE).into();
    let root = params.self_signed(&key).map_err(crypto)?;
    Ok(format!("{}{}", pem("CERTIFICATE", root.der()), pem("PRIVATE KEY", key.serialized_der())))
}

fn serial() -> Result<SerialNumber, IdentityError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(crypto)?;
    // A serial number is positive; a leading zero byte would not be its shortest form.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    <sha2::Sha256 as sha2::Digest>::digest(bytes).into()
}

pub(super) fn crypto(error: impl fmt::Display) -> IdentityError {
    IdentityError::Crypto(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::{identity::new_key_and_csr, secret_file::SecretFileError};

    #[test]
    fn an_authority_is_made_once_and_then_opened() {
        let dir = tempfile::tempdir().unwrap();
        let made = Authority::open_or_create(dir.path(), "acme").unwrap();
        let opened = Authority::open_or_create(dir.path(), "acme").unwrap();
        assert_eq!(made.pin(), opened.pin());
        assert_eq!(opened.fleet(), "acme");
        let mode = std::fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no staged file is left behind");
    }

    #[test]
    fn another_fleets_authority_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        Authority::open_or_create(dir.path(), "acme").unwrap();
        let error = Authority::open_or_create(dir.path(), "other").unwrap_err();
        assert!(matches!(error, IdentityError::OtherFleet { .. }), "{error}");
        assert!(Authority::open_or_create(&dir.path().join("x"), "No Fleet").is_err());
    }

    #[test]
    fn an_authority_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        Authority::open_or_create(dir.path(), "acme").unwrap();
        let file = dir.path().join(FILE);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            Authority::open(dir.path()),
            Err(IdentityError::Secret(SecretFileError::Exposed { mode: 0o644, .. }))
        ));
    }

    #[test]
    fn a_damaged_or_missing_authority_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Authority::open(dir.path()), Err(IdentityError::File { .. })));
        secret_file::replace(&dir.path().join(FILE), b"not pem").unwrap();
        assert!(matches!(Authority::open(dir.path()), Err(IdentityError::Malformed { .. })));
    }

    #[test]
    fn a_request_with_any_byte_changed_is_refused_or_for_the_same_key() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(dir.path(), "acme").unwrap();
        let (_, csr) = new_key_and_csr().unwrap();
        let id = SpiffeId::new("acme", &["x"]).unwrap();
        let issue = |csr: &[u8]| authority.issue(csr, &id, Duration::from_secs(60), &[]);
        let honest = Facts::read(&issue(&csr).unwrap()[0]).unwrap();
        for at in 0..csr.len() {
            let mut changed = csr.clone();
            changed[at] ^= 0x15;
            if let Ok(chain) = issue(&changed) {
                let facts = Facts::read(&chain[0]).unwrap();
                assert_eq!(facts.pin, honest.pin, "byte {at}");
                assert_eq!(facts.uris, honest.uris);
                assert!(!facts.is_ca);
            }
            let _ = issue(&csr[..at]);
        }
    }

    #[test]
    fn a_request_must_be_signed_for_this_fleet_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(dir.path(), "acme").unwrap();
        let (_, csr) = new_key_and_csr().unwrap();
        let id = SpiffeId::new("acme", &["x"]).unwrap();
        let hour = Duration::from_secs(3600);
        assert!(authority.issue(&csr, &id, hour, &["h.example".into(), "::1".into()]).is_ok());
        let mut forged = csr.clone();
        let last = forged.len() - 1;
        forged[last] ^= 1;
        assert!(authority.issue(&forged, &id, hour, &[]).is_err());
        assert!(authority.issue(b"junk", &id, hour, &[]).is_err());
        assert!(authority.issue(&csr, &SpiffeId::new("other", &["x"]).unwrap(), hour, &[]).is_err());
        let huge = authority.issue(&csr, &id, Duration::MAX, &[]).unwrap();
        assert_eq!(Facts::read(&huge[0]).unwrap().not_after, authority.not_after);
    }
}
