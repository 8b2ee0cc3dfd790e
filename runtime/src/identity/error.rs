//! What can go wrong with identities.

use std::{io, path::PathBuf};

use super::ParseSpiffeIdError;
use crate::secret_file::SecretFileError;

/// Why an identity or an authority could not be made, read or kept.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that holds a private key cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretFileError),
    /// A file exists but does not hold what it should.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The authority in the directory is another fleet's.
    #[error("{} holds the authority of fleet {found:?}, not of {wanted:?}", path.display())]
    OtherFleet {
        /// The file.
        path: PathBuf,
        /// The fleet it was made for.
        found: String,
        /// The fleet that was asked for.
        wanted: String,
    },
    /// A certificate signing request cannot be honoured.
    #[error("certificate request refused: {0}")]
    Request(String),
    /// A certificate is not what an identity needs.
    #[error("certificate refused: {0}")]
    Certificate(String),
    /// A fleet or id breaks the rule for names.
    #[error("{0}")]
    Id(#[from] ParseSpiffeIdError),
    /// The cryptographic library failed; with a healthy system's randomness it does not.
    #[error("cannot make a key or certificate: {0}")]
    Crypto(String),
}
