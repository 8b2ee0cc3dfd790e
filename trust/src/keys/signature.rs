//! Raw signatures.

use std::fmt;

use super::{Algorithm, SignatureError};

/// A signature in its one form.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(Raw);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Raw {
    EcdsaP256(p256::ecdsa::Signature),
    Ed25519(ed25519_dalek::Signature),
}

impl Signature {
    /// Reads a signature as Meridian writes it: strict DER of an ECDSA signature with the lower `S`, or the
    /// 64 bytes of an Ed25519 one.
    ///
    /// For each ECDSA signature `(R, S)` there is a second one `(R, n − S)` that anybody can compute and
    /// every verifier takes. Only the lower is taken here, since otherwise an altered file would pass as
    /// untouched.
    ///
    /// # Errors
    /// When the bytes are in any other form.
    pub fn parse(algorithm: Algorithm, bytes: &[u8]) -> Result<Self, SignatureError> {
        let encoding = |_| SignatureError::Encoding(algorithm);
        let signature = match algorithm {
            Algorithm::EcdsaP256 => {
                Self::from_p256(p256::ecdsa::Signature::from_der(bytes).map_err(encoding)?)
            }
            Algorithm::Ed25519 => {
                Self::from_ed25519(ed25519_dalek::Signature::from_slice(bytes).map_err(encoding)?)
            }
        };
        // Whatever the decoder forgave, or had its `S` brought down, is not what came in.
        if signature.to_bytes() == bytes { Ok(signature) } else { Err(SignatureError::Encoding(algorithm)) }
    }

    /// Takes the ECDSA signature of a token (PKCS#11 gives `R` and `S` with 32 bytes each) and brings its `S`
    /// down.
    ///
    /// # Errors
    /// When the bytes are no such pair.
    pub fn from_p256_pair(bytes: &[u8]) -> Result<Self, SignatureError> {
        let pair = p256::ecdsa::Signature::from_slice(bytes);
        pair.map(Self::from_p256).map_err(|_| SignatureError::Encoding(Algorithm::EcdsaP256))
    }

    /// Takes the ECDSA signature of a key service (they give DER) and brings its `S` down.
    ///
    /// # Errors
    /// When the bytes are no DER signature.
    pub fn from_p256_der(bytes: &[u8]) -> Result<Self, SignatureError> {
        let pair = p256::ecdsa::Signature::from_der(bytes);
        pair.map(Self::from_p256).map_err(|_| SignatureError::Encoding(Algorithm::EcdsaP256))
    }

    pub(super) fn from_p256(signature: p256::ecdsa::Signature) -> Self {
        Self(Raw::EcdsaP256(signature.normalize_s()))
    }

    pub(super) fn from_ed25519(signature: ed25519_dalek::Signature) -> Self {
        Self(Raw::Ed25519(signature))
    }

    pub(super) fn raw(&self) -> &Raw {
        &self.0
    }

    /// Whose signature it is.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self.0 {
            Raw::EcdsaP256(_) => Algorithm::EcdsaP256,
            Raw::Ed25519(_) => Algorithm::Ed25519,
        }
    }

    /// DER of an ECDSA signature, or the 64 bytes of an Ed25519 one.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match &self.0 {
            Raw::EcdsaP256(signature) => signature.to_der().as_bytes().to_vec(),
            Raw::Ed25519(signature) => signature.to_bytes().to_vec(),
        }
    }
}

/// Whether the signature's `R` is one of the eight points that make it hold for many messages.
///
/// `verify_strict` has this check, but takes no stream; an `R` that is no point at all never verifies anyway.
pub(super) fn has_small_order(signature: &ed25519_dalek::Signature) -> bool {
    ed25519_dalek::VerifyingKey::from_bytes(signature.r_bytes()).is_ok_and(|point| point.is_weak())
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({})", self.algorithm())
    }
}
