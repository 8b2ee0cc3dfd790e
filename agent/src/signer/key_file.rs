//! The signing key in a file.

use std::path::{Path, PathBuf};

use meridian_runtime::secret_file;
use meridian_trust::keys::{Algorithm, KeyError, SigningKey};

const FILE: &str = "key.pem";

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyFileError {
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] secret_file::SecretFileError),
    /// It holds no key.
    #[error("{path} holds no signing key: {error}", path = path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        error: KeyError,
    },
    /// It is not text.
    #[error("{path} is not text", path = path.display())]
    Text {
        /// Which file.
        path: PathBuf,
    },
}

/// The key in `dir`; made first when there is none.
pub(super) fn open_or_create(dir: &Path) -> Result<SigningKey, KeyFileError> {
    let path = dir.join(FILE);
    let wrong = |error| KeyFileError::Key { path: path.clone(), error };
    let pem = match secret_file::read(&path)? {
        Some(pem) => pem,
        None => {
            let fresh = SigningKey::generate(Algorithm::EcdsaP256).map_err(wrong)?;
            secret_file::create(&path, fresh.to_pkcs8_pem().map_err(wrong)?.as_bytes())?;
            secret_file::read(&path)?.unwrap_or_default()
        }
    };
    let pem = String::from_utf8(pem).map_err(|_| KeyFileError::Text { path: path.clone() })?;
    SigningKey::from_pkcs8_pem(&pem).map_err(wrong)
}
