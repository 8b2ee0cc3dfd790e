//! `keyring.json`: what travels with `dist/`.

use serde::{Deserialize, Serialize};

use super::KeyringError;
use crate::{
    document::{self, DocumentError},
    dsse::{ENVELOPE_LEN_MAX, Envelope},
};

/// Most acceptances in a file: one for each artifact of the largest build.
pub const ACCEPTANCES_MAX: usize = 4096;
const FILE_LEN_MAX: usize = 2 * ENVELOPE_LEN_MAX;

/// The signed keyring and the acceptances of a build's artifacts. Nothing in it is verified yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyringFile {
    /// The keyring, under the root.
    pub keyring: Envelope,
    /// The coordinator's word for when it accepted what, in any order.
    pub acceptances: Vec<Envelope>,
}

impl KeyringFile {
    /// Reads a file.
    ///
    /// # Errors
    /// When the bytes are not exactly what [`KeyringFile::to_json`] gives, or there are too many acceptances.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyringError> {
        let file: Self = document::parse(bytes, FILE_LEN_MAX).map_err(KeyringError::File)?;
        if file.acceptances.len() > ACCEPTANCES_MAX {
            let text = format!("more than {ACCEPTANCES_MAX} acceptances");
            return Err(KeyringError::File(DocumentError::Shape(text)));
        }
        Ok(file)
    }

    /// The file's content.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        document::write(self)
    }
}
