//! What can be wrong with a token, in words for whoever looks after it.

use std::path::PathBuf;

use cryptoki::error::{Error, RvError};
use meridian_trust::keys::{Algorithm, KeyError, KeyId};

/// Why there is no key on a token, or it did not sign.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum TokenError {
    /// The module cannot be loaded.
    #[error("PKCS#11 module {} cannot be loaded: {why}", path.display())]
    Module {
        /// Which.
        path: PathBuf,
        /// What the loader or the module said.
        why: String,
    },
    /// No token has the label.
    #[error("no token is called {wanted:?}; there are: {found}")]
    NoToken {
        /// The label that was configured.
        wanted: String,
        /// The labels there are.
        found: String,
    },
    /// Several have.
    #[error("{count} tokens are called {wanted:?}: give them labels of their own")]
    ManyTokens {
        /// The label that was configured.
        wanted: String,
        /// How many.
        count: usize,
    },
    /// The PIN is wrong.
    #[error("the PIN of token {0:?} is wrong; it was tried once")]
    PinWrong(String),
    /// The PIN has been wrong so often that the next time would be the last.
    #[error(
        "one more wrong PIN would lock token {0:?}, so it was not tried: log in once with the token's own tool, then \
         start the agent again"
    )]
    PinLastTry(String),
    /// The token locked itself.
    #[error("the PIN of token {0:?} is locked: its security officer must set it anew")]
    PinLocked(String),
    /// Nobody has set a PIN.
    #[error("token {0:?} has no user PIN yet: its security officer must set one")]
    PinUnset(String),
    /// The PIN must be changed before it is of use.
    #[error("the PIN of token {0:?} has expired: set another with the token's own tool")]
    PinExpired(String),
    /// The PIN's file holds none.
    #[error("the PIN is not text")]
    PinText,
    /// Several keys have the label.
    #[error("{count} private keys on the token are called {label:?}: say which with `id` in [signer.pkcs11]")]
    ManyKeys {
        /// The label.
        label: String,
        /// How many.
        count: usize,
    },
    /// The private key is there, the public one is not.
    #[error(
        "the token has a private key called {0:?} and no public key: put the public key there, with the same label"
    )]
    NoPublicKey(String),
    /// What the token says is no public key.
    #[error("the public key {label:?} of the token cannot be used: {error}")]
    PublicKey {
        /// The label.
        label: String,
        /// Why.
        error: KeyError,
    },
    /// The key is of the other algorithm.
    #[error(
        "key {label:?} on the token is an {found} key, and agent.toml wants {wanted}: name another label"
    )]
    Algorithm {
        /// The label.
        label: String,
        /// What was configured.
        wanted: Algorithm,
        /// What it is.
        found: Algorithm,
    },
    /// The token cannot sign so.
    #[error("token {token:?} does not do {algorithm}: take ecdsa-p256, or another token")]
    Unable {
        /// The token.
        token: String,
        /// What was configured.
        algorithm: Algorithm,
    },
    /// After a reset the key is another.
    #[error(
        "the token came back with key {found} instead of {wanted}: start the agent again if that is meant"
    )]
    Exchanged {
        /// The key that was certified.
        wanted: KeyId,
        /// The key that is there now.
        found: KeyId,
    },
    /// A signature that the public key does not verify.
    #[error("the token's signature does not verify under its own public key: the two are not a pair")]
    NoPair,
    /// Anything else that the module says.
    #[error("the token failed: {0}")]
    Token(#[from] Error),
}

impl TokenError {
    /// Whether the session, the login or the token itself was lost, so that logging in again may help.
    pub(super) fn is_lost(&self) -> bool {
        let Self::Token(Error::Pkcs11(code, _)) = self else { return false };
        matches!(
            code,
            RvError::SessionHandleInvalid
                | RvError::SessionClosed
                | RvError::UserNotLoggedIn
                | RvError::KeyHandleInvalid
                | RvError::ObjectHandleInvalid
                | RvError::TokenNotPresent
                | RvError::DeviceRemoved
                | RvError::DeviceError
                | RvError::CryptokiNotInitialized
                | RvError::GeneralError
                | RvError::FunctionFailed
        )
    }
}
