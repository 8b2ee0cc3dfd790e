//! The seam behind which a key is kept.

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
