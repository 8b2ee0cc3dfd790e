//! The fleets that this user has joined: an identity and an address for each.
//!
//! They lie under the user's state directory, `fleets/NAME`, readable by their owner alone.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use meridian_runtime::identity::{Identity, IdentityError};
use serde::{Deserialize, Serialize};

use crate::{
    state_directory::{self, NamedBy},
    trouble::Trouble,
};

/// A fleet that was joined.
#[derive(Debug)]
pub struct SavedFleet {
    /// Where its coordinator is.
    pub coordinator: String,
    /// Who we are in it.
    pub identity: Identity,
    /// Where the identity lies.
    pub directory: PathBuf,
    /// When it was joined.
    joined: SystemTime,
}

/// What stands in a saved fleet's `fleet.json`.
#[derive(Debug, Serialize, Deserialize)]
struct About {
    coordinator: String,
}

/// Why a saved fleet cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// The identity cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what was written there.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Where.
        why: String,
    },
}

/// Where what is kept of a fleet lies.
#[must_use]
pub fn directory(state: &Path, fleet: &str) -> PathBuf {
    state.join("fleets").join(fleet)
}

/// Keeps an identity, and the address at which it was got.
///
/// # Errors
/// When it cannot be written.
pub fn save(state: &Path, coordinator: &str, identity: &Identity) -> Result<PathBuf, SavedError> {
    let directory = directory(state, identity.id().fleet());
    fs::create_dir_all(&directory).map_err(|source| SavedError::File { path: directory.clone(), source })?;
    identity.save(&directory)?;
    let path = directory.join("fleet.json");
    let partial = directory.join("fleet.json.partial");
    let about = serde_json::json!(About { coordinator: coordinator.to_owned() }).to_string();
    let written = fs::write(&partial, about).and_then(|()| fs::rename(&partial, &path));
    written.map_err(|source| SavedError::File { path, source })?;
    Ok(directory)
}

impl SavedError {
    /// The same for a person who can do something about it.
    #[must_use]
    pub fn trouble(self) -> Trouble {
        match self {
            Self::File { path, source } => state_directory::unusable(&path, &source, NamedBy::Environment),
            error @ Self::Identity(_) => Trouble::broken(error),
            error @ Self::Damaged { .. } => {
                Trouble::broken(error).hint("remove that file, and join the fleet again with a new token")
            }
        }
    }
}

/// Every fleet that was joined, the last one first.
///
/// # Errors
/// When one is there but cannot be read.
pub fn all(state: &Path) -> Result<Vec<SavedFleet>, SavedError> {
    let directory = state.join("fleets");
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(SavedError::File { path: directory, source }),
    };
    let mut fleets = Vec::new();
    for entry in entries.flatten() {
        fleets.extend(read(&entry.path())?);
    }
    fleets.sort_by_key(|fleet| std::cmp::Reverse(fleet.joined));
    Ok(fleets)
}

fn read(directory: &Path) -> Result<Option<SavedFleet>, SavedError> {
    let path = directory.join("fleet.json");
    let file_error = |source| SavedError::File { path: path.clone(), source };
    // Without its address a fleet was never joined to the end.
    let Ok(bytes) = fs::read(&path) else { return Ok(None) };
    let damaged =
        |error: serde_json::Error| SavedError::Damaged { path: path.clone(), why: error.to_string() };
    let about: About = serde_json::from_slice(&bytes).map_err(damaged)?;
    let joined = fs::metadata(&path).and_then(|metadata| metadata.modified()).map_err(file_error)?;
    let Some(identity) = Identity::load(directory)? else { return Ok(None) };
    Ok(Some(SavedFleet { coordinator: about.coordinator, identity, directory: directory.to_owned(), joined }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_whose_file_was_cut_short_is_told_as_damaged_and_how_to_join_again() {
        let state = tempfile::tempdir().unwrap();
        let fleet = directory(state.path(), "acme");
        fs::create_dir_all(&fleet).unwrap();
        fs::write(fleet.join("fleet.json"), "{\"coordina").unwrap();
        let trouble = all(state.path()).unwrap_err().trouble().to_string();
        assert!(
            trouble.contains("fleet.json is damaged") && trouble.contains("join the fleet again"),
            "{trouble}"
        );
    }
}
