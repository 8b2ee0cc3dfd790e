//! The keyrings that the signer has seen, in its own directory.
//!
//! The agent hands a keyring over with each order, and could hand over any that the root ever signed: one of before a
//! revocation, say. So the signer judges by all that it has seen, added up as a verifier does: a revocation that one of
//! them says counts. They are kept as they were signed, and believed anew by every process.
//!
//! Only those stay without which a revocation would be lost: the coordinator forgets keys, and one keyring for each that
//! was forgotten would be more every year.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use meridian_trust::{
    dsse::Envelope,
    keyring::{Keyring, Root},
};

use super::service::SignerError;

const FILE: &str = "keyrings.json";

/// What was seen, and what it says together.
pub(super) struct SeenKeyrings {
    path: PathBuf,
    root: Root,
    seen: Vec<(String, Keyring)>,
}

impl SeenKeyrings {
    /// Reads what was kept in `state`.
    ///
    /// # Errors
    /// When it cannot be read, or is not what the root signed: forgetting it could bring a revoked key back.
    pub(super) fn open(state: &Path, root: Root) -> Result<Self, SignerError> {
        let path = state.join(FILE);
        let damaged = |error: &dyn std::fmt::Display| {
            SignerError::Refused(format!("the keyrings in {} cannot be used: {error}", path.display()))
        };
        let texts: Vec<String> = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| damaged(&error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(damaged(&error)),
        };
        let mut seen = Vec::with_capacity(texts.len());
        for text in texts {
            let keyring = opened(&text, &root).map_err(|error| damaged(&error))?;
            seen.push((text, keyring));
        }
        Ok(Self { path, root, seen })
    }

    /// Adds a keyring to those that were seen, and gives what all say together.
    ///
    /// # Errors
    /// When the root did not sign it, it is another fleet's, or what is new in it cannot be kept.
    pub(super) fn add(&mut self, text: &str) -> Result<Keyring, SignerError> {
        let given = opened(text, &self.root)?;
        let known = self.together(&given)?;
        let mut before = self.seen.iter().map(|(_, seen)| seen);
        if is_revoking(&given) && before.all(|seen| given.revokes_more_than(seen)) {
            let mut kept: Vec<(String, Keyring)> = self.seen.clone();
            kept.retain(|(_, seen)| seen.revokes_more_than(&given));
            kept.push((text.to_owned(), given));
            self.keep(&kept)?;
            self.seen = kept;
        }
        Ok(known)
    }

    fn together(&self, given: &Keyring) -> Result<Keyring, SignerError> {
        let mut known = given.clone();
        for (_, seen) in &self.seen {
            known = known.and(seen).map_err(|error| SignerError::Refused(error.to_string()))?;
        }
        Ok(known)
    }

    fn keep(&self, kept: &[(String, Keyring)]) -> Result<(), SignerError> {
        let failed = |error: &dyn std::fmt::Display| {
            SignerError::Key(format!("the keyring cannot be kept in {}: {error}", self.path.display()))
        };
        let texts: Vec<&str> = kept.iter().map(|(text, _)| text.as_str()).collect();
        let bytes = serde_json::to_vec(&texts).map_err(|error| failed(&error))?;
        let staged = self.path.with_extension("new");
        fs::write(&staged, bytes)
            .and_then(|()| fs::File::open(&staged)?.sync_all())
            .and_then(|()| fs::rename(&staged, &self.path))
            .map_err(|error| failed(&error))
    }
}

fn is_revoking(keyring: &Keyring) -> bool {
    keyring.entries().any(|entry| entry.revoked.is_some())
}

fn opened(text: &str, root: &Root) -> Result<Keyring, SignerError> {
    let refused = |error: &dyn std::fmt::Display| SignerError::Refused(error.to_string());
    let envelope = Envelope::parse(text.as_bytes()).map_err(|error| refused(&error))?;
    Keyring::open(&envelope, root).map_err(|error| refused(&error))
}
