//! Keys and raw signatures: ECDSA over P-256 by default, Ed25519 by choice.
//!
//! Two algorithms, because every stock verifier takes ECDSA P-256 and some refuse Ed25519 in some forms. Each
//! key and each signature has one spelling here, so that an altered file never counts as untouched: a public
//! key is the one DER form (uncompressed point, nothing after it), an ECDSA signature strict DER with the
//! lower of the two possible `S`, an Ed25519 signature canonical and of no small order. Stock verifiers take
//! more than that; what Meridian writes, all of them take.
//!
//! Where a key is kept is another room's business: a key in memory, a token and a key service all are a
//! [`Signer`].

mod error;
mod pem;
mod secret;
mod signature;
mod signer;
mod verifying;

pub use error::{KeyError, SignError, SignatureError};
pub use meridian_core::keyring::{KeyAlgorithm as Algorithm, KeyId};
pub use secret::SigningKey;
pub use signature::Signature;
pub use signer::Signer;
pub use verifying::VerifyingKey;
