//! `keyring.json`: what travels with `dist/`.

use serde::{Deserialize, Serialize};

use super::{Keyring, KeyringError, Root};
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
    /// Keyrings of earlier builds of the directory that know what `keyring` does not, such as a key that the coordinator
    /// has forgotten since. Written only where there are some.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<Envelope>,
}

impl KeyringFile {
    /// A file as the coordinator gives it: one keyring, and acceptances under it.
    #[must_use]
    pub fn new(keyring: Envelope, acceptances: Vec<Envelope>) -> Self {
        Self { keyring, acceptances, earlier: Vec::new() }
    }

    /// All keyrings of the file, none of them verified.
    pub fn keyrings(&self) -> impl Iterator<Item = &Envelope> {
        std::iter::once(&self.keyring).chain(&self.earlier)
    }

    /// Everything that the keyrings of the file say together, once it is certain that the root signed each of them.
    ///
    /// # Errors
    /// When the root did not sign one, one is no keyring, or they are of different fleets.
    pub fn open(&self, root: &Root) -> Result<Keyring, KeyringError> {
        let first = Keyring::open(&self.keyring, root)?;
        self.earlier.iter().try_fold(first, |all, envelope| all.and(&Keyring::open(envelope, root)?))
    }

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
