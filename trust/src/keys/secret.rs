//! Private keys in memory.

use std::{cell::Cell, fmt};

use ed25519_dalek::{Digest as _, Sha512, hazmat};
use p256::{
    ecdsa::signature::hazmat::PrehashSigner as _,
    pkcs8::{DecodePrivateKey, EncodePrivateKey, LineEnding, SecretDocument},
};
use zeroize::Zeroizing;

use super::{Algorithm, KeyError, SignError, Signature, Signer, VerifyingKey};
use crate::message::{Message, ReadError};

/// A private key in memory. It is overwritten when it is dropped, and no debug form shows it.
pub struct SigningKey {
    secret: Secret,
    public: VerifyingKey,
}

/// Both overwrite themselves when they are dropped.
enum Secret {
    EcdsaP256(Box<p256::ecdsa::SigningKey>),
    Ed25519(Box<ed25519_dalek::SigningKey>),
}

/// All of an Ed25519 key's PKCS#8 before its seed: `SEQUENCE { 0, SEQUENCE { id-Ed25519 }, OCTET STRING }`.
/// This is version 1 of the format, without the public key: what OpenSSL and Go write, and all that OpenSSL
/// 3.0 reads.
const ED25519_HEADER: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

impl SigningKey {
    /// A new key from the operating system's random bytes.
    ///
    /// # Errors
    /// When the operating system gives none.
    pub fn generate(algorithm: Algorithm) -> Result<Self, KeyError> {
        loop {
            let mut seed = Zeroizing::new([0; 32]);
            getrandom::fill(&mut *seed).map_err(|error| KeyError::Random(error.to_string()))?;
            // One seed in 2³² is not below the order of P-256.
            if let Some(key) = Self::from_seed(algorithm, &seed) {
                return Ok(key);
            }
        }
    }

    /// The key that 32 bytes are: the scalar of P-256, or the seed of Ed25519. `None` for a scalar out of
    /// range.
    pub(crate) fn from_seed(algorithm: Algorithm, seed: &[u8; 32]) -> Option<Self> {
        match algorithm {
            Algorithm::EcdsaP256 => p256::ecdsa::SigningKey::from_slice(seed).ok().map(Self::from_p256),
            Algorithm::Ed25519 => Some(Self::from_ed25519(ed25519_dalek::SigningKey::from_bytes(seed))),
        }
    }

    fn from_p256(key: p256::ecdsa::SigningKey) -> Self {
        let public = VerifyingKey::from_p256(*key.verifying_key());
        Self { secret: Secret::EcdsaP256(Box::new(key)), public }
    }

    fn from_ed25519(key: ed25519_dalek::SigningKey) -> Self {
        let public = VerifyingKey::from_ed25519(key.verifying_key());
        Self { secret: Secret::Ed25519(Box::new(key)), public }
    }

    /// Reads unencrypted PKCS#8 in DER.
    ///
    /// # Errors
    /// When the bytes are no such private key, or the public key in them is not its own.
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, KeyError> {
        if let Some(seed) = der.strip_prefix(&ED25519_HEADER) {
            let seed = Zeroizing::new(<[u8; 32]>::try_from(seed).map_err(|_| KeyError::Private)?);
            return Ok(Self::from_ed25519(ed25519_dalek::SigningKey::from_bytes(&seed)));
        }
        p256::ecdsa::SigningKey::from_pkcs8_der(der).map(Self::from_p256).map_err(|_| KeyError::Private)
    }

    /// Reads one PEM block `PRIVATE KEY` with unencrypted PKCS#8 in it.
    ///
    /// # Errors
    /// When the text is anything else.
    pub fn from_pkcs8_pem(text: &str) -> Result<Self, KeyError> {
        let (label, document) = SecretDocument::from_pem(text).map_err(|_| KeyError::Private)?;
        if label != "PRIVATE KEY" {
            return Err(KeyError::Private);
        }
        Self::from_pkcs8_der(document.as_bytes())
    }

    /// Unencrypted PKCS#8 in DER, as OpenSSL writes it.
    ///
    /// # Errors
    /// Never for a key that was made or read here; the encoder's own errors are passed on.
    pub fn to_pkcs8_der(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        Ok(Zeroizing::new(self.document()?.as_bytes().to_vec()))
    }

    /// One PEM block `PRIVATE KEY` with unencrypted PKCS#8 in it.
    ///
    /// # Errors
    /// As [`SigningKey::to_pkcs8_der`].
    pub fn to_pkcs8_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        self.document()?.to_pem("PRIVATE KEY", LineEnding::LF).map_err(|_| KeyError::Private)
    }

    fn document(&self) -> Result<SecretDocument, KeyError> {
        let document = match &self.secret {
            Secret::EcdsaP256(key) => key.to_pkcs8_der().ok(),
            Secret::Ed25519(key) => {
                // Of the right size from the start: growing would leave a copy of the seed behind.
                let mut der = Zeroizing::new([0; ED25519_HEADER.len() + 32]);
                let (header, seed) = der.split_at_mut(ED25519_HEADER.len());
                header.copy_from_slice(&ED25519_HEADER);
                seed.copy_from_slice(key.as_bytes());
                SecretDocument::try_from(&der[..]).ok()
            }
        };
        document.ok_or(KeyError::Private)
    }
}

impl Signer for SigningKey {
    fn public(&self) -> &VerifyingKey {
        &self.public
    }

    fn sign(&self, message: &Message<'_>) -> Result<Signature, SignError> {
        match &self.secret {
            Secret::EcdsaP256(key) => {
                let signature = key.sign_prehash(message.digest().as_bytes());
                signature.map(Signature::from_p256).map_err(|error| SignError::Holder(error.to_string()))
            }
            Secret::Ed25519(key) => sign_ed25519(key, message),
        }
    }
}

/// Reads the message twice, as RFC 8032 needs it; each pass must find the message's digest, which
/// [`Message::read`] sees to. The module's doc of [`crate::message`] says what a difference would give away.
fn sign_ed25519(key: &ed25519_dalek::SigningKey, message: &Message<'_>) -> Result<Signature, SignError> {
    let failure: Cell<Option<ReadError>> = Cell::new(None);
    let update = |hasher: &mut Sha512| {
        message.read(&mut |piece| hasher.update(piece)).map_err(|error| {
            failure.set(Some(error));
            ed25519_dalek::SignatureError::new()
        })
    };
    let expanded = hazmat::ExpandedSecretKey::from(key.as_bytes());
    let signed = hazmat::raw_sign_byupdate::<Sha512, _>(&expanded, update, &key.verifying_key());
    match (signed, failure.take()) {
        (Ok(signature), _) => Ok(Signature::from_ed25519(signature)),
        (Err(_), Some(error)) => Err(error.into()),
        (Err(error), None) => Err(SignError::Holder(error.to_string())),
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(of {:?})", self.public)
    }
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
