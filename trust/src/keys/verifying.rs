//! Public keys.

use std::fmt;

use p256::ecdsa::signature::hazmat::PrehashVerifier as _;

use super::{
    Algorithm, KeyError, KeyId, Signature, SignatureError, pem,
    signature::{self, Raw},
};
use crate::message::Message;

/// A public key.
#[derive(Clone)]
pub struct VerifyingKey {
    point: Point,
    id: KeyId,
}

#[derive(Clone)]
enum Point {
    EcdsaP256(p256::ecdsa::VerifyingKey),
    Ed25519(ed25519_dalek::VerifyingKey),
}

/// All of a P-256 key's DER before the point: `SEQUENCE { SEQUENCE { id-ecPublicKey, prime256v1 }, BIT STRING
/// }`.
const P256_HEADER: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// All of an Ed25519 key's DER before the key: `SEQUENCE { SEQUENCE { id-Ed25519 }, BIT STRING }`.
const ED25519_HEADER: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// The length of an uncompressed point: a tag and two coordinates.
const P256_POINT_LEN: usize = 65;

impl VerifyingKey {
    /// Reads the DER SubjectPublicKeyInfo.
    ///
    /// DER has one encoding of each value, so all but the point itself is a constant: comparing it refuses
    /// other curves and algorithms, compressed points, long-form lengths and trailing bytes at once.
    ///
    /// # Errors
    /// When the bytes are anything else, or no usable point.
    pub fn from_spki(der: &[u8]) -> Result<Self, KeyError> {
        let encoding = || KeyError::Encoding { len: der.len() };
        if let Some(point) = der.strip_prefix(&P256_HEADER) {
            if point.len() != P256_POINT_LEN || point.first() != Some(&4) {
                return Err(encoding());
            }
            let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(point);
            return key.map(Self::from_p256).map_err(|_| KeyError::Point(Algorithm::EcdsaP256));
        }
        let bytes = der.strip_prefix(&ED25519_HEADER).ok_or_else(encoding)?;
        let bytes = bytes.try_into().map_err(|_| encoding())?;
        let point = |_| KeyError::Point(Algorithm::Ed25519);
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes).map_err(point)?;
        // Dalek decodes y ≥ p and a negative zero as well: a second spelling of the same key.
        let is_canonical = key.to_edwards().compress().as_bytes() == bytes;
        if key.is_weak() || !is_canonical {
            return Err(KeyError::Point(Algorithm::Ed25519));
        }
        Ok(Self::from_ed25519(key))
    }

    /// Reads one PEM block `PUBLIC KEY`, as OpenSSL and cosign write it.
    ///
    /// # Errors
    /// When the text is anything else, or the key in it is refused by [`VerifyingKey::from_spki`].
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        Self::from_spki(&pem::decode(text)?)
    }

    /// Reads a P-256 key from its uncompressed point, as a token gives it.
    ///
    /// # Errors
    /// When the bytes are no such point.
    pub fn from_p256_point(point: &[u8]) -> Result<Self, KeyError> {
        Self::from_spki(&[&P256_HEADER, point].concat())
    }

    /// Reads an Ed25519 key from its 32 bytes, as a token gives it.
    ///
    /// # Errors
    /// When the bytes are no such key.
    pub fn from_ed25519_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        Self::from_spki(&[&ED25519_HEADER, bytes].concat())
    }

    pub(super) fn from_p256(key: p256::ecdsa::VerifyingKey) -> Self {
        Self::named(Point::EcdsaP256(key))
    }

    pub(super) fn from_ed25519(key: ed25519_dalek::VerifyingKey) -> Self {
        Self::named(Point::Ed25519(key))
    }

    fn named(point: Point) -> Self {
        let id = KeyId::of(&spki(&point));
        Self { point, id }
    }

    /// How the key signs.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self.point {
            Point::EcdsaP256(_) => Algorithm::EcdsaP256,
            Point::Ed25519(_) => Algorithm::Ed25519,
        }
    }

    /// The key's name.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The 32 bytes of an Ed25519 key; nothing for another.
    #[must_use]
    pub fn to_ed25519_bytes(&self) -> Option<[u8; 32]> {
        match &self.point {
            Point::Ed25519(key) => Some(key.to_bytes()),
            Point::EcdsaP256(_) => None,
        }
    }

    /// The DER SubjectPublicKeyInfo.
    #[must_use]
    pub fn to_spki(&self) -> Vec<u8> {
        spki(&self.point)
    }

    /// The PEM block `PUBLIC KEY`: the content of `X.pub` and of `fleet.pub`.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem::encode(&self.to_spki())
    }

    /// Checks that this key signed `message`.
    ///
    /// An ECDSA key looks at the message's digest alone; an Ed25519 key reads the message once.
    ///
    /// # Errors
    /// When the signature is another algorithm's or not this key's, or the message cannot be read.
    pub fn verify(&self, message: &Message<'_>, signature: &Signature) -> Result<(), SignatureError> {
        let mismatch = || SignatureError::Mismatch(self.id);
        match (&self.point, signature.raw()) {
            (Point::EcdsaP256(key), Raw::EcdsaP256(signature)) => {
                let digest = message.digest();
                key.verify_prehash(digest.as_bytes(), signature).map_err(|_| mismatch())
            }
            (Point::Ed25519(key), Raw::Ed25519(signature)) => {
                if signature::has_small_order(signature) {
                    return Err(mismatch());
                }
                let mut stream = key.verify_stream(signature).map_err(|_| mismatch())?;
                message.read(&mut |piece| stream.update(piece))?;
                stream.finalize_and_verify().map_err(|_| mismatch())
            }
            _ => Err(SignatureError::Algorithm {
                key: self.id,
                wanted: self.algorithm(),
                found: signature.algorithm(),
            }),
        }
    }
}

fn spki(point: &Point) -> Vec<u8> {
    match point {
        Point::EcdsaP256(key) => [&P256_HEADER[..], key.to_sec1_point(false).as_bytes()].concat(),
        Point::Ed25519(key) => [&ED25519_HEADER[..], key.as_bytes()].concat(),
    }
}

impl PartialEq for VerifyingKey {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for VerifyingKey {}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({} {})", self.algorithm(), self.id)
    }
}
