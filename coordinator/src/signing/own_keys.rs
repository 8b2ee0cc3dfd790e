//! The coordinator's own signing keys: one for orders, one for acceptances, and the root that certifies all others.
//!
//! They lie beside the authority, whose key the root is: whoever can read that can sign for the whole fleet anyway.

use std::path::Path;

use meridian_runtime::{identity::Authority, secret_file};
use meridian_trust::keys::{Algorithm, SigningKey};

use super::SigningError;

/// The coordinator's own signing keys.
pub(super) struct OwnKeys {
    /// Certifies every other key.
    pub(super) root: SigningKey,
    /// Signs orders.
    pub(super) order: SigningKey,
    /// Signs acceptances.
    pub(super) acceptance: SigningKey,
}

impl OwnKeys {
    /// Opens them below `dir`, and makes those that are missing.
    pub(super) fn open(dir: &Path, authority: &Authority) -> Result<Self, SigningError> {
        let root = SigningKey::from_pkcs8_der(&authority.key_pkcs8())
            .map_err(|error| SigningError::Key("the fleet's authority".to_owned(), error.to_string()))?;
        Ok(Self {
            root,
            order: open_or_create(&dir.join("order.pem"))?,
            acceptance: open_or_create(&dir.join("acceptance.pem"))?,
        })
    }
}

fn open_or_create(path: &Path) -> Result<SigningKey, SigningError> {
    let failed =
        |error: &dyn std::fmt::Display| SigningError::Key(path.display().to_string(), error.to_string());
    if let Some(dir) = path.parent() {
        secret_file::make_dir(dir).map_err(|error| failed(&error))?;
    }
    if secret_file::read(path).map_err(|error| failed(&error))?.is_none() {
        let fresh = SigningKey::generate(Algorithm::EcdsaP256).map_err(|error| failed(&error))?;
        let pem = fresh.to_pkcs8_pem().map_err(|error| failed(&error))?;
        // When another process was faster its key is the one that counts.
        secret_file::create(path, pem.as_bytes()).map_err(|error| failed(&error))?;
    }
    let pem = secret_file::read(path).map_err(|error| failed(&error))?.unwrap_or_default();
    let pem = String::from_utf8(pem).map_err(|error| failed(&error))?;
    SigningKey::from_pkcs8_pem(&pem).map_err(|error| failed(&error))
}
