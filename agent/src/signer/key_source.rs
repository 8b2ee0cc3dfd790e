//! From a place of a key to a key that signs: secrets first, while the process may read them, the key later.

use std::path::{Path, PathBuf};

use meridian_trust::keys::{Algorithm, Signer};
use serde::{Deserialize, Serialize};

use super::{
    key_file::{self, KeyFileError, Sealing},
    pkcs11::{TokenError, TokenKey, TokenPlace},
    secret::{SEAL_LEN_MIN, Secret, SecretError},
};

/// Where a key is, and where the secrets that open it are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum KeySetup {
    /// In the signer's directory.
    File {
        /// The operator's secret.
        chosen: Option<PathBuf>,
        /// The agent's own. With neither, the file is not sealed.
        own: Option<PathBuf>,
    },
    /// On a token.
    Token {
        /// Where.
        place: TokenPlace,
        /// Its PIN.
        pin: PathBuf,
    },
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeySourceError {
    /// A secret cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The file.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// A key whose secrets were read, and that is not opened yet.
pub(super) enum KeySource {
    File(Sealing),
    Token { place: TokenPlace, pin: Secret },
}

impl KeySource {
    /// Reads the secrets.
    pub(super) fn read(setup: KeySetup) -> Result<Self, KeySourceError> {
        let seal = |path: &Path| Secret::read(path, SEAL_LEN_MIN);
        Ok(match setup {
            KeySetup::File { chosen: None, own: None } => Self::File(Sealing::Plain),
            KeySetup::File { chosen: None, own: Some(own) } => Self::File(Sealing::Own(seal(&own)?)),
            KeySetup::File { chosen: Some(chosen), own } => {
                let own = own.filter(|own| own.exists()).map(|own| seal(&own)).transpose()?;
                Self::File(Sealing::Chosen { secret: seal(&chosen)?, own })
            }
            KeySetup::Token { place, pin } => Self::Token { place, pin: Secret::read(&pin, 1)? },
        })
    }

    /// Opens the key, and makes it where there is none.
    pub(super) fn open(self, dir: &Path, algorithm: Algorithm) -> Result<Box<dyn Signer>, KeySourceError> {
        Ok(match self {
            Self::File(sealing) => Box::new(key_file::open_or_create(dir, algorithm, &sealing)?),
            Self::Token { place, pin } => Box::new(TokenKey::open(place, &pin, algorithm)?),
        })
    }
}
