//! A signing key that never leaves a token: PKCS#11, version 2.40 or later.
//!
//! The module is foreign code in the signer's own process, so it is loaded there alone, after the process has become
//! its own user. A key that is not there is made on the token: sensitive, not extractable, for signing only. ECDSA is
//! asked for over the SHA-256 that was computed here (`CKM_ECDSA`), and its pair of numbers becomes DER here; EdDSA
//! (`CKM_EDDSA`) needs the whole message in one piece.
//!
//! A token that was reset or pulled out and put back is logged in to again. **A PIN that may be the last one before the
//! token locks itself is not tried.** What a token signed is verified before it counts.
//!
//! Not here: a way to give a token its PIN, or to make tokens. Each maker has a tool for that.

mod error;
mod key;
mod login;
mod public;

pub(super) use error::TokenError;
pub(super) use key::{TokenKey, TokenPlace};
