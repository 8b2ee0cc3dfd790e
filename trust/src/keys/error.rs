//! What can be wrong with keys and signatures.

use std::time::Duration;

use super::{Algorithm, KeyId};
use crate::message::ReadError;

/// Why something is not a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not the one DER form of either algorithm.
    #[error(
        "{len} bytes that are no public key: expected the DER SubjectPublicKeyInfo of an uncompressed P-256 point \
         or of an Ed25519 key, and nothing after it"
    )]
    Encoding {
        /// How many bytes were given.
        len: usize,
    },
    /// The right form, but not a key: off the curve, written in a second way, or of small order.
    #[error("the {0} key is no usable point of its curve")]
    Point(Algorithm),
    /// Not one PEM block `PUBLIC KEY`.
    #[error("expected one PEM block PUBLIC KEY in lines of 64 characters, and nothing around it")]
    Pem,
    /// Not a private key of either algorithm.
    #[error("expected the private key of ECDSA P-256 or Ed25519 as unencrypted PKCS#8")]
    Private,
    /// The operating system gives no random bytes.
    #[error("cannot make a key: no random bytes: {0}")]
    Random(String),
}

/// Why a signature does not count.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// Not the one form of the algorithm.
    #[error(
        "not an {0} signature in its one form (strict DER with the lower S, or 64 bytes): damaged or altered"
    )]
    Encoding(Algorithm),
    /// A signature of the other algorithm.
    #[error("an {found} signature cannot be of the {wanted} key {key}")]
    Algorithm {
        /// The key.
        key: KeyId,
        /// The key's algorithm.
        wanted: Algorithm,
        /// The signature's.
        found: Algorithm,
    },
    /// The key did not sign these bytes.
    #[error("not a signature of key {0} over these bytes")]
    Mismatch(KeyId),
    /// What was signed cannot be read again.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// What should be signed cannot be read, or changed meanwhile.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The token or the key service refused or failed.
    #[error("the key's holder did not sign: {0}")]
    Holder(String),
    /// The token or the key service did not answer in time.
    #[error("the key's holder did not sign within {} ms", within.as_millis())]
    Late {
        /// How long it had.
        within: Duration,
    },
}
