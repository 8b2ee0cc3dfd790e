//! Who a process is: SPIFFE ids, the fleet's authority that vouches for them, and the certificate and key
//! that a process holds.
//!
//! Identities are short-lived X.509 certificates with exactly one URI name. They are never revoked: they
//! run out, and are renewed at two thirds of their life without a restart ([`LiveIdentity`]).
//!
//! Not here: who may do what with an id (that is the coordinator's authorization table), and keys that sign
//! artifacts, which live longer and elsewhere.

mod authority;
mod bundle;
mod certificate;
mod error;
mod live;
mod spiffe;

pub use authority::{Authority, check_request};
pub use bundle::{Identity, PrivateKey, new_key_and_csr};
pub use certificate::{Pin, public_key_spki, spki_pin};
pub use error::IdentityError;
pub use live::LiveIdentity;
pub use spiffe::{ParseSpiffeIdError, SpiffeId};

pub(crate) use certificate::{Facts, peer_id};
