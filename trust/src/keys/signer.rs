//! The seam behind which a key is kept.
//!
//! There are two implementations, [`super::SigningKey`] in memory and the agent's PKCS#11 token. What a third one, for
//! the key service of a cloud, would have to bring:
//!
//! - **A digest is enough.** Such services sign a digest (`ECDSA_SHA_256`, a digest of 32 bytes) and answer with DER:
//!   [`Message::digest`] in, [`Signature::from_p256_der`] out. Their Ed25519 wants the whole message and takes a few
//!   KiB, so it signs statements and no artifacts: take ECDSA P-256 there.
//! - **A deadline of its own.** [`Signer::sign`] is a plain call that returns; nobody outside can end it without ending
//!   the process. An implementation that asks over a network gives up by itself, with [`SignError::Late`], and does so
//!   well within the time that the agent gives its signer for one artifact (two minutes), after which the agent ends
//!   the process. An artifact needs two signatures, one after the other.
//! - **Latency is the build's.** Both signatures are waited for between the compile and the report. A service that
//!   takes 50 ms adds 100 ms to each artifact.
//! - **No retry inside** beyond what the deadline allows: [`SignError::Holder`] and [`SignError::Late`] fail the
//!   attempt as infrastructure, and the coordinator places the task anew. Signing again is safe: the signer writes down
//!   what it is about to sign before it asks, and the same content may be signed any number of times.
//! - **The public key is asked for once**, when the signer starts, and must stay the same while it runs. What is signed
//!   must verify under it; the signer checks that where it proves possession of the key, a holder for each signature.
//! - **The network is the signer's process alone.** The credential for the service is read from a file or a credential
//!   as a token's PIN is, never from the agent.

use super::{SignError, Signature, VerifyingKey};
use crate::message::Message;

/// Whoever can sign with one key: the key itself in memory, a PKCS#11 token, a key service.
///
/// A holder of an ECDSA key needs [`Message::digest`] and nothing else. A holder of an Ed25519 key needs the
/// whole message: a token or service that takes no stream asks for [`Message::to_bytes`] with the limit it
/// has.
pub trait Signer {
    /// The key that its signatures verify under.
    fn public(&self) -> &VerifyingKey;

    /// Signs.
    ///
    /// # Errors
    /// When the message cannot be read or changed meanwhile, or the key's holder refuses.
    fn sign(&self, message: &Message<'_>) -> Result<Signature, SignError>;
}
