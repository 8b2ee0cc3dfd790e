//! One `keyring.json` for all the builds that wrote into a directory.
//!
//! A build's acceptances are merged into the file that lies there: the later keyring stays, an earlier one beside it as
//! long as it knows more, and each acceptance of an artifact that is still there with its provenance. What was
//! overwritten or removed goes.

use std::{collections::HashSet, fs, path::Path};

use meridian_core::digest::Digest;
use meridian_trust::{
    acceptance::Acceptance,
    keyring::{ACCEPTANCES_MAX, Keyring, KeyringError, KeyringFile, Root},
    sidecar::{KEYRING_FILE, Sidecar},
};

use crate::given_file;

/// A directory's keyring file.
#[derive(Debug)]
pub struct Gathered {
    /// What it should hold.
    pub file: KeyringFile,
    /// Why what lay there could not be taken over, in a sentence for the user.
    pub replaced: Option<String>,
}

/// A build's keyring file, as it has come from the fleet.
#[derive(Debug)]
pub struct Fresh<'a> {
    file: &'a KeyringFile,
    /// Its keyring, which the root signed.
    pub keyring: Keyring,
}

impl<'a> Fresh<'a> {
    /// Believes a file under the fleet's root.
    ///
    /// # Errors
    /// When the root did not sign its keyring.
    pub fn open(file: &'a KeyringFile, root: &Root) -> Result<Self, KeyringError> {
        Ok(Self { file, keyring: file.open(root)? })
    }
}

/// Too many artifacts in one directory.
#[derive(Debug, thiserror::Error)]
#[error("{0} signed artifacts are too many for one directory; build into another one")]
pub struct TooMany(usize);

/// What `keyring.json` of `directory` has to hold once a build's files are there.
///
/// # Errors
/// When there are too many artifacts.
pub fn gather(directory: &Path, fresh: &Fresh<'_>, root: &Root) -> Result<Gathered, TooMany> {
    let Ok(Some(bytes)) = given_file::read(&directory.join(KEYRING_FILE)) else {
        return Ok(Gathered { file: fresh.file.clone(), replaced: None });
    };
    let opened = KeyringFile::parse(&bytes).and_then(|file| merged(&file, fresh, root));
    let (mut file, all) = match opened {
        Ok(merged) => merged,
        Err(error) => {
            let told = format!(
                "{} was replaced, so what other builds left there does not verify any more: {error}",
                directory.join(KEYRING_FILE).display()
            );
            return Ok(Gathered { file: fresh.file.clone(), replaced: Some(told) });
        }
    };
    let there = provenances(directory);
    file.acceptances.retain(|envelope| {
        let is_there = Acceptance::read(envelope, &all).is_ok_and(|(a, _)| there.contains(&a.provenance));
        is_there && !fresh.file.acceptances.contains(envelope)
    });
    file.acceptances.extend(fresh.file.acceptances.iter().cloned());
    if file.acceptances.len() > ACCEPTANCES_MAX {
        return Err(TooMany(file.acceptances.len()));
    }
    Ok(Gathered { file, replaced: None })
}

/// The file with one keyring more, and what all of its keyrings say together. Of several, those stay that say what no
/// later one does: a coordinator forgets keys long after their time, and what they signed still lies here.
fn merged(
    file: &KeyringFile,
    fresh: &Fresh<'_>,
    root: &Root,
) -> Result<(KeyringFile, Keyring), KeyringError> {
    let mut known = vec![(&fresh.file.keyring, fresh.keyring.clone())];
    for envelope in file.keyrings().filter(|envelope| **envelope != fresh.file.keyring) {
        let keyring = Keyring::open(envelope, root)?;
        let place = known.iter().position(|(_, kept)| keyring.is_later_than(kept)).unwrap_or(known.len());
        known.insert(place, (envelope, keyring));
    }
    let (latest, mut all) = known.remove(0);
    let mut earlier = Vec::new();
    for (envelope, keyring) in known {
        if keyring.knows_more_than(&all) {
            all = all.and(&keyring)?;
            earlier.push(envelope.clone());
        }
    }
    let acceptances = file.acceptances.clone();
    Ok((KeyringFile { keyring: latest.clone(), acceptances, earlier }, all))
}

