//! The keyrings of a fleet that this machine has seen.
//!
//! A `dist/` carries its keyring along, and whoever hands it out could put an older one in its place, from before a key
//! was revoked. So the latest keyring that the fleet's root signed is kept beside the identity that was got on joining,
//! and `meridian verify` judges by it as well. **A revocation that was seen once is never forgotten**: an earlier keyring
//! stays as long as it revokes what later ones do not, as after a coordinator was restored from a backup.
//!
//! The file holds one keyring a line, the latest first. Not here: how a keyring is checked and what several say together
//! (`meridian-trust`), and a local fleet's, whose whole state is on this machine.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use meridian_core::time::Wall;
use meridian_trust::{
    dsse::Envelope,
    keyring::{Keyring, KeyringError, Root},
    verify::CLOCK_TOLERANCE,
};
use rustix::fs::{FlockOperation, flock};

/// The file below a joined fleet's directory.
const FILE: &str = "keyring.json";

/// Why the kept keyrings cannot be used.
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
    #[error(
        "{path} is damaged: {why}; it holds the keyrings that this machine has seen of the fleet, not those of a dist/. \
         Move it away and run `meridian keyring show`, which fetches the fleet's keyring anew",
        path = path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// The keyrings that are kept in a joined fleet's directory, the latest first; none when none was seen yet.
///
/// # Errors
/// When they cannot be read, or one is not a keyring that `root` signed.
pub fn recall(directory: &Path, root: &Root) -> Result<Vec<Envelope>, SeenError> {
    Ok(recall_opened(directory, root)?.into_iter().map(|(envelope, _)| envelope).collect())
}

fn recall_opened(directory: &Path, root: &Root) -> Result<Vec<(Envelope, Keyring)>, SeenError> {
    let path = directory.join(FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(SeenError::File { path, source }),
    };
    let open = |line: &[u8]| -> Result<_, KeyringError> {
        let envelope = Envelope::parse(line)?;
        let keyring = Keyring::open(&envelope, root)?;
        Ok((envelope, keyring))
    };
    let opened = bytes.split(|byte| *byte == b'\n').map(open).collect::<Result<Vec<_>, _>>();
    opened.map_err(|error| SeenError::Damaged { path, why: error.to_string() })
}

/// Keeps a keyring, if `root` signed it, it is later than those that are kept or revokes more, and does not lie in the
/// future: one that did would pass for the latest for ever. What it makes superfluous goes.
///
/// # Errors
/// When the file cannot be read or written.
pub fn remember(directory: &Path, root: &Root, envelope: &Envelope, now: Wall) -> Result<(), SeenError> {
    let Ok(keyring) = Keyring::open(envelope, root) else { return Ok(()) };
    if keyring.issued().is_some_and(|issued| issued > now.after(CLOCK_TOLERANCE)) {
        return Ok(());
    }
    let file_error = |source| SeenError::File { path: directory.join(FILE), source };
    // Two commands that remember at once would each undo what the other has added.
    let alone = File::open(directory).map_err(file_error)?;
    flock(&alone, FlockOperation::LockExclusive).map_err(|error| file_error(error.into()))?;
    let before = recall_opened(directory, root)?;
    let mut known = before.clone();
    let place = known.iter().position(|(_, kept)| keyring.is_later_than(kept)).unwrap_or(known.len());
    known.insert(place, (envelope.clone(), keyring));
    let kept = needed(known);
    if kept == before {
        return Ok(());
    }
    let lines: Vec<Vec<u8>> = kept.iter().map(|(envelope, _)| envelope.to_json()).collect();
    let partial = directory.join(format!("{FILE}.{}.partial", std::process::id()));
    let written = fs::write(&partial, lines.join(&b'\n'));
    written.and_then(|()| fs::rename(&partial, directory.join(FILE))).map_err(file_error)
}

