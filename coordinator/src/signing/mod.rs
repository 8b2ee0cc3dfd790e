//! The coordinator's part in signing: the fleet's keyring, orders to signers, and the time of acceptance.
//!
//! What a key or a result is worth is decided by the machine; here it is put into documents that others can check
//! without us, and what signers send is read and checked.
//!
//! Not here: any signature of an artifact. The coordinator holds no key that could make one.

mod examination;
mod keyring;
mod own_keys;
mod results;
mod source;

pub(crate) use keyring::{Signing, SigningError};
pub(crate) use results::Results;
