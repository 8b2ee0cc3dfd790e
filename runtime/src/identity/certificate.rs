//! What is read out of certificates.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime},
};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::{IdentityError, SpiffeId};

/// The SHA-256 of a certificate's public key (its DER `SubjectPublicKeyInfo`): what a join token carries so
/// that a newcomer knows the fleet's authority when it sees it.
///
/// Its text form is base64url without padding, 43 characters.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin(pub [u8; 32]);

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({self})")
    }
}

impl FromStr for Pin {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes
            .map(Self)
            .ok_or_else(|| IdentityError::Certificate("a pin is 43 characters of base64url".into()))
    }
}

/// The pin of a DER certificate.
///
/// # Errors
/// When `certificate_der` is not a certificate.
pub fn spki_pin(certificate_der: &[u8]) -> Result<Pin, IdentityError> {
    Ok(Facts::read(certificate_der)?.pin)
}

/// What the rest of the crate wants to know of a certificate.
pub(crate) struct Facts {
    pub(crate) pin: Pin,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    pub(crate) is_ca: bool,
    pub(crate) uris: Vec<String>,
    pub(crate) common_name: Option<String>,
}

impl Facts {
    pub(crate) fn read(der: &[u8]) -> Result<Self, IdentityError> {
        let (rest, certificate) = X509Certificate::from_der(der)
            .map_err(|error| IdentityError::Certificate(format!("not X.509: {error}")))?;
        if !rest.is_empty() {
            return Err(IdentityError::Certificate("bytes follow the certificate".into()));
        }
        let names = certificate
            .subject_alternative_name()
            .map_err(|error| IdentityError::Certificate(format!("bad alternative names: {error}")))?;
        let uris = names.iter().flat_map(|names| &names.value.general_names);
        let uris = uris.filter_map(|name| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        });
        Ok(Self {
            pin: Pin(Sha256::digest(certificate.public_key().raw).into()),
            not_before: system_time(certificate.validity().not_before.timestamp()),
            not_after: system_time(certificate.validity().not_after.timestamp()),
            is_ca: certificate.is_ca(),
            uris: uris.collect(),
            common_name: certificate
                .subject()
                .iter_common_name()
                .next()
                .and_then(|name| name.as_str().ok().map(str::to_owned)),
        })
    }
}

/// The public key in a certificate: SubjectPublicKeyInfo, DER.
///
/// # Errors
/// When the bytes are no certificate.
pub fn public_key_spki(der: &[u8]) -> Result<Vec<u8>, IdentityError> {
    let (_, certificate) = X509Certificate::from_der(der)
        .map_err(|error| IdentityError::Certificate(format!("not X.509: {error}")))?;
    Ok(certificate.public_key().raw.to_vec())
}

/// The id that a leaf certificate carries: exactly one URI name, and it must not be an authority's.
pub(crate) fn peer_id(der: &[u8]) -> Result<SpiffeId, IdentityError> {
    let facts = Facts::read(der)?;
    if facts.is_ca {
        return Err(IdentityError::Certificate("an authority's certificate cannot name a peer".into()));
    }
    match facts.uris.as_slice() {
        [uri] => Ok(uri.parse()?),
        uris => {
            Err(IdentityError::Certificate(format!("expected exactly one URI name, found {}", uris.len())))
        }
    }
}

fn system_time(unix_s: i64) -> SystemTime {
    // Dates before 1970 are read as 1970: such a certificate is long expired either way.
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(unix_s).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_survives_its_text_form() {
        let pin = Pin([7; 32]);
        assert_eq!(pin.to_string().len(), 43);
        assert_eq!(pin.to_string().parse::<Pin>().unwrap(), pin);
        assert!("short".parse::<Pin>().is_err());
        assert!("+".repeat(43).parse::<Pin>().is_err());
    }

    #[test]
    fn bytes_that_are_no_certificate_are_refused() {
        assert!(spki_pin(b"").is_err());
        assert!(spki_pin(&[0x30; 64]).is_err());
    }
}