/// Of keyrings, the latest first, those without which a revocation or the latest would be lost.
fn needed(known: Vec<(Envelope, Keyring)>) -> Vec<(Envelope, Keyring)> {
    let mut kept: Vec<(Envelope, Keyring)> = Vec::new();
    for (envelope, keyring) in known {
        let all = kept.iter().map(|(_, kept)| kept.clone()).reduce(|all, kept| all.and(&kept).unwrap_or(all));
        if all.is_none_or(|all| keyring.revokes_more_than(&all)) {
            kept.push((envelope, keyring));
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use meridian_core::id::{FleetName, JournalIndex};
    use meridian_trust::{
        holder::Holder,
        keyring::{Entry, Grade, KeyUse},
        keys::{Algorithm, Signer as _, SigningKey},
    };

    use super::*;

    fn key() -> SigningKey {
        SigningKey::generate(Algorithm::EcdsaP256).unwrap()
    }

    fn root(key: &SigningKey) -> Root {
        Root::new(key.public().clone(), None).unwrap()
    }

    /// A keyring that revokes these keys since the given moments.
    fn keyring(root: &SigningKey, version: u64, issued: u64, revoked: &[(&SigningKey, u64)]) -> Envelope {
        let entries = revoked.iter().map(|(key, since)| Entry {
            key: key.public().clone(),
            key_use: KeyUse::Artifact,
            holder: Holder::new("spiffe://acme/agent/eu/a").unwrap(),
            grade: Grade::Production,
            not_before: Wall(0),
            not_after: Wall(9_000),
            revoked: Some(Wall(*since)),
        });
        let keyring = Keyring::new(FleetName::new("acme").unwrap(), JournalIndex(version), entries).unwrap();
        keyring.issued_at(Wall(issued)).sign(root).unwrap()
    }

    #[test]
    fn the_latest_is_kept_whatever_its_version_and_whatever_order_they_come_in() {
        let (dir, key) = (tempfile::tempdir().unwrap(), key());
        let root = root(&key);
        assert_eq!(recall(dir.path(), &root).unwrap(), []);
        // A coordinator that was restored from a backup counts from a lower version.
        for (version, issued, expected) in
            [(7, 100, (7, 100)), (9, 50, (7, 100)), (7, 99, (7, 100)), (7, 101, (7, 101)), (3, 200, (3, 200))]
        {
            remember(dir.path(), &root, &keyring(&key, version, issued, &[]), Wall(1_000)).unwrap();
            let kept = recall(dir.path(), &root).unwrap();
            assert_eq!(kept, [keyring(&key, expected.0, expected.1, &[])], "after {version}, {issued}");
        }
    }

    #[test]
    fn a_revocation_that_was_seen_is_kept_until_a_later_keyring_says_as_much() {
        let (dir, key, now) = (tempfile::tempdir().unwrap(), key(), Wall(1_000));
        let [a, b] = [(); 2].map(|()| self::key());
        let root = root(&key);
        let revoking = keyring(&key, 7, 100, &[(&a, 50)]);
        remember(dir.path(), &root, &revoking, now).unwrap();
        // The restored coordinator does not know of it, and revokes another.
        let restored = keyring(&key, 3, 200, &[(&b, 60)]);
        remember(dir.path(), &root, &restored, now).unwrap();
        assert_eq!(recall(dir.path(), &root).unwrap(), [restored.clone(), revoking.clone()]);
        // One that was handed out long ago, and comes last, is as good.
        let early = keyring(&key, 2, 10, &[(&b, 20)]);
        remember(dir.path(), &root, &early, now).unwrap();
        assert_eq!(recall(dir.path(), &root).unwrap(), [restored, revoking, early]);
        let all = keyring(&key, 4, 300, &[(&a, 50), (&b, 20)]);
        remember(dir.path(), &root, &all, now).unwrap();
        assert_eq!(recall(dir.path(), &root).unwrap(), [all]);
    }

    #[test]
    fn what_another_root_signed_or_lies_in_the_future_is_not_kept() {
        let (dir, key, now) = (tempfile::tempdir().unwrap(), key(), Wall(1_000));
        let root = root(&key);
        remember(dir.path(), &root, &keyring(&self::key(), 7, 100, &[]), now).unwrap();
        remember(dir.path(), &root, &keyring(&key, 7, now.after(CLOCK_TOLERANCE).0 + 1, &[]), now).unwrap();
        assert_eq!(recall(dir.path(), &root).unwrap(), []);
        remember(dir.path(), &root, &keyring(&key, 7, now.after(CLOCK_TOLERANCE).0, &[]), now).unwrap();
        assert_eq!(recall(dir.path(), &root).unwrap().len(), 1);
    }

    #[test]
    fn a_damaged_one_is_told_rather_than_passed_over() {
        let (dir, key) = (tempfile::tempdir().unwrap(), key());
        let root = root(&key);
        remember(dir.path(), &root, &keyring(&key, 7, 100, &[]), Wall(1_000)).unwrap();
        let path = dir.path().join(FILE);
        let mut bytes = fs::read(&path).unwrap();
        bytes[30] ^= 1;
        fs::write(&path, bytes).unwrap();
        let told = recall(dir.path(), &root).unwrap_err().to_string();
        let damaged = format!("{} is damaged", path.display());
        assert!(told.starts_with(&damaged) && told.contains("run `meridian keyring show`"), "{told}");
    }
}
