//! The coordinator's part in signing: the fleet's keyring, orders to signers, the time of acceptance, and what an agent's
//! cache may read and write.
//!
//! What a key or a result is worth is decided by the machine; here it is put into documents that others can check
//! without us, and what signers send is read and checked.
//!
//! Not here: any signature of an artifact. The coordinator holds no key that could make one.

mod examination;
mod grants;
mod keyring;
mod own_keys;
mod results;
mod source;

pub(crate) use grants::Grants;
pub(crate) use keyring::{Signing, SigningError};
pub(crate) use results::Results;
