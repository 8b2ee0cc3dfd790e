//! The latest keyring of a fleet that this machine has seen.
//!
//! A `dist/` carries its keyring along, and whoever hands it out could put an older one in its place, from before a key
//! was revoked. So the latest keyring that the fleet's root signed is kept beside the identity that was got on joining,
//! and `meridian verify` judges by it wherever it is the later one. **It only ever moves forward.**
//!
//! Not here: how a keyring is checked (`meridian-trust`), and a local fleet's, whose whole state is on this machine.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use meridian_core::time::Wall;
use meridian_trust::{
    dsse::Envelope,
    keyring::{Keyring, Root},
    verify::CLOCK_TOLERANCE,
};

/// The file below a joined fleet's directory.
const FILE: &str = "keyring.json";

/// Why the kept keyring cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SeenError {
    /// The file cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is kept is not what was kept.
    #[error("{path}, the latest keyring that was seen, is damaged: {why}; `meridian keyring show` fetches it anew once it is removed", path = path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// The keyring that is kept in a joined fleet's directory; `None` when none was seen yet.
///
/// # Errors
/// When it cannot be read, or is not a keyring that `root` signed.
pub fn recall(directory: &Path, root: &Root) -> Result<Option<Envelope>, SeenError> {
    let path = directory.join(FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(SeenError::File { path, source }),
    };
    let damaged = |error: &dyn std::fmt::Display| SeenError::Damaged { path, why: error.to_string() };
    let envelope = match Envelope::parse(&bytes) {
        Ok(envelope) => envelope,
        Err(error) => return Err(damaged(&error)),
    };
    match Keyring::open(&envelope, root) {
        Ok(_) => Ok(Some(envelope)),
        Err(error) => Err(damaged(&error)),
    }
}

/// Keeps a keyring, if `root` signed it, it is later than the one that is kept, and does not lie in the future: one
/// that did would hide all real ones.
///
/// # Errors
/// When it cannot be read or written.
pub fn remember(directory: &Path, root: &Root, envelope: &Envelope, now: Wall) -> Result<(), SeenError> {
    let Ok(keyring) = Keyring::open(envelope, root) else { return Ok(()) };
    if keyring.issued().is_some_and(|issued| issued > now.after(CLOCK_TOLERANCE)) {
        return Ok(());
    }
    let kept = recall(directory, root)?.and_then(|kept| Keyring::open(&kept, root).ok());
    if kept.is_some_and(|kept| !keyring.is_later_than(&kept)) {
        return Ok(());
    }
    let path = directory.join(FILE);
    let partial = directory.join(format!("{FILE}.{}.partial", std::process::id()));
    let written = fs::write(&partial, envelope.to_json()).and_then(|()| fs::rename(&partial, &path));
    written.map_err(|source| SeenError::File { path, source })
}

#[cfg(test)]
mod tests {
    use meridian_core::id::{FleetName, JournalIndex};
    use meridian_trust::keys::{Algorithm, Signer as _, SigningKey};

    use super::*;

    fn key() -> SigningKey {
        SigningKey::generate(Algorithm::EcdsaP256).unwrap()
    }

    fn root(key: &SigningKey) -> Root {
        Root::new(key.public().clone(), None).unwrap()
    }

    fn keyring(key: &SigningKey, version: u64, issued: u64) -> Envelope {
        let keyring = Keyring::new(FleetName::new("acme").unwrap(), JournalIndex(version), []).unwrap();
        keyring.issued_at(Wall(issued)).sign(key).unwrap()
    }

    #[test]
    fn what_is_kept_only_moves_forward() {
        let (dir, key) = (tempfile::tempdir().unwrap(), key());
        let root = root(&key);
        assert_eq!(recall(dir.path(), &root).unwrap(), None);
        for (version, issued, expected) in
            [(7, 100, (7, 100)), (6, 200, (7, 100)), (7, 99, (7, 100)), (7, 101, (7, 101)), (9, 50, (9, 50))]
        {
            remember(dir.path(), &root, &keyring(&key, version, issued), Wall(1_000)).unwrap();
            let kept = recall(dir.path(), &root).unwrap().unwrap();
            assert_eq!(kept, keyring(&key, expected.0, expected.1), "after {version}, {issued}");
        }
    }

    #[test]
    fn what_another_root_signed_or_lies_in_the_future_is_not_kept() {
        let (dir, key, now) = (tempfile::tempdir().unwrap(), key(), Wall(1_000));
        let root = root(&key);
        remember(dir.path(), &root, &keyring(&self::key(), 7, 100), now).unwrap();
        remember(dir.path(), &root, &keyring(&key, 7, now.after(CLOCK_TOLERANCE).0 + 1), now).unwrap();
        assert_eq!(recall(dir.path(), &root).unwrap(), None);
        remember(dir.path(), &root, &keyring(&key, 7, now.after(CLOCK_TOLERANCE).0), now).unwrap();
        assert!(recall(dir.path(), &root).unwrap().is_some());
    }

    #[test]
    fn a_damaged_one_is_told_rather_than_passed_over() {
        let (dir, key) = (tempfile::tempdir().unwrap(), key());
        let root = root(&key);
        remember(dir.path(), &root, &keyring(&key, 7, 100), Wall(1_000)).unwrap();
        let path = dir.path().join(FILE);
        let mut bytes = fs::read(&path).unwrap();
        bytes[30] ^= 1;
        fs::write(&path, bytes).unwrap();
        let told = recall(dir.path(), &root).unwrap_err().to_string();
        assert!(told.contains("is damaged") && told.contains("meridian keyring show"), "{told}");
    }
}
