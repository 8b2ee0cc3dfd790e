//! One `keyring.json` for all the builds that wrote into a directory.
//!
//! A build's acceptances are merged into the file that lies there: the later keyring stays, and so does each acceptance
//! of an artifact that is still there with its provenance. What was overwritten or removed goes.

use std::{collections::HashSet, fs, path::Path};

use meridian_core::digest::Digest;
use meridian_trust::{
    acceptance::Acceptance,
    keyring::{ACCEPTANCES_MAX, Keyring, KeyringError, KeyringFile, Root},
    sidecar::{KEYRING_FILE, Sidecar},
};

/// A directory's keyring file.
#[derive(Debug)]
pub struct Gathered {
    /// What it should hold.
    pub file: KeyringFile,
    /// Why what lay there could not be taken over, in a sentence for the user.
    pub replaced: Option<String>,
}

/// Why there is no such file.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    /// The build's own keyring is not the fleet's.
    #[error("the coordinator's keyring cannot be used: {0}")]
    Fresh(#[source] KeyringError),
    /// Too many artifacts in one directory.
    #[error("{0} signed artifacts are too many for one directory; build into another one")]
    TooMany(usize),
}

/// What `keyring.json` of `directory` has to hold once a build's files are there. `fresh` has come from the fleet.
///
/// # Errors
/// When the fleet's keyring is not the root's, or there are too many artifacts.
pub fn gather(directory: &Path, fresh: &KeyringFile, root: &Root) -> Result<Gathered, GatherError> {
    let keyring = Keyring::open(&fresh.keyring, root).map_err(GatherError::Fresh)?;
    let Ok(bytes) = fs::read(directory.join(KEYRING_FILE)) else {
        return Ok(Gathered { file: fresh.clone(), replaced: None });
    };
    let opened = KeyringFile::parse(&bytes).and_then(|file| Ok((Keyring::open(&file.keyring, root)?, file)));
    let (earlier, mut file) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let told = format!(
                "{} was replaced, so what other builds left there does not verify any more: {error}",
                directory.join(KEYRING_FILE).display()
            );
            return Ok(Gathered { file: fresh.clone(), replaced: Some(told) });
        }
    };
    let latest = if earlier.is_later_than(&keyring) {
        earlier
    } else {
        file.keyring = fresh.keyring.clone();
        keyring
    };
    let there = provenances(directory);
    file.acceptances.retain(|envelope| {
        let is_there = Acceptance::read(envelope, &latest).is_ok_and(|(a, _)| there.contains(&a.provenance));
        is_there && !fresh.acceptances.contains(envelope)
    });
    file.acceptances.extend(fresh.acceptances.iter().cloned());
    if file.acceptances.len() > ACCEPTANCES_MAX {
        return Err(GatherError::TooMany(file.acceptances.len()));
    }
    Ok(Gathered { file, replaced: None })
}

/// The digests of the provenance files whose artifact is there.
fn provenances(directory: &Path) -> HashSet<Digest> {
    let names = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let of = |name: std::ffi::OsString| {
        let artifact = name.to_str()?.strip_suffix(Sidecar::Provenance.suffix())?.to_owned();
        directory.join(artifact).is_file().then_some(())?;
        Some(Digest::of(&fs::read(directory.join(name)).ok()?))
    };
    names.filter_map(of).collect()
}