/// The digests of the provenance files whose artifact is there.
fn provenances(directory: &Path) -> HashSet<Digest> {
    let names = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let of = |name: std::ffi::OsString| {
        let artifact = name.to_str()?.strip_suffix(Sidecar::Provenance.suffix())?.to_owned();
        directory.join(artifact).is_file().then_some(())?;
        Some(Digest::of(&given_file::read(&directory.join(name)).ok()??))
    };
    names.filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use meridian_core::{
        id::{Fence, FleetName, JournalIndex},
        time::Wall,
    };
    use meridian_trust::{
        dsse::Envelope,
        holder::Holder,
        keyring::{Entry, Grade, KeyUse},
        keys::{Algorithm, Signer as _, SigningKey},
    };

    use rustix::fs::{CWD, FileType, Mode};

    use super::*;

    /// A fleet's root, and its key for acceptances.
    struct Fleet {
        root: SigningKey,
        accepter: SigningKey,
    }

    impl Fleet {
        fn new() -> Self {
            let [root, accepter] = [(); 2].map(|()| SigningKey::generate(Algorithm::EcdsaP256).unwrap());
            Self { root, accepter }
        }

        fn root(&self) -> Root {
            Root::new(self.root.public().clone(), None).unwrap()
        }

        fn keyring(&self, version: u64) -> Envelope {
            let entry = Entry {
                key: self.accepter.public().clone(),
                key_use: KeyUse::Acceptance,
                holder: Holder::new("spiffe://acme/coordinator").unwrap(),
                grade: Grade::Production,
                not_before: Wall(0),
                not_after: Wall(9_000),
                revoked: None,
            };
            let fleet = FleetName::new("acme").unwrap();
            Keyring::new(fleet, JournalIndex(version), [entry]).unwrap().sign(&self.root).unwrap()
        }

        /// Puts an artifact and its provenance into a directory, and gives the build's keyring file.
        fn build(&self, directory: &Path, version: u64, name: &str) -> KeyringFile {
            let provenance = format!("the provenance of {name}");
            fs::write(directory.join(name), name).unwrap();
            fs::write(directory.join(Sidecar::Provenance.file_name(name)), &provenance).unwrap();
            let acceptance = Acceptance {
                accepted: Wall(1_000),
                artifact: Digest::of(name.as_bytes()),
                fence: Fence(1),
                fleet: FleetName::new("acme").unwrap(),
                provenance: Digest::of(provenance.as_bytes()),
                task: "acme/web/1/0".parse().unwrap(),
            };
            let acceptances = vec![acceptance.sign(&self.accepter).unwrap()];
            KeyringFile::new(self.keyring(version), acceptances)
        }

        /// Builds, and merges into what lies there.
        fn build_into(&self, directory: &Path, version: u64, name: &str) -> Gathered {
            let (file, root) = (self.build(directory, version, name), self.root());
            let gathered = gather(directory, &Fresh::open(&file, &root).unwrap(), &root).unwrap();
            fs::write(directory.join(KEYRING_FILE), gathered.file.to_json()).unwrap();
            gathered
        }
    }

    #[test]
    fn the_later_keyring_stays_and_each_acceptance_of_what_is_still_there() {
        let (dir, fleet) = (tempfile::tempdir().unwrap(), Fleet::new());
        let directory = dir.path();
        assert_eq!(fleet.build_into(directory, 5, "a").file.acceptances.len(), 1);
        let gathered = fleet.build_into(directory, 7, "b");
        assert_eq!((gathered.file.acceptances.len(), gathered.replaced), (2, None));
        assert_eq!(gathered.file.keyring, fleet.keyring(7));
        // A build that was slow to come home brings an older keyring along.
        let gathered = fleet.build_into(directory, 6, "c");
        assert_eq!((gathered.file.acceptances.len(), &gathered.file.keyring), (3, &fleet.keyring(7)));
        // The same again is there once.
        assert_eq!(fleet.build_into(directory, 8, "b").file.acceptances.len(), 3);
        fs::remove_file(directory.join("a")).unwrap();
        fs::write(directory.join(Sidecar::Provenance.file_name("c")), "another").unwrap();
        let file = fleet.build_into(directory, 9, "b").file;
        assert_eq!(file.acceptances, fleet.build(directory, 9, "b").acceptances);
    }

    #[test]
    fn an_earlier_keyring_stays_as_long_as_it_knows_a_key_that_later_ones_have_forgotten() {
        let (dir, mut fleet) = (tempfile::tempdir().unwrap(), Fleet::new());
        let directory = dir.path();
        fleet.build_into(directory, 5, "old");
        let of_old = fleet.keyring(5);
        // A year later: another key, and a coordinator that has forgotten the first.
        fleet.accepter = SigningKey::generate(Algorithm::EcdsaP256).unwrap();
        for version in [900, 901] {
            let file = fleet.build_into(directory, version, "new").file;
            assert_eq!((&file.keyring, &file.earlier), (&fleet.keyring(version), &vec![of_old.clone()]));
            let all = file.open(&fleet.root()).unwrap();
            assert_eq!(file.acceptances.len(), 2);
            assert!(file.acceptances.iter().all(|envelope| Acceptance::open(envelope, &all).is_ok()));
            assert_eq!(KeyringFile::parse(&file.to_json()).unwrap(), file);
        }
    }

    #[test]
    fn what_another_fleet_left_or_somebody_damaged_is_replaced_and_told() {
        let (dir, fleet, other) = (tempfile::tempdir().unwrap(), Fleet::new(), Fleet::new());
        other.build_into(dir.path(), 99, "theirs");
        for _ in 0..2 {
            let gathered = fleet.build_into(dir.path(), 5, "ours");
            assert_eq!(gathered.file, fleet.build(dir.path(), 5, "ours"));
            assert!(gathered.replaced.is_some_and(|told| told.contains("does not verify any more")));
            fs::write(dir.path().join(KEYRING_FILE), "{}").unwrap();
        }
    }

    #[test]
    fn a_pipe_in_the_place_of_a_file_is_not_waited_for() {
        let (dir, fleet) = (tempfile::tempdir().unwrap(), Fleet::new());
        let pipe = |name: &str| {
            let path = dir.path().join(name);
            rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap();
        };
        let file = fleet.build(dir.path(), 5, "a");
        fs::write(dir.path().join("b"), "").unwrap();
        pipe(&Sidecar::Provenance.file_name("b"));
        fs::write(dir.path().join(KEYRING_FILE), file.to_json()).unwrap();
        let fresh = Fresh::open(&file, &fleet.root()).unwrap();
        assert_eq!(gather(dir.path(), &fresh, &fleet.root()).unwrap().file.acceptances.len(), 1);
        fs::remove_file(dir.path().join(KEYRING_FILE)).unwrap();
        pipe(KEYRING_FILE);
        assert_eq!(gather(dir.path(), &fresh, &fleet.root()).unwrap().file, file);
    }

    #[test]
    fn a_keyring_of_another_root_is_not_taken_from_the_fleet() {
        let (dir, fleet) = (tempfile::tempdir().unwrap(), Fleet::new());
        let file = fleet.build(dir.path(), 5, "a");
        let verdict = Fresh::open(&file, &Fleet::new().root());
        assert!(matches!(verdict, Err(KeyringError::Envelope(_))), "{verdict:?}");
    }
}
